//! Who may write to a dataset: one holder per epoch, by a compare-and-swap register.
//!
//! No two clocks are compared. A holder counts its lease from the moment it *sent* the swap that
//! the register confirmed, and stops `margin` early. A challenger counts from the moment it first
//! *saw* a record, counts only time in which it watched, and waits `margin` longer; its own swap
//! fails if the record moved. So the holder has stopped before a challenger can start, as
//! long as two clocks do not drift apart by more than the two margins within one lease.
//!
//! On top of that come the fences: a candidate has the voters promise to refuse older epochs
//! before it claims, so `follower` and `quorum` stay safe even where a clock misbehaves.

mod config;
mod core;
mod election;
mod handover;
mod record;

pub use self::config::{BadLeaseConfig, LeaseConfig};
pub use self::core::{Demotion, Effect, Event, Lease, Local};
pub use self::record::{Phase, Record, RegisterAnswer};

#[cfg(test)]
mod tests;
