//! Logs and metrics of a node. Knows nothing of who writes them.

mod access;
mod log;
mod metrics;
mod sink;

pub use access::{AccessLog, AccessRecord, NoAccessLog};
pub use log::{Level, LogRecord, LogSink};
pub use metrics::{AppIsolates, AppRequests, IsolateStart, Metrics, Rejection, TokenRefusal};
pub use sink::{LogFormat, StreamSink};
