//! A session's notes as `Server-Timing` (W3C): `db;desc="replica fra lag=3ms";dur=1.2`.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use verge_types::Timing;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Adds the notes to the app's own, as one more field line.
pub fn add(headers: &mut HeaderMap, timings: &[Timing], more: u32) {
    let mut text = String::new();
    for Timing { name, what, took } in timings {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.extend(name.chars().map(|c| if is_token(c) { c } else { '_' }));
        text.push_str(";desc=\"");
        for c in what.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                ' '..='~' => text.push(c),
                _ => text.push('?'),
            }
        }
        // Writing into a String cannot fail. A float writes as few digits as it has.
        let _ = write!(text, "\";dur={}", took.as_micros() as f64 / 1000.0);
    }
    if more > 0 {
        let _ = write!(text, ", more;desc=\"{more} notes left out\"");
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.append(SERVER_TIMING, value);
    }
}

/// `tchar` of RFC 9110.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn notes_are_written_as_the_standard_has_them() {
        let note = |name: &str, what: &str, micros| Timing {
            name: name.to_owned(),
            what: what.to_owned(),
            took: Duration::from_micros(micros),
        };
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_TIMING, HeaderValue::from_static("app;dur=5"));
        let notes = [note("db", "replica fra lag=3ms", 1200), note("a/b", "\"\\é\n", 3_000)];
        add(&mut headers, &notes, 2);
        let all: Vec<_> = headers.get_all(SERVER_TIMING).iter().collect();
        let ours = concat!(
            "db;desc=\"replica fra lag=3ms\";dur=1.2, ",
            "a_b;desc=\"\\\"\\\\??\";dur=3, ",
            "more;desc=\"2 notes left out\""
        );
        assert_eq!(all, ["app;dur=5", ours]);
    }
}
