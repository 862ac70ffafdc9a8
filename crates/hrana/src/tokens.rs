//! Who may do what with a database.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{Error, codes};

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    Full,
}

/// Knows the tokens of one database.
///
/// Asked at each HTTP request and each hello, and again now and then for as long as a
/// WebSocket is open, so it must not block.
pub trait Tokens: Send + Sync + 'static {
    /// `bearer` is what the client presented, if anything. Secrets are compared in constant
    /// time. The error's code is one of `AUTH_…`.
    fn verify(&self, bearer: Option<&str>) -> Result<Access, Error>;
}

/// Lets everybody do everything: for a laptop.
///
/// Even then a page in a browser is refused (see [`crate::HranaService`]).
pub struct Open;

impl Tokens for Open {
    fn verify(&self, _: Option<&str>) -> Result<Access, Error> {
        Ok(Access::Full)
    }
}

/// A fixed list of tokens, kept as keyed hashes.
pub struct TokenList {
    key: [u8; 32],
    hashes: Vec<([u8; 32], Access)>,
}

impl TokenList {
    /// Fails only if the system has no random bytes.
    pub fn new<T: AsRef<str>>(
        tokens: impl IntoIterator<Item = (T, Access)>,
    ) -> Result<Self, Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)
            .map_err(|_| Error::platform("INTERNAL", "the system gives no random bytes"))?;
        let hashes = tokens
            .into_iter()
            .map(|(token, access)| (hash(&key, token.as_ref()), access))
            .collect();
        Ok(Self { key, hashes })
    }
}

impl Tokens for TokenList {
    fn verify(&self, bearer: Option<&str>) -> Result<Access, Error> {
        let Some(bearer) = bearer else {
            return Err(Error::caller(codes::AUTH_MISSING, "this database wants a token"));
        };
        // Comparing hashes under a key that nobody knows tells nothing of the token, however
        // the comparison is timed; and every entry is looked at.
        let given = hash(&self.key, bearer);
        let mut found = None;
        for (hash, access) in &self.hashes {
            let differing = hash.iter().zip(&given).fold(0, |bits, (a, b)| bits | (a ^ b));
            if differing == 0 {
                found = Some(*access);
            }
        }
        found.ok_or_else(|| {
            Error::caller(codes::AUTH_INVALID, "the token is not one of this database")
        })
    }
}

fn hash(key: &[u8; 32], token: &str) -> [u8; 32] {
    keyed(key).chain_update(token).finalize().into_bytes().into()
}

/// HMAC-SHA-256 with a key of its exact size.
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // A MAC's key is padded to the block: the length is never refused.
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_grant_their_own_access() {
        let tokens =
            TokenList::new([("reader", Access::ReadOnly), ("writer", Access::Full)]).unwrap();
        assert_eq!(tokens.verify(Some("reader")), Ok(Access::ReadOnly));
        assert_eq!(tokens.verify(Some("writer")), Ok(Access::Full));
        for wrong in ["", "write", "writerr", "Writer"] {
            assert_eq!(tokens.verify(Some(wrong)).unwrap_err().code, codes::AUTH_INVALID);
        }
        assert_eq!(tokens.verify(None).unwrap_err().code, codes::AUTH_MISSING);
    }
}
