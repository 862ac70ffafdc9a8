//! The real binary, real files, real sockets: what a user of `verge` sees.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod chat;
mod commands;
mod cut_off;
mod db;
mod errors;
mod examples;
mod harness;
mod init;
mod inner;
mod keys;
mod libsql;
mod limits;
mod places;
mod printing;
mod rebuild;
mod repository;
mod signals;
mod smoke;
mod streaming;
mod world;
