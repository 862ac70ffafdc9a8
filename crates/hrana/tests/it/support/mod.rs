//! What the tests share.

pub mod sqlite;
