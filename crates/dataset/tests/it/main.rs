//! The engine through its public API, on real files.

mod harness;
mod primary;
mod replica;
