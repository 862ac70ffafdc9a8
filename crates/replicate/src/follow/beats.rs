//! How stale the data is at most, without comparing clocks.
//!
//! A heartbeat echoes our own clock: its tip was the primary's *after* we sent what is echoed.
//! Once we have applied that tip, our data is no older than the echoed moment, less the age that
//! a relay adds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Moment;

/// Heartbeats that are not reached yet; beyond these the newest are passed over.
const MAX_WAITING: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Beats {
    waiting: VecDeque<(u64, Moment)>,
    as_of: Option<Moment>,
}

impl Beats {
    /// A heartbeat said that `tip` was current at `as_of`.
    pub fn heard(&mut self, tip: u64, as_of: Moment, applied: u64) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((tip, as_of));
        }
        self.reached(applied);
    }

    pub fn reached(&mut self, applied: u64) {
        self.waiting.retain(|(tip, as_of)| {
            let reached = *tip <= applied;
            if reached {
                self.as_of = self.as_of.max(Some(*as_of));
            }
            !reached
        });
    }

    /// Another history: what was heard does not count for it.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    pub fn as_of(&self) -> Option<Moment> {
        self.as_of
    }

    pub fn staleness(&self, now: Moment) -> Option<Duration> {
        self.as_of.map(|as_of| now.since(as_of))
    }
}
