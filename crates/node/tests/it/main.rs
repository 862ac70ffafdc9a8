//! Nodes over real sockets and real files.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which end by a panic")]

mod alone;
mod control;
mod damage;
mod failover;
mod faults;
mod fleet;
mod huge;
mod relay;
mod world;
