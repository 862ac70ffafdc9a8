//! Which addresses are on the public internet: a table, and nothing but a table.
//!
//! After IANA's special-purpose registries, and stricter: what is only in some network of its
//! own reachable, deprecated or unassigned is refused, also where the registry says "global".

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use super::net::Net;

/// What an address is, where it is not public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    ThisNetwork,
    Loopback,
    Private,
    Shared,
    LinkLocal,
    Metadata,
    Multicast,
    Documentation,
    /// Names an IPv4 address or a relay in a way that no host needs today.
    Transition,
    Reserved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Public,
    Refused(Kind),
}

/// The first row that contains an address tells its kind.
const SPECIAL: &[(&str, Kind)] = &[
    ("0.0.0.0/8", Kind::ThisNetwork),
    ("10.0.0.0/8", Kind::Private),
    ("100.64.0.0/10", Kind::Shared),
    ("127.0.0.0/8", Kind::Loopback),
    // What hands out credentials to machines of the large clouds; the last one, of Azure, is
    // in public space.
    ("169.254.169.254/32", Kind::Metadata),
    ("192.0.0.192/32", Kind::Metadata),
    ("168.63.129.16/32", Kind::Metadata),
    ("169.254.0.0/16", Kind::LinkLocal),
    ("172.16.0.0/12", Kind::Private),
    ("192.0.0.0/24", Kind::Reserved),
    ("192.0.2.0/24", Kind::Documentation),
    ("192.88.99.0/24", Kind::Transition),
    ("192.168.0.0/16", Kind::Private),
    ("198.18.0.0/15", Kind::Reserved),
    ("198.51.100.0/24", Kind::Documentation),
    ("203.0.113.0/24", Kind::Documentation),
    ("224.0.0.0/4", Kind::Multicast),
    ("240.0.0.0/4", Kind::Reserved),
    ("::/128", Kind::ThisNetwork),
    ("::1/128", Kind::Loopback),
    // IPv4-compatible addresses, long deprecated.
    ("::/96", Kind::Transition),
    // NAT64 inside one network, to whatever that network thinks fit.
    ("64:ff9b:1::/48", Kind::Transition),
    // Protocol assignments: Teredo, benchmarking, ORCHID and more.
    ("2001::/23", Kind::Transition),
    ("2001:db8::/32", Kind::Documentation),
    // 6to4.
    ("2002::/16", Kind::Transition),
    ("3fff::/20", Kind::Documentation),
    ("fd00:ec2::254/128", Kind::Metadata),
    ("fd20:ce::254/128", Kind::Metadata),
    ("fc00::/7", Kind::Private),
    ("fe80::/10", Kind::LinkLocal),
    ("fec0::/10", Kind::Private),
    ("ff00::/8", Kind::Multicast),
];

/// All of IPv6 that is given out to hosts.
const GLOBAL_UNICAST: &str = "2000::/3";
/// NAT64: the last 32 bits are the IPv4 address that is reached.
const NAT64: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0);

static ROWS: LazyLock<Vec<(Net, Kind)>> = LazyLock::new(|| {
    SPECIAL.iter().filter_map(|(net, kind)| Some((net.parse().ok()?, *kind))).collect()
});

fn look_up(address: IpAddr) -> Option<Kind> {
    ROWS.iter().find(|(net, _)| net.contains(address)).map(|(_, kind)| *kind)
}

/// The IPv4 address that is reached through this IPv6 address, if there is one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let behind_nat64 = address.segments()[..6] == NAT64.segments()[..6];
    let last = || Ipv4Addr::from_bits((address.to_bits() & 0xffff_ffff) as u32);
    address.to_ipv4_mapped().or_else(|| behind_nat64.then(last))
}

/// Whether an address is public.
pub(crate) fn judge(address: IpAddr) -> Verdict {
    let address = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
    };
    let unassigned = || match address {
        IpAddr::V6(v6) => (v6.segments()[0] & 0xe000 != 0x2000).then_some(Kind::Reserved),
        IpAddr::V4(_) => None,
    };
    look_up(address).or_else(unassigned).map_or(Verdict::Public, Verdict::Refused)
}

