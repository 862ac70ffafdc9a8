//! What a primary, or a relay between it and further replicas, sends to its followers, and when
//! the primary may acknowledge a group.
//!
//! One `Shipper` lives as long as its term and lineage: a promotion, a re-election or (at a
//! relay) a new term or lineage upstream makes a new one, and followers shake hands again.
//!
//! Always: nothing is shipped that was not durable here first; bytes in flight to a follower stay
//! below the window (one segment may exceed it); only acknowledgements of this term count.

mod config;
mod core;
mod peer;
mod retain;

pub use self::config::ShipConfig;
pub use self::core::{Effect, Event, Origin, Shipper};

#[cfg(test)]
mod tests;
