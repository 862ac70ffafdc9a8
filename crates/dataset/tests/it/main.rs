//! The engine through its public API, on real files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod copies;
mod faults;
mod harness;
mod kill;
mod large;
mod primary;
mod replica;
mod store;
