//! What a client's session has seen of one database.

use std::time::Duration;

use verge_types::{Bookmark, Position};

use super::database::{Database, Freshness};
use super::error::SqlError;
use super::home::Home;

/// Where a session stands: D1's `withSession`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    freshness: Freshness,
    seen: Option<Position>,
}

impl Session {
    /// `first-primary`, `first-unconstrained` (also for an empty text), or a bookmark.
    ///
    /// # Errors
    /// [`ErrorKind::Session`].
    pub fn new<H: Home>(
        database: &Database<H>,
        constraint: &str,
        wait: Duration,
    ) -> Result<Self, SqlError> {
        let mut freshness = Freshness { wait, ..Freshness::default() };
        let mut seen = None;
        match constraint.trim() {
            "" | "first-unconstrained" => {}
            "first-primary" => freshness.strong = true,
            bookmark => {
                seen = Some(database.position_of(bookmark)?);
                freshness.at_least = seen;
            }
        }
        Ok(Self { freshness, seen })
    }

    /// What the next statement asks for.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Takes note of an answer: later reads never show older state.
    pub fn saw(&mut self, position: Position) {
        self.seen = self.seen.max(Some(position));
        self.freshness.at_least = self.seen;
        self.freshness.strong = false;
    }

    /// D1's `getBookmark`: of what was seen, or null before the first answer.
    pub fn bookmark<H: Home>(&self, database: &Database<H>) -> Option<Bookmark> {
        self.seen.map(|position| Bookmark::new(database.home().id(), position))
    }
}
