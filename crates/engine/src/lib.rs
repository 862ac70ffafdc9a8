//! The engine: Deno's host APIs and Verge's own ops as one list of extensions.
//!
//! Two crates need exactly the same list: `verge-snapshot`, whose build script evaluates the
//! JavaScript side into the start-up snapshot, and `verge-runtime`, which makes isolates from
//! it. What an op may reach is in [`Host`]; nothing here opens a socket or a file by itself.

mod exchange;
mod extensions;
mod host;
mod html_rewriter;
mod javascript;
mod ops;
mod sql;
pub mod stack;
mod transpile;

pub use exchange::{Answer, Answered, Courier, Exchange, ExchangeId, Exchanges, Reply};
pub use extensions::{Engine, for_runtime, for_snapshot, prepare};
pub use host::{
    Callee, Host, LongOp, LookupFailure, Outbound, RefusedBuffers, RpcCall, RpcFailure, RpcReply,
    SqlDatabase,
};
pub use javascript::{
    answers_everywhere, engine_gaps, engine_name, heap_slack, limit_heap, prepare_process,
    set_process_limits,
};
pub use transpile::transpile;
