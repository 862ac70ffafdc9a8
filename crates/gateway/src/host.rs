//! What a request may call its host.

use std::borrow::Cow;

/// The longest host with port that is looked at: a DNS name has 253 bytes at most.
const MAX_AUTHORITY: usize = 260;

/// Takes a `Host` value or an `:authority` to the name the resolver is asked for: lower-case,
/// no port, no trailing dot. `None` when it is no host.
pub fn normalize(authority: &[u8]) -> Option<Cow<'_, str>> {
    if authority.is_empty() || authority.len() > MAX_AUTHORITY {
        return None;
    }
    let (host, port) = split_port(authority)?;
    if !port.iter().all(u8::is_ascii_digit) || port.len() > 5 {
        return None;
    }
    let host = if host.first() == Some(&b'[') {
        let inner = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
        std::str::from_utf8(inner).ok()?.parse::<std::net::Ipv6Addr>().ok()?;
        host
    } else {
        let host = host.strip_suffix(b".").unwrap_or(host);
        let legal = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if host.is_empty() || !host.iter().all(legal) || host[0] == b'.' {
            return None;
        }
        host
    };
    let host = std::str::from_utf8(host).ok()?;
    Some(if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// Host and port; no colon is an empty port.
fn split_port(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let from = match authority {
        [b'[', ..] => memchr::memchr(b']', authority)? + 1,
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    match authority.get(from) {
        None => Some((authority, b"")),
        Some(b':') => Some((&authority[..from], &authority[from + 1..])),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalized_or_refused() {
        for (given, expected) in [
            ("shop.test", "shop.test"),
            ("Shop.TEST:8080", "shop.test"),
            ("shop.test.", "shop.test"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("a_b", "a_b"),
            ("a:", "a"),
        ] {
            assert_eq!(normalize(given.as_bytes()).as_deref(), Some(expected));
        }
        for bad in [
            "", ".", "..", ".a", ":80", "a:b", "a:80:80", "a b", "a/b", "a@b", "[::1", "[::1]x",
            "[x]", "a\t", "ä", "a,b", "a:123456", "a%00",
        ] {
            assert_eq!(normalize(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(normalize(&[b'a'; 300]), None);
    }
}
