//! A session as a text that clients carry and cannot write.
//!
//! ```text
//! version u8 = 1 | issued u32, seconds since 1970 | number of written u8
//! | written … | seen … | HMAC-SHA-256 over label, app and all before, its first 16 bytes
//! one entry: dataset u64 | epoch LEB128 | txid LEB128;  integers big-endian;  base64url
//! ```
//!
//! It grants nothing: it can only make a read wait for newer data. It is sealed so that nobody
//! makes an app's reads wait for a position of their own invention, and names no dataset.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use verge_telemetry::TokenRefusal;
use verge_types::{AppName, MAX_SESSION_DATASETS, Position, Remembered, SessionKeys};

const VERSION: u8 = 1;
/// Keeps these seals apart from whatever else the same key may ever seal.
const LABEL: &[u8] = b"verge session token";
const HEAD_BYTES: usize = 1 + 4 + 1;
const MAC_BYTES: usize = 16;
const MAX_ENTRY_BYTES: usize = 8 + 10 + 10;
/// Each dataset once as written and once as read.
const MAX_BYTES: usize = HEAD_BYTES + 2 * MAX_SESSION_DATASETS * MAX_ENTRY_BYTES + MAC_BYTES;
/// Longest token in characters. Real ones have about 45, and 16 more for each further dataset.
pub const MAX_TOKEN: usize = (MAX_BYTES * 4).div_ceil(3);

/// What a token says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Seconds since 1970.
    pub issued: u32,
    pub written: Vec<Remembered>,
    pub seen: Vec<Remembered>,
}

fn seal(key: &[u8; 32], app: &AppName, body: &[u8]) -> Option<Hmac<Sha256>> {
    // HMAC takes keys of any length, so that this never fails.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(LABEL);
    // A name holds no NUL, so that no app's name and body read like another's.
    mac.update(b"\0");
    mac.update(app.as_str().as_bytes());
    mac.update(b"\0");
    mac.update(body);
    Some(mac)
}

/// Makes a token. Lists beyond [`MAX_SESSION_DATASETS`] are cut.
pub fn encode(
    keys: &SessionKeys,
    app: &AppName,
    issued: u32,
    written: &[Remembered],
    seen: &[Remembered],
) -> String {
    let written = &written[..written.len().min(MAX_SESSION_DATASETS)];
    let seen = &seen[..seen.len().min(MAX_SESSION_DATASETS)];
    let mut bytes = Vec::with_capacity(HEAD_BYTES + (written.len() + seen.len()) * 16 + MAC_BYTES);
    bytes.push(VERSION);
    bytes.extend(issued.to_be_bytes());
    bytes.push(written.len() as u8);
    for entry in written.iter().chain(seen) {
        bytes.extend(entry.dataset.to_be_bytes());
        put_number(&mut bytes, entry.position.epoch);
        put_number(&mut bytes, entry.position.txid);
    }
    if let Some(mac) = seal(keys.current(), app, &bytes) {
        let mac = mac.finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
    }
    BASE64URL.encode(bytes)
}

/// Reads a token that was made for this app with one of the keys, not longer ago than sessions
/// last. One that seems to come from the future is believed: clocks differ.
pub fn decode(
    keys: &SessionKeys,
    app: &AppName,
    now: u32,
    text: &[u8],
) -> Result<Token, TokenRefusal> {
    if text.len() > MAX_TOKEN {
        return Err(TokenRefusal::too_long);
    }
    let bytes = BASE64URL.decode(text).map_err(|_| TokenRefusal::malformed)?;
    let Some((body, mac)) = bytes.split_last_chunk::<MAC_BYTES>() else {
        return Err(TokenRefusal::malformed);
    };
    if body.len() < HEAD_BYTES {
        return Err(TokenRefusal::malformed);
    }
    let genuine = keys.all().any(|key| {
        seal(key, app, body).is_some_and(|seal| seal.verify_truncated_left(mac).is_ok())
    });
    if !genuine {
        return Err(TokenRefusal::forged);
    }
    let token = parse(body).ok_or(TokenRefusal::malformed)?;
    if u64::from(now.saturating_sub(token.issued)) > keys.max_age().as_secs() {
        return Err(TokenRefusal::expired);
    }
    Ok(token)
}

/// Reads what was sealed. `None` only for a version that is not ours.
fn parse(body: &[u8]) -> Option<Token> {
    let (head, mut rest) = body.split_first_chunk::<HEAD_BYTES>()?;
    let [version, a, b, c, d, written] = *head;
    if version != VERSION {
        return None;
    }
    let mut token = Token { issued: u32::from_be_bytes([a, b, c, d]), ..Token::default() };
    for _ in 0..written {
        token.written.push(take_entry(&mut rest)?);
    }
    while !rest.is_empty() {
        token.seen.push(take_entry(&mut rest)?);
    }
    let fits = |list: &[Remembered]| list.len() <= MAX_SESSION_DATASETS;
    (fits(&token.written) && fits(&token.seen)).then_some(token)
}

