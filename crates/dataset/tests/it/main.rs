//! The engine through its public API, on real files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod copies;
mod faults;
mod faulty;
mod glimpse;
mod harness;
mod huge;
mod kill;
mod large;
mod power;
mod primary;
mod replica;
mod store;
