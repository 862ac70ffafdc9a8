//! The bundler against real files, the real esbuild and real packages.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bundled;
mod config;
mod folder;
mod in_process;
mod support;
