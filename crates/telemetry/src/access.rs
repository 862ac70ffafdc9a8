//! One record for each answered request.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use verge_types::{AppName, RequestId, TraceContext};

/// What the access log says of one request.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    pub time: SystemTime,
    pub id: RequestId,
    pub trace: TraceContext,
    /// `None` when no app was found.
    pub app: Option<AppName>,
    pub method: http::Method,
    /// With the query, as the client sent it.
    pub path: String,
    pub status: u16,
    /// Bytes of the response body that were handed to the connection.
    pub bytes: u64,
    /// From the complete request head to the last response byte handed over.
    pub duration: Duration,
    /// "HTTP/1.1" or "HTTP/2".
    pub protocol: &'static str,
    pub peer: SocketAddr,
    /// The fault's code; `client_gone` when the client left before the end.
    pub fault: Option<&'static str>,
    /// The fault's detail: for the operator, never for the client.
    pub detail: Option<String>,
}

/// Where access records go. Called on the connection's task, so it must not block for long.
pub trait AccessLog: Send + Sync + 'static {
    fn record(&self, entry: AccessRecord);

    /// Asked once when the listener starts: `false` means that no record is even made.
    fn enabled(&self) -> bool {
        true
    }
}

/// No access log.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAccessLog;

impl AccessLog for NoAccessLog {
    fn record(&self, _: AccessRecord) {}

    fn enabled(&self) -> bool {
        false
    }
}
