//! Logs and metrics of a node. Knows nothing of who writes them.

mod log;

pub use log::{Level, LogRecord, LogSink};
