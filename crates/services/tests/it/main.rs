//! One binary, a module a topic.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod counts;
mod databases;
mod files;
mod hostile;
mod statements;
mod support;
mod wire;
