//! The engine through its public API, on real files.

mod copies;
mod faults;
mod harness;
mod kill;
mod large;
mod primary;
mod replica;
mod store;
