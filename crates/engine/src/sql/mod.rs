//! Between SQL values and JavaScript's: parameters in, rows out, without a copy in between.

mod parameters;
mod rows;

pub use parameters::Parameters;
pub use rows::{ColumnNames, JsRows, Meta, OwnedReply, reply};
