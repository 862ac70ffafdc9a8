//! Whole-isolate tests: real apps in real isolates, without a listener.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod apps;
mod harness;

mod egress;
mod handlers;
mod html_rewriter;
mod lifecycle;
mod limits;
mod sql;
mod surfaces;
mod web_apis;
