//! The listener seen from outside: real sockets, raw bytes, real clients.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod drain;
mod generated;
mod http1;
mod http2;
mod limits;
mod malformed;
mod session;
mod support;
mod tls;
mod websocket;
