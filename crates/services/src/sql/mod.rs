//! A SQL database as apps see it: D1's semantics.
//!
//! - [`run`], [`batch`], [`exec`], [`Cursor`]: statements on one connection, under a [`Policy`].
//! - [`RowSink`]: where rows go, straight from SQLite's memory; [`Rows`] owns them.
//! - [`SqlError`]: D1's texts.
//! - [`Database`]: one database at one PoP, over a [`Home`] (a dataset) and a [`Forward`] (the way
//!   to its primary); [`Session`] is D1's `withSession`.
//! - [`migrate`], [`import`], [`export`].

mod attach;
mod codec;
mod count;
mod csv;
mod cursor;
mod database;
mod dataset_home;
mod error;
pub mod export;
mod home;
pub mod import;
mod lexer;
mod message;
pub mod migrate;
mod policy;
mod prepared;
mod raw;
mod reads;
mod rules;
mod run;
mod script;
mod scripts;
mod session;
mod sink;
mod statements;
mod transactions;
mod value;

pub use attach::Stop;
pub use cursor::Cursor;
pub use database::{Answer, Database, Freshness, Local, Node, SharedColumns, SharedStop};
pub use dataset_home::{Age, DatasetHome, LONGEST_SETTLING, not_read, settled};
pub use error::{Blame, ErrorKind, SqlError, extended_name, primary_name};
pub use home::{Boxed, Forward, Home, Transaction as HomeTransaction};
pub use message::{Done, Reply, Request, decode_reply, encode_reply};
pub use policy::Policy;
pub use prepared::{Columns, NO_TRANSACTIONS};
pub use reads::covers;
pub use run::{
    Description, Outcome, Query, Rules, Stats, describe, is_readonly, query, run, run_readonly,
};
pub use script::{Executed, batch, exec, in_transaction, script};
pub use session::Session;
pub use sink::{Discard, RowSink, Rows};
pub use statements::{Piece, Statements, is_complete};
pub use transactions::Transaction;
pub use value::{MAX_SAFE_INTEGER, Params, Value, ValueRef, integer_to_js};
