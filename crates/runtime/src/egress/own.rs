//! The addresses of this machine: whatever listens here is none of an app's business, also
//! where the address is a public one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses of all interfaces at this moment; none if the system does not tell.
pub(super) fn addresses() -> Vec<IpAddr> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the pointer is to a pointer of this frame, which the call fills in.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        tracing::warn!("the machine's own addresses are not known: apps may reach them");
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: `next` is an entry of the list that getifaddrs made and nobody has freed.
        let entry = unsafe { &*next };
        found.extend(address_of(entry.ifa_addr));
        next = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs and is freed once; nothing points into it now.
    unsafe { libc::freeifaddrs(first) };
    found.sort_unstable();
    found.dedup();
    found
}

fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address begins with its family.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in; it may be unaligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6; it may be unaligned.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_one_of_our_own() {
        let own = addresses();
        assert!(own.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{own:?}");
    }
}
