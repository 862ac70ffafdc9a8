//! Where a dataset's history stands, and how that is told to others.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest dataset id, in bytes.
pub const MAX_DATASET_ID: usize = 128;
/// Longest name of a point of presence, in bytes.
pub const MAX_POP_NAME: usize = 32;

/// Why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error(
        "`{0}` is no dataset id: use 1 to {MAX_DATASET_ID} of a-z, 0-9, '.', '_', '-', with '/' between parts that begin with a letter or digit"
    )]
    DatasetId(String),
    #[error(
        "`{0}` is no name of a point of presence: use 1 to {MAX_POP_NAME} of a-z, 0-9 and '-', beginning with a letter"
    )]
    PopName(String),
    #[error(
        "this is no bookmark: it has three hexadecimal parts, like 00000001-000000000000002a-9f1c33d0"
    )]
    Bookmark,
}

/// Names a dataset in a fleet: `app/database`. Never a path by itself: parts cannot be `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatasetId(Arc<str>);

impl TryFrom<String> for DatasetId {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        text.parse()
    }
}

impl From<DatasetId> for String {
    fn from(id: DatasetId) -> Self {
        id.as_str().to_owned()
    }
}

impl DatasetId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// 32 bits that tell this dataset's bookmarks from another's (FNV-1a).
    pub fn tag(&self) -> u32 {
        self.0
            .bytes()
            .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

impl FromStr for DatasetId {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let part = |part: &str| {
            part.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                && part.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
                })
        };
        if text.len() <= MAX_DATASET_ID && text.split('/').all(part) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidText::DatasetId(text.to_owned()))
        }
    }
}

impl fmt::Display for DatasetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a point of presence, such as `fra`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PopName(Arc<str>);

impl PopName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PopName {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let good = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
            && text.len() <= MAX_POP_NAME
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good { Ok(Self(text.into())) } else { Err(InvalidText::PopName(text.to_owned())) }
    }
}

impl fmt::Display for PopName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a history says about a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// It is in here.
    Covered,
    /// It may come: it lies beyond what this history has.
    NotYet,
    /// It is not part of this history and never will be: a failover or a restore cut it off.
    Lost,
}

/// A point in a dataset's history: the primary's term, and how many groups of transactions
/// were committed since the dataset was made. Later is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Rises each time another primary takes over; the first is 1.
    pub epoch: u64,
    /// Rises by one with each segment; 0 is the empty dataset.
    pub txid: u64,
}

impl Position {
    pub const fn new(epoch: u64, txid: u64) -> Self {
        Self { epoch, txid }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.epoch, self.txid)
    }
}

/// A position as an opaque text that clients carry: later sorts after earlier, and another
/// dataset's is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bookmark {
    pub position: Position,
    /// [`DatasetId::tag`] of the dataset it belongs to.
    pub tag: u32,
}

impl Bookmark {
    pub fn new(dataset: &DatasetId, position: Position) -> Self {
        Self { position, tag: dataset.tag() }
    }

    /// The position, if the bookmark is of this dataset.
    pub fn position_in(&self, dataset: &DatasetId) -> Option<Position> {
        (self.tag == dataset.tag()).then_some(self.position)
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{:016x}-{:08x}", self.position.epoch, self.position.txid, self.tag)
    }
}

impl FromStr for Bookmark {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let hex = |part: &str, digits: usize| {
            let plain = part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            (part.len() == digits && plain)
                .then(|| u64::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or(InvalidText::Bookmark)
        };
        let mut parts = text.split('-');
        let (Some(epoch), Some(txid), Some(tag), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidText::Bookmark);
        };
        Ok(Self {
            position: Position::new(hex(epoch, 8)?, hex(txid, 16)?),
            tag: u32::try_from(hex(tag, 8)?).map_err(|_| InvalidText::Bookmark)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dataset_ids_are_no_paths() {
        for good in ["a", "app/main", "t1/app/db-1_x.y", "0"] {
            assert!(good.parse::<DatasetId>().is_ok(), "{good}");
        }
        for bad in
            ["", "/", "a/", "/a", "..", "a/../b", "a//b", "A", "a b", "a\0", &"x".repeat(129)]
        {
            assert!(bad.parse::<DatasetId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bookmarks_sort_like_positions_and_know_their_dataset() {
        let (one, other): (DatasetId, DatasetId) = ("a/b".parse().unwrap(), "a/c".parse().unwrap());
        let positions = [
            Position::new(1, 9),
            Position::new(1, 10),
            Position::new(1, 4096),
            Position::new(2, 1),
        ];
        let texts: Vec<_> = positions.iter().map(|p| Bookmark::new(&one, *p).to_string()).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        for (text, position) in texts.iter().zip(positions) {
            let bookmark: Bookmark = text.parse().unwrap();
            assert_eq!(bookmark.position_in(&one), Some(position));
            assert_eq!(bookmark.position_in(&other), None);
        }
    }

    #[test]
    fn what_is_no_bookmark_is_refused() {
        for bad in [
            "",
            "1-2-3",
            "00000001-000000000000002a",
            "00000001-000000000000002A-9f1c33d0",
            "+0000001-000000000000002a-9f1c33d0",
            "00000001-000000000000002a-9f1c33d0-",
        ] {
            assert!(bad.parse::<Bookmark>().is_err(), "{bad}");
        }
    }
}
