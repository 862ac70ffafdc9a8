//! What a replica accepts: handshakes, order, gaps, duplicates, old epochs, data that disagrees,
//! snapshots, and how stale its data may be.
//!
//! Always: a segment is handed to `Apply` only in order, once, in the term that the follower is
//! promised to or a newer one, and only if it begins at the checksum that the one before ended
//! with; nothing is acknowledged that is not durable; a new handshake is not begun while handed
//! out segments are still being applied.

mod beats;
mod config;
mod core;

pub use self::config::FollowConfig;
pub use self::core::{Effect, Event, Follow, Health, Quarantine, Replica};

#[cfg(test)]
mod tests;