fn take_entry(rest: &mut &[u8]) -> Option<Remembered> {
    let (dataset, more) = rest.split_first_chunk::<8>()?;
    *rest = more;
    let (epoch, txid) = (take_number(rest)?, take_number(rest)?);
    let position = Position::new(epoch, txid);
    Some(Remembered { dataset: u64::from_be_bytes(*dataset), position })
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, more) = rest.split_first()?;
        *rest = more;
        let digit = u64::from(byte & 0x7f);
        number |= digit.checked_shl(shift).filter(|n| n >> shift == digit)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NOW: u32 = 1_800_000_000;

    fn keys(byte: u8) -> SessionKeys {
        SessionKeys::new([byte; 32])
    }

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    fn entry() -> impl Strategy<Value = Remembered> {
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(dataset, epoch, txid)| Remembered {
            dataset,
            position: Position::new(epoch, txid),
        })
    }

    fn read(text: &str) -> Result<Token, TokenRefusal> {
        decode(&keys(1), &app("shop"), NOW, text.as_bytes())
    }

    /// A body that is no session's, under a true seal.
    fn sealed(body: &[u8]) -> String {
        let mac = seal(&[1; 32], &app("shop"), body).unwrap().finalize().into_bytes();
        BASE64URL.encode([body, &mac[..MAC_BYTES]].concat())
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            issued in NOW - 1000..NOW + 1000,
            written in vec(entry(), 0..=MAX_SESSION_DATASETS),
            seen in vec(entry(), 0..=MAX_SESSION_DATASETS),
        ) {
            let text = encode(&keys(1), &app("shop"), issued, &written, &seen);
            prop_assert!(text.len() <= MAX_TOKEN);
            prop_assert_eq!(read(&text), Ok(Token { issued, written, seen }));
        }

        #[test]
        fn random_bytes_are_refused(text in vec(any::<u8>(), 0..2 * MAX_TOKEN)) {
            prop_assert!(decode(&keys(1), &app("shop"), NOW, &text).is_err());
            prop_assert!(read(&BASE64URL.encode(&text)).is_err());
        }

        #[test]
        fn sealed_nonsense_never_panics(mut body in vec(any::<u8>(), 0..300), versioned: bool) {
            if let (true, Some(version)) = (versioned, body.first_mut()) {
                *version = VERSION;
            }
            let _ = read(&sealed(&body));
        }

        #[test]
        fn any_changed_bit_is_refused(written in vec(entry(), 0..3), bit: prop::sample::Index) {
            let text = encode(&keys(1), &app("shop"), NOW, &written, &[]);
            let mut bytes = BASE64URL.decode(&text).unwrap();
            let at = bit.index(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(read(&BASE64URL.encode(bytes)), Err(TokenRefusal::forged));
        }

        #[test]
        fn any_changed_character_is_refused(at: prop::sample::Index, new: u8) {
            let mut text = encode(&keys(1), &app("shop"), NOW, &[], &[]).into_bytes();
            let at = at.index(text.len());
            prop_assume!(text[at] != new);
            text[at] = new;
            prop_assert!(decode(&keys(1), &app("shop"), NOW, &text).is_err());
        }
    }

    #[test]
    fn another_apps_and_another_fleets_tokens_are_refused() {
        let one = [Remembered { dataset: 7, position: Position::new(1, 42) }];
        let text = encode(&keys(1), &app("shop"), NOW, &one, &[]);
        assert!(read(&text).is_ok());
        for (key, name) in [(1, "sho"), (1, "shop2"), (2, "shop")] {
            let refused = decode(&keys(key), &app(name), NOW, text.as_bytes());
            assert_eq!(refused, Err(TokenRefusal::forged), "{key} {name}");
        }
    }

    #[test]
    fn a_previous_key_is_believed() {
        let text = encode(&keys(1), &app("shop"), NOW, &[], &[]);
        let changed = keys(2).with_previous([1; 32]);
        assert!(decode(&changed, &app("shop"), NOW, text.as_bytes()).is_ok());
        let new = encode(&changed, &app("shop"), NOW, &[], &[]);
        assert_eq!(read(&new), Err(TokenRefusal::forged));
    }

    #[test]
    fn tokens_end_with_their_session() {
        let keys = keys(1).with_max_age(Duration::from_secs(60));
        for (issued, good) in [(NOW, true), (NOW - 60, true), (NOW - 61, false), (NOW + 600, true)]
        {
            let text = encode(&keys, &app("shop"), issued, &[], &[]);
            let read = decode(&keys, &app("shop"), NOW, text.as_bytes());
            assert_eq!(read.is_ok(), good, "{issued}: {read:?}");
        }
    }

    #[test]
    fn what_is_off_has_a_reason() {
        let long = "A".repeat(MAX_TOKEN + 1);
        let good = encode(&keys(1), &app("shop"), NOW, &[], &[]);
        for (text, reason) in [
            ("", TokenRefusal::malformed),
            ("AAAA", TokenRefusal::malformed),
            ("not base64!", TokenRefusal::malformed),
            (&format!("{good}="), TokenRefusal::malformed),
            (&long, TokenRefusal::too_long),
            (&sealed(&[2, 0, 0, 0, 0, 0]), TokenRefusal::malformed),
            (&sealed(&[1, 0, 0, 0, 0, 1]), TokenRefusal::malformed),
            (&sealed(&[1, 0, 0, 0, 0, 0]), TokenRefusal::expired),
        ] {
            assert_eq!(read(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_usual_token_is_short() {
        let one = [Remembered { dataset: u64::MAX, position: Position::new(3, 1_000_000) }];
        assert!(encode(&keys(1), &app("shop"), NOW, &one, &[]).len() <= 48);
    }
}
