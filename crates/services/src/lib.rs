//! What the bindings of an app mean, over replicated datasets. Knows nothing of V8 or HTTP.
//!
//! - [`sql`]: a SQL database with D1's semantics.

pub mod sql;