/// The same as ranges, each with its kind: for whoever only takes a list. IPv4-mapped
/// addresses are not in it; they have to be unwrapped first.
pub(crate) fn refused_ranges() -> Vec<(Net, Kind)> {
    let mut ranges = ROWS.clone();
    let behind_nat64 = ROWS.iter().filter_map(|(net, kind)| Some((net.behind(NAT64)?, *kind)));
    ranges.extend(behind_nat64);
    let all = Net::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let low = Net::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 3);
    let nat64 = Net::new(IpAddr::V6(NAT64), 96);
    if let (Some(all), Some(low), Some(nat64), Ok(global)) =
        (all, low, nat64, GLOBAL_UNICAST.parse::<Net>())
    {
        let unassigned = all.without(&global).into_iter().filter(|net| *net != low);
        ranges.extend(unassigned.chain(low.without(&nat64)).map(|net| (net, Kind::Reserved)));
    }
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> bool {
        judge(text.parse().unwrap()) != Verdict::Public
    }

    #[test]
    fn every_row_of_the_table_is_read() {
        assert_eq!(ROWS.len(), SPECIAL.len());
    }

    #[test]
    fn what_is_inside_is_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "64:ff9b:0:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:7f00:1::",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:808:808::1",
            "3fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fd00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ffff::1",
        ] {
            assert!(refused(address), "{address}");
        }
    }

    #[test]
    fn what_is_outside_is_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "192.169.0.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.17",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2000::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700::1111",
            "3ffe::1",
        ] {
            assert!(!refused(address), "{address}");
        }
    }

    proptest! {
        #[test]
        fn an_embedded_address_is_judged_as_itself(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let verdict = judge(IpAddr::V4(v4));
            prop_assert_eq!(judge(IpAddr::V6(v4.to_ipv6_mapped())), verdict);
            let nat64 = Ipv6Addr::from_bits(NAT64.to_bits() | u128::from(bits));
            prop_assert_eq!(judge(IpAddr::V6(nat64)), verdict);
        }

        #[test]
        fn tunnels_are_refused_whatever_they_carry(bits: u32, rest: u64) {
            for address in [
                0x2002_u128 << 112 | u128::from(bits) << 80 | u128::from(rest),
                0x2001_0000_u128 << 96 | u128::from(bits) << 64 | u128::from(rest),
                u128::from(bits),
                0xffff_0000_u128 << 32 | u128::from(bits),
            ] {
                let address = IpAddr::V6(Ipv6Addr::from_bits(address));
                let mapped = matches!(address, IpAddr::V6(a) if a.to_ipv4_mapped().is_some());
                prop_assert!(mapped || judge(address) != Verdict::Public, "{}", address);
            }
        }

        #[test]
        fn what_the_standard_library_calls_special_is_refused(bits: u32, wide: u128) {
            let v4 = Ipv4Addr::from_bits(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local()
                || v4.is_multicast() || v4.is_broadcast() || v4.is_documentation()
                || v4.is_unspecified();
            prop_assert!(!special || judge(IpAddr::V4(v4)) != Verdict::Public);
            let v6 = Ipv6Addr::from_bits(wide);
            let special = v6.is_loopback() || v6.is_multicast() || v6.is_unspecified()
                || v6.is_unique_local() || v6.is_unicast_link_local();
            prop_assert!(!special || judge(IpAddr::V6(v6)) != Verdict::Public);
        }

        #[test]
        fn the_list_agrees_with_the_judge(
            bits: u32, wide: u128, row in 0..SPECIAL.len(), low: u64, flip in 0_u32..128,
        ) {
            let ranges = refused_ranges();
            // Near each row's edges, where mistakes are, and anywhere.
            let near = match bits_of(ROWS[row].0.to_string().split_once('/').unwrap().0) {
                (value, true) => IpAddr::V4(Ipv4Addr::from_bits(
                    (value as u32 | (low as u32 & 0xff)) ^ (1 << (flip % 32)))),
                (value, false) => IpAddr::V6(Ipv6Addr::from_bits(
                    (value | u128::from(low)) ^ (1 << flip))),
            };
            for address in [
                IpAddr::V4(Ipv4Addr::from_bits(bits)),
                IpAddr::V6(Ipv6Addr::from_bits(wide)),
                IpAddr::V6(Ipv6Addr::from_bits(NAT64.to_bits() | u128::from(bits))),
                near,
            ] {
                let address = address.to_canonical();
                let listed = ranges.iter().any(|(net, _)| net.contains(address));
                prop_assert_eq!(listed, judge(address) != Verdict::Public, "{}", address);
            }
        }
    }

    fn bits_of(text: &str) -> (u128, bool) {
        match text.parse().unwrap() {
            IpAddr::V4(address) => (u128::from(address.to_bits()), true),
            IpAddr::V6(address) => (address.to_bits(), false),
        }
    }
}
