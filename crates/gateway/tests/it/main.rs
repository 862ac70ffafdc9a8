//! The listener seen from outside: real sockets, raw bytes, real clients.

mod drain;
mod http1;
mod http2;
mod limits;
mod malformed;
mod support;
mod tls;
mod websocket;
