//! The sidecar `state`: what a dataset is on this node, and what its database file holds at least.
//!
//! A text of `key value` lines ended by a hash, replaced crash-safely. Missing or unreadable, it
//! is an error and never 'start at 0'.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use verge_types::{DatasetId, Position};

use crate::checksum::hash;
use crate::crashsafe;
use crate::disk::Disk;
use crate::error::Error;
use crate::genesis::is_page_size;

const FIRST_LINE: &str = "verge-dataset 1";

/// What this node does for a dataset, as it is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Primary,
    Replica,
    Quarantined,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) id: DatasetId,
    pub(crate) page_size: u32,
    pub(crate) duty: Duty,
    /// The highest epoch this node has accepted.
    pub(crate) epoch: u64,
    /// The database file holds at least this.
    pub(crate) checkpoint: Position,
    /// Rolling checksum at the checkpoint.
    pub(crate) checksum: u64,
    /// Size of the database at the checkpoint, in pages.
    pub(crate) pages: u32,
    /// Wall time of the segment at the checkpoint, ms since 1970; 0 if none.
    pub(crate) wall_ms: u64,
}

impl State {
    pub(crate) fn save(&self, disk: &dyn Disk, path: &Path) -> Result<(), Error> {
        crashsafe::write_file(disk, path, self.to_text().as_bytes())
            .map_err(Error::io("writing a dataset's state"))
    }

    pub(crate) fn load(disk: &dyn Disk, path: &Path) -> Result<Self, Error> {
        let bytes = disk.read(path).map_err(Error::io("reading a dataset's state"))?;
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(Self::from_text)
            .ok_or_else(|| Error::corrupt("a dataset's state", "it cannot be read"))
    }

    fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        let duty = match self.duty {
            Duty::Primary => "primary",
            Duty::Replica => "replica",
            Duty::Quarantined => "quarantined",
        };
        let lines: [(&str, &dyn std::fmt::Display); 9] = [
            ("id", &self.id),
            ("page_size", &self.page_size),
            ("duty", &duty),
            ("epoch", &self.epoch),
            ("checkpoint_epoch", &self.checkpoint.epoch),
            ("checkpoint_txid", &self.checkpoint.txid),
            ("checksum", &self.checksum),
            ("pages", &self.pages),
            ("wall_ms", &self.wall_ms),
        ];
        for (key, value) in lines {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} {value}");
        }
        let own = hash(text.as_bytes());
        let _ = writeln!(text, "hash {own:016x}");
        text
    }

    fn from_text(text: &str) -> Option<Self> {
        let (body, own) = text.trim_end().rsplit_once('\n')?;
        let own = u64::from_str_radix(own.strip_prefix("hash ")?, 16).ok()?;
        if hash(format!("{body}\n").as_bytes()) != own {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let mut take = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        fn number<T: FromStr>(text: Option<&str>) -> Option<T> {
            text?.parse().ok()
        }
        let state = Self {
            id: number(take("id"))?,
            page_size: number(take("page_size"))?,
            duty: match take("duty")? {
                "primary" => Duty::Primary,
                "replica" => Duty::Replica,
                "quarantined" => Duty::Quarantined,
                _ => return None,
            },
            epoch: number(take("epoch"))?,
            checkpoint: Position::new(
                number(take("checkpoint_epoch"))?,
                number(take("checkpoint_txid"))?,
            ),
            checksum: number(take("checksum"))?,
            pages: number(take("pages"))?,
            wall_ms: number(take("wall_ms"))?,
        };
        is_page_size(state.page_size).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_state_is_an_error_and_not_a_new_beginning() {
        let state = State {
            id: "app/main".parse().unwrap(),
            page_size: 4096,
            duty: Duty::Replica,
            epoch: 3,
            checkpoint: Position::new(2, 9),
            checksum: u64::MAX,
            pages: 4,
            wall_ms: 5,
        };
        let text = state.to_text();
        assert_eq!(State::from_text(&text), Some(state));
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(State::from_text(&changed), None, "{changed}");
        }
        assert_eq!(State::from_text(""), None);
    }
}
