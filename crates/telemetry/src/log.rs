//! What an app or the platform says, as records; a sink decides how they look.

use std::time::SystemTime;

use verge_types::{AppName, DeploymentId, RequestId};

/// How loud a record is; `console.log` is `Info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One line (or one stack trace) of an app's log.
#[derive(Clone, Debug)]
pub struct LogRecord {
    pub time: SystemTime,
    pub level: Level,
    pub app: AppName,
    pub deployment: DeploymentId,
    /// `None` outside a request: top-level code.
    pub request: Option<RequestId>,
    pub message: String,
}

/// Where records go. Called on an isolate's thread, so it must not block for long.
pub trait LogSink: Send + Sync + 'static {
    fn write(&self, record: LogRecord);
}
