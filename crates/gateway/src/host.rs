//! What a request may call its host.

use std::borrow::Cow;

/// The longest host with port that is looked at: a DNS name has 253 bytes at most.
const MAX_AUTHORITY: usize = 260;

/// Takes a `Host` value or an `:authority` to the name the resolver is asked for: lower-case,
/// no port, no trailing dot. `None` when it is no host.
pub fn normalize(authority: &[u8]) -> Option<Cow<'_, str>> {
    if authority.len() > MAX_AUTHORITY {
        return None;
    }
    let (host, port) = match authority {
        [b'[', ..] => {
            let end = memchr::memchr(b']', authority)?;
            std::str::from_utf8(&authority[1..end]).ok()?.parse::<std::net::Ipv6Addr>().ok()?;
            authority.split_at(end + 1)
        }
        [b'.' | b':', ..] | [] => return None,
        _ => {
            let legal = |b: &u8| KINDS[usize::from(*b)] != Kind::Other;
            let end = authority.iter().take_while(|b| legal(b)).count();
            let (host, port) = authority.split_at(end);
            (host.strip_suffix(b".").unwrap_or(host), port)
        }
    };
    match port {
        [] => {}
        [b':', digits @ ..] if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => {}
        _ => return None,
    }
    let upper = host.iter().any(|b| KINDS[usize::from(*b)] == Kind::Upper);
    let host = std::str::from_utf8(host).ok()?;
    Some(if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// What a byte is in a host name; looked up, since every request has one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Other,
    Plain,
    Upper,
}

static KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Other; 256];
    let mut byte = 0u8;
    while byte < 128 {
        kinds[byte as usize] = match byte {
            b'A'..=b'Z' => Kind::Upper,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => Kind::Plain,
            _ => Kind::Other,
        };
        byte += 1;
    }
    kinds
};

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
            ("[::A]", "[::a]"),
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
