//! The engine: Deno's host APIs and Verge's own ops as lists of extensions.
//!
//! Two crates need exactly the same lists: `verge-snapshot`, whose build script evaluates the
//! JavaScript side into the start-up snapshots, and `verge-runtime`, which makes isolates from
//! them. What an op may reach is in [`Host`]; nothing here opens a socket or a file by itself.

mod exchange;
mod extensions;
mod host;
mod html_rewriter;
mod javascript;
mod ops;
mod sql;
pub mod stack;
mod transpile;
mod trim;

pub use exchange::{Courier, Exchange, ExchangeId, Exchanges, Outgoing, Reply};
pub use extensions::{Engine, Surface, for_runtime, for_snapshot, prepare};
pub use host::{
    Callee, Host, LongOp, LookupFailure, Outbound, RefusedBuffers, RpcCall, RpcFailure, RpcReply,
    SqlDatabase,
};
pub use javascript::{
    answers_everywhere, engine_gaps, engine_name, heap_slack, limit_heap, prepare_engine,
    prepare_process,
};
pub use transpile::transpile;
