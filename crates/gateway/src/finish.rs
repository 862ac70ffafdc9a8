//! The end of a request, however it comes: metrics, access record, drain count.
//!
//! Everything is settled when this is dropped, so no way out of a request can skip it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use verge_telemetry::{AccessRecord, AppRequests};
use verge_types::{AppName, BodyError, Fault, Limit, RequestId, TraceContext};

use crate::connection::Connection;
use crate::vitals::Vitals;

/// Kept only if there is an access log.
pub struct LogLine {
    pub time: SystemTime,
    pub trace: TraceContext,
    pub method: http::Method,
    pub path: String,
    detail: Option<String>,
}

impl LogLine {
    pub fn new(trace: TraceContext, method: http::Method, path: String) -> Self {
        Self { time: SystemTime::now(), trace, method, path, detail: None }
    }
}

/// One running request, from its head to its last byte.
pub struct Finish {
    connection: Arc<Connection>,
    vitals: Arc<Vitals>,
    start: Instant,
    pub id: RequestId,
    app: Option<(AppName, Arc<AppRequests>)>,
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
        self.app = Some((name.clone(), requests));
    }

    /// One of the listener's own limits was hit.
    pub fn limit_hit(&self, limit: Limit) {
        let app = self.app.as_ref().map(|(name, _)| name);
        self.connection.config().metrics.limit_hit(app, limit);
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
            if self.vitals.wall_is_over() {
                self.limit_hit(Limit::WallTime);
                self.fault = Some(Limit::WallTime.spec().code);
            } else {
                self.fault = Some("client_gone");
            }
        }
        let duration = self.start.elapsed();
        match &self.app {
            Some((_, requests)) => requests.answered(self.status, duration, self.bytes),
            None => {
                let requests = self.connection.requests_of(None);
                requests.answered(self.status, duration, self.bytes);
            }
        }
        if let Some(log) = self.log.take() {
            self.connection.record(AccessRecord {
                time: log.time,
                id: self.id,
                trace: log.trace,
                app: self.app.take().map(|(name, _)| name),
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
