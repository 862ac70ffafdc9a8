//! A range of addresses, written as `10.0.0.0/8` or as one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin with the same `len` bits. IPv4 and IPv6 never contain one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Net {
    address: IpAddr,
    len: u8,
}

/// The address's bits, at the top end, and how many there are.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl Net {
    /// `None` if `len` is longer than the address. Bits beyond `len` are dropped.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let (value, width) = bits(address);
        if len > width {
            return None;
        }
        let value = value & mask(len);
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((value >> 96) as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(value)),
        };
        Some(Self { address, len })
    }

    pub fn one(address: IpAddr) -> Self {
        let (_, len) = bits(address);
        Self { address, len }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let (own, width) = bits(self.address);
        let (other, other_width) = bits(address);
        width == other_width && (own ^ other) & mask(self.len) == 0
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        if self.len <= other.len {
            self.contains(other.address)
        } else {
            other.contains(self.address)
        }
    }

    /// This IPv4 range as IPv6 addresses behind a prefix of 96 bits.
    pub fn behind(&self, prefix: Ipv6Addr) -> Option<Self> {
        let IpAddr::V4(address) = self.address else { return None };
        let inner = Ipv6Addr::from_bits(prefix.to_bits() | u128::from(address.to_bits()));
        Self::new(IpAddr::V6(inner), 96 + self.len)
    }

    /// The ranges that make up `self` without `hole`, which must lie in it.
    pub fn without(&self, hole: &Self) -> Vec<Self> {
        let (value, _) = bits(hole.address);
        (self.len + 1..=hole.len)
            .filter_map(|len| {
                let sibling = value ^ (1 << (128 - u32::from(len)));
                let address = match hole.address {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((sibling >> 96) as u32)),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(sibling)),
                };
                Self::new(address, len)
            })
            .collect()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl FromStr for Net {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once('/') {
            Some((address, len)) => {
                let address = address.parse().map_err(|_| ())?;
                Self::new(address, len.parse().map_err(|_| ())?).ok_or(())
            }
            None => text.parse().map(Self::one).map_err(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_what_begins_with_them() {
        let net: Net = "10.1.0.0/16".parse().unwrap();
        assert!(net.contains("10.1.255.255".parse().unwrap()));
        assert!(!net.contains("10.2.0.0".parse().unwrap()));
        assert!(!net.contains("::ffff:10.1.0.0".parse().unwrap()));
        let all: Net = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()) && all.overlaps(&net));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "a/8", "1.2.3.4/"] {
            assert!(bad.parse::<Net>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hole_is_left_out_and_nothing_else() {
        let outer: Net = "10.0.0.0/8".parse().unwrap();
        let hole: Net = "10.32.0.0/12".parse().unwrap();
        let rest = outer.without(&hole);
        let covered = |ip: &str| rest.iter().any(|net| net.contains(ip.parse().unwrap()));
        assert!(covered("10.0.0.1") && covered("10.31.255.255") && covered("10.48.0.0"));
        assert!(!covered("10.32.0.0") && !covered("10.47.255.255") && !covered("11.0.0.0"));
    }
}
