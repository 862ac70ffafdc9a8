//! Tests of the crate from the outside.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod codec;
mod database;
mod http;
mod session;
mod support;
mod websocket;
