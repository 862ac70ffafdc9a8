//! Whole-isolate tests: real apps in real isolates, without a listener.

mod harness;

mod egress;
mod handlers;
mod html_rewriter;
mod lifecycle;
mod limits;
