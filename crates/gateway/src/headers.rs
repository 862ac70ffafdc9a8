//! What happens to header fields at the rim: which never come in, which are ours to set,
//! and which an app may not send.

use std::net::IpAddr;

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use verge_types::Scheme;

use crate::config::IpPrefix;
use crate::respond::FAULT_HEADER;
use crate::session::{X_VERGE_BOOKMARK, X_VERGE_SESSION};

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// True for a request field that only the platform may set or that ends at this hop.
fn never_comes_in(name: &HeaderName) -> bool {
    let text = name.as_str();
    match text.as_bytes()[0] {
        b'c' => *name == CONNECTION || text.starts_with("cf-"),
        b'f' => text == "forwarded",
        b'k' => *name == KEEP_ALIVE,
        b'p' => text.starts_with("proxy-"),
        b't' => *name == TE || *name == TRANSFER_ENCODING || text == "true-client-ip",
        b'v' => text.starts_with("verge-"),
        b'x' => {
            text.starts_with("x-verge-") || text.starts_with("x-forwarded-") || *name == X_REAL_IP
        }
        _ => false,
    }
}

/// Fields of a request that decide how it is served, found in one pass.
#[derive(Default)]
pub struct Survey {
    pub hosts: usize,
    pub upgrade: bool,
    pub expect: bool,
    pub cookie: bool,
    pub accept: bool,
    pub traceparent: bool,
    /// `x-verge-bookmark` or `x-verge-session`.
    pub bookmark: bool,
    strip: bool,
}

pub fn survey(headers: &HeaderMap) -> Survey {
    let mut found = Survey::default();
    for (name, _) in headers {
        match name.as_str().as_bytes()[0] {
            b'h' if *name == HOST => found.hosts += 1,
            b'u' if *name == UPGRADE => found.upgrade = true,
            b'e' if *name == EXPECT => found.expect = true,
            b'c' if *name == COOKIE => found.cookie = true,
            b'a' if *name == ACCEPT => found.accept = true,
            b't' if *name == TRACEPARENT => found.traceparent = true,
            b'c' | b'f' | b'k' | b'p' | b't' | b'v' | b'x' => {
                found.bookmark |= *name == X_VERGE_BOOKMARK || *name == X_VERGE_SESSION;
                found.strip = found.strip || never_comes_in(name);
            }
            _ => {}
        }
    }
    found
}

/// Removes what must not come in.
pub fn strip(headers: &mut HeaderMap, survey: &Survey) {
    if survey.strip {
        let names: Vec<_> = headers.keys().filter(|name| never_comes_in(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// True if a comma-separated field holds the token.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|given| given.trim().eq_ignore_ascii_case(token))
}

/// The client's address and scheme as a trusted proxy tells them.
///
/// Of `x-forwarded-for` the last address that is not itself a trusted proxy counts: whatever
/// stands left of it was written by the client.
pub fn believed(headers: &HeaderMap, trusted: &[IpPrefix]) -> (Option<IpAddr>, Option<Scheme>) {
    let mut client = None;
    let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
    let hops = values.iter().rev().filter_map(|v| v.to_str().ok()).flat_map(|v| v.rsplit(','));
    for hop in hops {
        let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
        client = Some(ip);
        if !trusted.iter().any(|net| net.contains(ip)) {
            break;
        }
    }
    let scheme = match headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
        Some(b"https") => Some(Scheme::Https),
        Some(b"http") => Some(Scheme::Http),
        _ => None,
    };
    (client, scheme)
}

/// Makes an app's response fit for the wire: framing is ours, hop-by-hop fields too.
///
/// `exact` is the body's length where it is known; hyper writes it then, and an app's own
/// `content-length` could only disagree. Returns false for a length that is none.
pub fn sanitize_response(headers: &mut HeaderMap, exact: Option<u64>) -> bool {
    let mut bad = false;
    let mut lengths = 0;
    for (name, value) in headers.iter() {
        match name.as_str().as_bytes()[0] {
            b'c' if *name == CONTENT_LENGTH => {
                lengths += 1;
                let given = value.to_str().ok().and_then(|text| {
                    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?
                });
                match (given, exact) {
                    (None, _) => return false,
                    (Some(_), Some(_)) => bad = true,
                    (Some(_), None) => {}
                }
            }
            b'c' => bad |= *name == CONNECTION,
            b'k' => bad |= *name == KEEP_ALIVE,
            b'p' => bad |= *name == PROXY_CONNECTION,
            b't' => bad |= *name == TRANSFER_ENCODING || *name == TE,
            b'u' => bad |= *name == UPGRADE,
            b'v' => bad |= *name == FAULT_HEADER,
            b'x' => bad |= *name == X_REQUEST_ID,
            _ => {}
        }
    }
    if bad {
        let hop_by_hop = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, TE, UPGRADE];
        for name in hop_by_hop.into_iter().chain([X_REQUEST_ID, FAULT_HEADER]) {
            headers.remove(name);
        }
        if exact.is_some() {
            headers.remove(CONTENT_LENGTH);
        }
    }
    lengths <= 1
}

/// Fields that no trailer section may carry, either way (RFC 9110, section 6.5.1).
pub fn sanitize_trailers(trailers: &mut HeaderMap) {
    let framing = |name: &HeaderName| {
        [CONTENT_LENGTH, TRANSFER_ENCODING, HOST, CONNECTION, TRAILER, TE, UPGRADE, EXPECT]
            .contains(name)
            || never_comes_in(name)
    };
    let names: Vec<_> = trailers.keys().filter(|name| framing(name)).cloned().collect();
    for name in names {
        trailers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn a_client_cannot_set_what_the_platform_says() {
        let mut headers = map(&[
            ("host", "a"),
            ("verge-session", "x"),
            ("x-verge-a", "x"),
            ("cf-ray", "x"),
            ("cf-connecting-ip", "1.1.1.1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "1.1.1.1"),
            ("connection", "x-forwarded-for"),
            ("cookie", "kept"),
            ("x-custom", "kept"),
        ]);
        let found = survey(&headers);
        strip(&mut headers, &found);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "host", "x-custom"]);
    }

    #[test]
    fn an_app_cannot_frame_its_own_response() {
        let mut headers = map(&[
            ("content-length", "999"),
            ("transfer-encoding", "chunked"),
            ("connection", "upgrade"),
            ("verge-fault", "x"),
            ("x-request-id", "x"),
            ("x-a", "1"),
        ]);
        assert!(sanitize_response(&mut headers, Some(3)));
        assert_eq!(headers.len(), 1);
        assert!(!sanitize_response(&mut map(&[("content-length", "+3")]), None));
        let twice = &[("content-length", "3"), ("content-length", "4")];
        assert!(!sanitize_response(&mut map(twice), None));
    }

    #[test]
    fn of_a_chain_the_last_stranger_is_the_client() {
        let trusted = [IpPrefix { address: "10.0.0.0".parse().unwrap(), bits: 8 }];
        let headers = map(&[
            ("x-forwarded-for", "6.6.6.6, 7.7.7.7, 10.1.1.1"),
            ("x-forwarded-proto", "https"),
        ]);
        let expected = (Some("7.7.7.7".parse().unwrap()), Some(Scheme::Https));
        assert_eq!(believed(&headers, &trusted), expected);
        assert_eq!(believed(&map(&[("x-forwarded-for", "junk")]), &trusted), (None, None));
    }
}
