//! Typed ids, so that one is never passed as another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest app name, in bytes: it must fit a DNS label.
pub const MAX_APP_NAME: usize = 63;

/// Why a string is not a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    pub given: String,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no app name: use 1 to {MAX_APP_NAME} of a-z, 0-9 and '-', beginning and ending with a letter or digit",
            self.given
        )
    }
}

impl std::error::Error for InvalidName {}

/// The name of an app: one DNS label.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(Arc<str>);

impl AppName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = InvalidName;

    fn from_str(s: &str) -> Result<Self, InvalidName> {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = s.as_bytes();
        let inner =
            bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if bytes.len() <= MAX_APP_NAME && inner && edge(bytes.first()) && edge(bytes.last()) {
            Ok(Self(s.into()))
        } else {
            Err(InvalidName { given: s.to_owned() })
        }
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a deployment by its content: the first 16 hex digits of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeploymentId(Arc<str>);

impl DeploymentId {
    /// Takes the first eight bytes of a content digest.
    pub fn from_digest(digest: &[u8]) -> Self {
        let hex: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        Self(hex.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one request in logs and in the `x-request-id` header; 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_are_dns_labels() {
        for good in ["a", "my-app", "0", "a--b"] {
            assert!(good.parse::<AppName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<AppName>().is_err(), "{bad}");
        }
    }
}
