//! Between SQL values and JavaScript's: parameters in, rows out, without a copy in between.

mod failure;
mod parameters;
mod rows;

pub use failure::{Reply, failed};
pub use parameters::{ManyParameters, Parameters};
pub use rows::{ColumnNames, JsRows, Meta, OwnedReply, reply};
