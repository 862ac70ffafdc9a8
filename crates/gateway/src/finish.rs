//! The end of a request, however it comes: metrics, access record, drain count.
//!
//! Everything is settled when this is dropped, so no way out of a request can skip it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use verge_telemetry::{AccessRecord, AppRequests};
use verge_types::{AppName, BodyError, Fault, RequestId, TraceContext};

use crate::connection::Connection;
use crate::vitals::Vitals;

/// Kept only if there is an access log.
pub struct LogLine {
    pub time: SystemTime,
    pub trace: TraceContext,
    pub app: Option<AppName>,
    pub method: http::Method,
    pub path: String,
    detail: Option<String>,
}

impl LogLine {
    pub fn new(trace: TraceContext, method: http::Method, path: String) -> Self {
        Self { time: SystemTime::now(), trace, app: None, method, path, detail: None }
    }
}

/// One running request, from its head to its last byte.
pub struct Finish {
    connection: Arc<Connection>,
    vitals: Arc<Vitals>,
    start: Instant,
    pub id: RequestId,
    app: Option<Arc<AppRequests>>,
    log: Option<Box<LogLine>>,
    status: u16,
    bytes: u64,
    complete: bool,
    fault: Option<&'static str>,
}

impl Finish {
    pub fn new(
        connection: Arc<Connection>,
        vitals: Arc<Vitals>,
        start: Instant,
        id: RequestId,
        log: Option<Box<LogLine>>,
    ) -> Self {
        connection.request_began();
        Self {
            connection,
            vitals,
            start,
            id,
            app: None,
            log,
            status: 0,
            bytes: 0,
            complete: false,
            fault: None,
        }
    }

    pub fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    pub fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub fn start(&self) -> Instant {
        self.start
    }

    pub fn app(&mut self, name: &AppName, requests: Arc<AppRequests>) {
        self.app = Some(requests);
        if let Some(log) = &mut self.log {
            log.app = Some(name.clone());
        }
    }

    pub fn failed(&mut self, fault: &Fault) {
        self.fault = Some(fault.code);
        if let Some(log) = &mut self.log {
            log.detail.clone_from(&fault.detail);
        }
    }

    pub fn body_failed(&mut self, error: &BodyError) {
        match error {
            BodyError::Fault(fault) => self.failed(fault),
            BodyError::Transport(error) => {
                self.fault = Some("body_broken");
                if let Some(log) = &mut self.log {
                    log.detail = Some(error.to_string());
                }
            }
        }
    }

    pub fn status(&mut self, status: u16) {
        self.status = status;
    }

    pub fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.connection.moved();
    }

    /// Nothing more is to be sent.
    pub fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.vitals.finish();
        self.connection.request_ended(self.complete);
        if !self.complete && self.fault.is_none() {
            self.fault = Some(match self.vitals.wall_is_over() {
                true => verge_types::Limit::WallTime.spec().code,
                false => "client_gone",
            });
        }
        let duration = self.start.elapsed();
        let app = self.app.take().unwrap_or_else(|| self.connection.requests_of(None));
        app.answered(self.status, duration, self.bytes);
        if let Some(log) = self.log.take() {
            self.connection.record(AccessRecord {
                time: log.time,
                id: self.id,
                trace: log.trace,
                app: log.app,
                method: log.method,
                path: log.path,
                status: self.status,
                bytes: self.bytes,
                duration,
                protocol: self.connection.protocol(),
                peer: self.connection.peer(),
                fault: self.fault,
                detail: log.detail,
            });
        }
    }
}
