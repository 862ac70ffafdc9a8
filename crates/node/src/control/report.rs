//! How far a command is, between the one that runs it and the one that waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use verge_services::sql::{ErrorKind, SqlError};

/// How far a command is, in whatever it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    /// 0 where it is not known.
    pub total: u64,
}

/// Shared by a command that takes time and its caller.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<State>);

#[derive(Debug, Default)]
struct State {
    done: AtomicU64,
    total: AtomicU64,
    given_up: AtomicBool,
}

impl Report {
    pub fn progress(&self) -> Progress {
        let (done, total) = (&self.0.done, &self.0.total);
        Progress { done: done.load(Ordering::Relaxed), total: total.load(Ordering::Relaxed) }
    }

    /// The caller wants it no more: it ends and changes nothing, if it is not done.
    pub fn give_up(&self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn total(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Tells how far it is.
    ///
    /// # Errors
    /// If the caller gave up.
    pub(crate) fn step(&self, done: u64) -> Result<(), SqlError> {
        self.0.done.store(done, Ordering::Relaxed);
        if self.0.given_up.load(Ordering::Relaxed) {
            let message = "interrupted; nothing was changed";
            return Err(SqlError::new(ErrorKind::Migration, message));
        }
        Ok(())
    }
}
