//! V8 isolates: a pool of booted ones, the limits each runs under, and how requests reach an
//! app's code.
//!
//! One isolate lives on one thread for its whole life, so that an endless loop costs its own
//! app and nobody else, and so that CPU time is the thread's own clock. An [`App`] is one
//! deployment with its isolates; it is a [`verge_types::Service`] like any other.

mod app;
mod code_cache;
mod egress;
mod event;
mod isolate;
mod limits;
mod module_loader;
mod needs;
mod pool;
mod runtime;
mod urgency;

pub use app::{App, AppOptions};
pub use egress::{Egress, EgressError};
pub use runtime::{PROXY_VARIABLES, Runtime, RuntimeConfig, RuntimeError};
pub use urgency::be_prompt;
pub use verge_engine::{SqlDatabase, engine_gaps, engine_name, prepare_process};
