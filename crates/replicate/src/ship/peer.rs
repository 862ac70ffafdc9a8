//! What is known of one follower.

use std::collections::VecDeque;

use verge_types::Position;

use crate::Moment;

/// Where a follower stands in its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Segments from `next` on are to be sent.
    Segments { next: u64, loading: bool },
    /// A snapshot was asked for at the dataset.
    Opening,
    /// Chunks from `next` on are to be sent; `at` is the snapshot's transaction.
    Chunks { at: u64, next: u64, loading: bool, last: bool },
}

/// A follower in a session.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub session: u64,
    pub stage: Stage,
    /// What it has durably, as a rank of its own.
    pub acked: Position,
    /// Sent and not acknowledged: transaction or chunk, and bytes.
    pub in_flight: VecDeque<(u64, usize)>,
    pub in_flight_bytes: usize,
    pub heard: Moment,
    pub echo: u64,
    pub next_beat: Moment,
}

impl Peer {
    pub fn sent(&mut self, number: u64, bytes: usize) {
        self.in_flight.push_back((number, bytes));
        self.in_flight_bytes += bytes;
    }

    /// Everything up to `number` has arrived.
    pub fn arrived(&mut self, number: u64) {
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(n, _)| *n <= number) {
            self.in_flight_bytes -= bytes;
        }
    }

    pub fn has_room(&self, window: usize) -> bool {
        self.in_flight.is_empty() || self.in_flight_bytes < window
    }
}
