//! Batons: what ties the HTTP requests of a stream together.
//!
//! A baton names the stream, the number of the request it is good for and when it ends, under
//! an HMAC that also covers the database's name. Nobody can make one, use one twice, or use
//! one with another database. Pure: time is an argument.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::Mac as _;

use crate::tokens::keyed;
use crate::{Error, codes};

const CONTEXT: &[u8] = b"verge hrana baton 1";
const FIELDS: usize = 24;
/// Half of SHA-256, as RFC 2104 allows.
const TAG: usize = 16;

/// What a baton says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baton {
    pub stream: u64,
    /// Rises by one with each request of the stream.
    pub sequence: u64,
    /// Milliseconds since the Unix epoch.
    pub expires: u64,
}

/// Signs and checks the batons of one database with the node's key.
pub struct Batons {
    key: [u8; 32],
    database: String,
}

impl Batons {
    pub fn new(key: [u8; 32], database: impl Into<String>) -> Self {
        Self { key, database: database.into() }
    }

    pub fn sign(&self, baton: Baton) -> String {
        let fields = Self::fields(baton);
        let tag = self.mac(&fields).finalize().into_bytes();
        let mut bytes = [0; FIELDS + TAG];
        bytes[..FIELDS].copy_from_slice(&fields);
        bytes[FIELDS..].copy_from_slice(&tag[..TAG]);
        BASE64.encode(bytes)
    }

    /// `now` in milliseconds since the Unix epoch.
    pub fn verify(&self, text: &str, now: u64) -> Result<Baton, Error> {
        let forged =
            || Error::caller(codes::BATON_INVALID, "the baton is not one of this database");
        let mut bytes = [0; FIELDS + TAG];
        if BASE64.decode_slice(text, &mut bytes) != Ok(FIELDS + TAG) {
            return Err(forged());
        }
        let (fields, tag) = bytes.split_at(FIELDS);
        self.mac(fields).verify_truncated_left(tag).map_err(|_| forged())?;
        let field = |at: usize| {
            fields[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let baton = Baton { stream: field(0), sequence: field(8), expires: field(16) };
        if now >= baton.expires {
            return Err(Error::caller(
                codes::STREAM_EXPIRED,
                "the stream has expired: it was not used for too long",
            ));
        }
        Ok(baton)
    }

    fn fields(baton: Baton) -> [u8; FIELDS] {
        let mut fields = [0; FIELDS];
        for (at, field) in [baton.stream, baton.sequence, baton.expires].iter().enumerate() {
            fields[at * 8..at * 8 + 8].copy_from_slice(&field.to_be_bytes());
        }
        fields
    }

    fn mac(&self, fields: &[u8]) -> hmac::Hmac<sha2::Sha256> {
        let length = self.database.len() as u64;
        keyed(&self.key)
            .chain_update(CONTEXT)
            .chain_update(length.to_be_bytes())
            .chain_update(&self.database)
            .chain_update(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATON: Baton = Baton { stream: 7, sequence: 3, expires: 1_000 };

    #[test]
    fn a_baton_comes_back_until_it_expires() {
        let batons = Batons::new([1; 32], "app/main");
        let text = batons.sign(BATON);
        assert_eq!(batons.verify(&text, 999), Ok(BATON));
        assert_eq!(batons.verify(&text, 1_000).unwrap_err().code, codes::STREAM_EXPIRED);
    }

    #[test]
    fn a_changed_baton_is_refused_and_so_is_another_databases_or_nodes() {
        let batons = Batons::new([1; 32], "app/main");
        let text = batons.sign(BATON);
        for at in 0..text.len() {
            for replacement in ['A', 'z', '-', '!'] {
                let mut changed = text.clone();
                changed.replace_range(at..=at, &replacement.to_string());
                if changed != text {
                    let code = batons.verify(&changed, 0).unwrap_err().code;
                    assert_eq!(code, codes::BATON_INVALID, "{changed}");
                }
            }
        }
        for other in [Batons::new([1; 32], "app/other"), Batons::new([2; 32], "app/main")] {
            assert_eq!(other.verify(&text, 0).unwrap_err().code, codes::BATON_INVALID);
        }
        for junk in ["", "A", &"A".repeat(54), &"A".repeat(10_000), "é"] {
            assert_eq!(batons.verify(junk, 0).unwrap_err().code, codes::BATON_INVALID);
        }
    }
}
