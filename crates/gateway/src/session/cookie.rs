//! A session as cookies.
//!
//! What was *written* lives in cookies of the name `__verge_session_` and eight hex digits of
//! what it says. A new one takes up all that its request brought along, and removes exactly those.
//! So two answers that cross on their way to a browser never undo each other's writes, which one
//! cookie of one name would do: the browser keeps both, and the next request carries both.
//! What was only *read* lives in `__verge_session`, where the last answer wins.

use std::fmt::Write as _;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use verge_types::Remembered;

/// All our cookies begin so; apps do not see them and cannot set them.
pub const PREFIX: &str = "__verge_session";
/// Cookies of one request that are looked at. Browsers gather one for each write that they send
/// at the same time, until the next write's answer takes them all up.
pub const MAX_COOKIES: usize = 64;

/// Our cookies of one request.
#[derive(Debug, Default)]
pub struct Found {
    /// What stands behind [`PREFIX`] in the name, `None` for the one of reads; and the value.
    pub tokens: Vec<(Option<u32>, Vec<u8>)>,
    /// Whether there are more than [`MAX_COOKIES`].
    pub too_many: bool,
}

/// Takes our cookies out of the request, so that neither the app nor a cache's key sees them.
/// `None` if there is none.
pub fn take(headers: &mut HeaderMap) -> Option<Found> {
    let finder = memchr::memmem::Finder::new(PREFIX);
    if !headers.get_all(COOKIE).iter().any(|value| finder.find(value.as_bytes()).is_some()) {
        return None;
    }
    let mut found = Found::default();
    let mut others = Vec::new();
    for pair in headers.get_all(COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';')) {
        let pair = pair.trim_ascii();
        match pair.strip_prefix(PREFIX.as_bytes()) {
            Some(rest) => found.add(rest),
            None if pair.is_empty() => {}
            None => {
                others.extend_from_slice(if others.is_empty() { b"" } else { b"; " });
                others.extend_from_slice(pair);
            }
        }
    }
    headers.remove(COOKIE);
    if !others.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&others)
    {
        headers.insert(COOKIE, value);
    }
    Some(found)
}

impl Found {
    /// `rest` is what stands behind the prefix: `=value` or `_name=value`.
    fn add(&mut self, rest: &[u8]) {
        let Some(equals) = memchr::memchr(b'=', rest) else { return };
        if self.tokens.len() == MAX_COOKIES {
            self.too_many = true;
            return;
        }
        let name = &rest[..equals];
        let id = id(name);
        if id.is_some() || name.is_empty() {
            self.tokens.push((id, rest[equals + 1..].to_vec()));
        }
    }
}

/// `_` and eight lower-case hex digits.
fn id(name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(b"_").filter(|digits| digits.len() == 8)?;
    let plain = digits.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let text = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u32::from_str_radix(text, 16).ok()
}

/// The name of a cookie that says this: equal cookies have equal names, so that answers to
/// parallel requests that learnt the same leave one cookie and not many.
pub fn id_of(written: &[Remembered]) -> u32 {
    let mut sorted: Vec<_> =
        written.iter().map(|w| (w.dataset, w.position.epoch, w.position.txid)).collect();
    sorted.sort_unstable();
    let hash = sorted
        .iter()
        .flat_map(|(dataset, epoch, txid)| [dataset, epoch, txid])
        .flat_map(|number| number.to_be_bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (hash >> 32) as u32 ^ hash as u32
}

/// A `Set-Cookie` value; `id` is `None` for the cookie of reads. An age of 0 removes it.
pub fn set(id: Option<u32>, token: &str, max_age: u64, secure: bool) -> Option<HeaderValue> {
    let mut text = String::with_capacity(PREFIX.len() + token.len() + 72);
    text.push_str(PREFIX);
    // Writing into a String cannot fail.
    if let Some(id) = id {
        let _ = write!(text, "_{id:08x}");
    }
    let _ = write!(text, "={token}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax");
    if secure {
        text.push_str("; Secure");
    }
    HeaderValue::try_from(text).ok()
}

#[cfg(test)]
mod tests {
    use verge_types::Position;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(COOKIE, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn ours_are_taken_and_others_stay() {
        let mut map = headers(&[
            "a=1; __verge_session=r; b=\"x=2\"",
            "__verge_session_0000beef=w;c=3;; d",
            "__verge_session_BEEF0000=no; __verge_sessionx=no; __verge_session",
        ]);
        let found = take(&mut map).unwrap();
        assert_eq!(found.tokens, [(None, b"r".to_vec()), (Some(0xbeef), b"w".to_vec())]);
        assert_eq!(map[COOKIE], "a=1; b=\"x=2\"; c=3; d");
        assert_eq!(map.get_all(COOKIE).iter().count(), 1);
    }

    #[test]
    fn a_request_without_ours_is_not_touched() {
        let mut map = headers(&["a=1;;  b=2", "c=3"]);
        assert!(take(&mut map).is_none());
        assert_eq!(map.get_all(COOKIE).iter().count(), 2);
        let mut map = headers(&["__verge_session=r"]);
        assert!(take(&mut map).is_some_and(|found| found.tokens.len() == 1));
        assert!(map.is_empty());
    }

    #[test]
    fn only_so_many_are_looked_at() {
        let many = "__verge_session_00000001=x; ".repeat(MAX_COOKIES + 1);
        let mut map = HeaderMap::new();
        map.insert(COOKIE, HeaderValue::try_from(many).unwrap());
        let found = take(&mut map).unwrap();
        assert_eq!(found.tokens.len(), MAX_COOKIES);
        assert!(found.too_many);
    }

    #[test]
    fn the_name_tells_the_content_apart_whatever_its_order() {
        let entry = |dataset, txid| Remembered { dataset, position: Position::new(1, txid) };
        let (a, b) = (entry(1, 5), entry(2, 6));
        assert_eq!(id_of(&[a, b]), id_of(&[b, a]));
        assert_ne!(id_of(&[a]), id_of(&[entry(1, 6)]));
        assert_ne!(id_of(&[a, b]), id_of(&[a]));
    }

    #[test]
    fn cookies_have_all_their_attributes() {
        assert_eq!(
            set(Some(0xbeef), "t", 60, true).unwrap(),
            "__verge_session_0000beef=t; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            set(None, "", 0, false).unwrap(),
            "__verge_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        );
    }
}
