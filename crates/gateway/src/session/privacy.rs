//! No shared cache may keep one client's token and hand it to the next.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Makes a response private unless it is already; `no-store` stays as it is.
///
/// What targets shared caches alone (`CDN-Cache-Control` and its kin, RFC 9213) would overrule
/// `Cache-Control` there and is removed.
pub fn make_private(headers: &mut HeaderMap) {
    let mut kept = Vec::new();
    let (mut forbidden, mut shared) = (false, false);
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in directives(value.as_bytes()) {
            let name = directive.split('=').next().unwrap_or_default().trim();
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            if is("public") || is("s-maxage") || is("private") {
                // `private="field"` speaks of one field only.
                let whole = is("private") && name.len() == directive.len();
                forbidden |= whole;
                shared |= !whole;
            } else {
                forbidden |= is("no-store");
                kept.push(directive);
            }
        }
    }
    if !forbidden || shared {
        kept.insert(0, "private".to_owned());
        let value = HeaderValue::try_from(kept.join(", "));
        let fallback = HeaderValue::from_static("private, no-store");
        headers.insert(CACHE_CONTROL, value.unwrap_or(fallback));
    }
    let targeted = |name: &HeaderName| {
        name.as_str().ends_with("cdn-cache-control") || name.as_str() == "surrogate-control"
    };
    let names: Vec<_> = headers.keys().filter(|name| targeted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// The directives of one field line; commas in quotes do not part them.
fn directives(value: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let (mut quoted, mut escaped, mut start) = (false, false, 0);
    let mut push = |part: &[u8]| {
        let part = String::from_utf8_lossy(part).trim().to_owned();
        if !part.is_empty() {
            found.push(part);
        }
    };
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                push(&value[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    push(&value[start..]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_become_private() {
        for (given, expected) in [
            (&[][..], "private"),
            (&["public, max-age=60"], "private, max-age=60"),
            (&["S-MaxAge=60, max-age=5"], "private, max-age=5"),
            (&["max-age=60"], "private, max-age=60"),
            (&["no-cache"], "private, no-cache"),
            (&["private, max-age=60"], "private, max-age=60"),
            (&["no-store"], "no-store"),
            (&["max-age=1", "Private"], "max-age=1"),
            (&["private=\"a, b\", max-age=1"], "private, max-age=1"),
            (&["private, public"], "private"),
            (&["no-store, s-maxage=5"], "private, no-store"),
            (&["x=\"a, public\""], "private, x=\"a, public\""),
        ] {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            make_private(&mut headers);
            assert_eq!(headers[CACHE_CONTROL], expected, "{given:?}");
        }
    }

    #[test]
    fn fields_for_shared_caches_alone_go() {
        let mut headers = HeaderMap::new();
        for name in ["cdn-cache-control", "cloudflare-cdn-cache-control", "surrogate-control"] {
            headers.insert(name, HeaderValue::from_static("max-age=60"));
        }
        headers.insert("etag", HeaderValue::from_static("\"x\""));
        make_private(&mut headers);
        assert_eq!(headers.len(), 2);
    }
}
