//! Nodes over real sockets on loopback. Waits are bounded and tolerant: nothing here fails
//! because the machine is slow, short of half a minute.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails fails its test")]

mod calls;
mod conditions;
mod hostile;
mod identity;
mod lifecycle;
mod streams;
mod world;
