//! Names of nodes and fleets. They go into certificates, so each is one DNS label.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use verge_types::PopName;

/// Longest node or fleet name, in bytes.
pub const MAX_NAME: usize = 48;

/// Why a text names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name of a node or fleet: use 1 to {MAX_NAME} of a-z, 0-9 and '-', beginning with a letter and not ending with '-'"
)]
pub struct InvalidNodeName(String);

fn checked(text: &str) -> Result<Arc<str>, InvalidNodeName> {
    let good = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.len() <= MAX_NAME
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if good { Ok(text.into()) } else { Err(InvalidNodeName(text.to_owned())) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidNodeName;

            fn from_str(text: &str) -> Result<Self, InvalidNodeName> {
                checked(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Names one node of a fleet: `iad-1`. Unique in the fleet.
    NodeId
);
name!(
    /// Names a fleet. Nodes of different fleets never talk to each other.
    FleetName
);

/// A node and the point of presence it stands in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    pub node: NodeId,
    pub pop: PopName,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.node, self.pop)
    }
}

/// [`PopName`] as text, for serde's `with`.
pub(crate) mod pop_text {
    use super::{Deserialize, Deserializer, PopName, Serializer};

    pub fn serialize<S: Serializer>(pop: &PopName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(pop.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PopName, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "iad-1", "n0", &"x".repeat(MAX_NAME)] {
            assert!(good.parse::<NodeId>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "1a", "ä", &"x".repeat(MAX_NAME + 1)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
    }
}
