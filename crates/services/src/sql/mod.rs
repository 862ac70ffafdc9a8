//! A SQL database as apps see it: D1's semantics.
//!
//! - [`run`], [`batch`], [`exec`], [`Cursor`]: statements on one connection, under a [`Policy`].
//! - [`RowSink`]: where rows go, straight from SQLite's memory; [`Rows`] owns them.
//! - [`SqlError`]: D1's texts.

mod attach;
mod count;
mod cursor;
mod error;
mod lexer;
mod policy;
mod prepared;
mod raw;
mod rules;
mod run;
mod script;
mod sink;
mod value;

pub use attach::Stop;
pub use cursor::Cursor;
pub use error::{Blame, ErrorKind, SqlError, extended_name, primary_name};
pub use policy::Policy;
pub use prepared::{Columns, NO_TRANSACTIONS};
pub use run::{
    Description, Outcome, Query, Rules, Stats, describe, is_readonly, query, run, run_readonly,
};
pub use script::{Executed, batch, exec, in_transaction};
pub use sink::{Discard, RowSink, Rows};
pub use value::{MAX_SAFE_INTEGER, Params, Value, ValueRef, integer_to_js};
