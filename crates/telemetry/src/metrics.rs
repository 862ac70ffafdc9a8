//! Counters, gauges and histograms of a node, and their Prometheus text.
//!
//! Every label value comes from a closed set (an enum, a limit's code) or from the
//! configuration (app names), so that no client can make the node keep a new series.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use verge_types::{AppName, Limit};

/// Upper bounds in seconds: a cached answer is well under a millisecond, a wall limit at 30 s.
const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Upper bounds in seconds of an isolate's start and of one request's CPU time.
const SHORT_BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.02, 0.05, 0.25, 1.0];

/// Why a connection was not served, or was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "these are the label values as they are exposed")]
pub enum Rejection {
    /// The listener has as many connections as it takes.
    too_many,
    /// The peer's address has as many connections as it may have.
    too_many_from_peer,
    /// `accept` failed: mostly no file descriptors left.
    accept_error,
    /// The TLS handshake failed.
    tls,
    /// The TLS handshake took too long.
    tls_timeout,
    /// The head took too long.
    head_timeout,
    /// The request body stopped coming.
    body_timeout,
    /// The client stopped reading.
    write_stall,
    /// The framing was ambiguous or malformed.
    malformed,
    /// An HTTP/2 client broke the protocol or one of its flood limits.
    h2_abuse,
    /// The drain time was over.
    drain,
}

/// Why a client's session token was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "these are the label values as they are exposed")]
pub enum TokenRefusal {
    /// It is none, or of a form that this version does not know.
    malformed,
    /// It is longer than any that we make.
    too_long,
    /// Nobody with one of our keys made it for this app.
    forged,
    /// It was made longer ago than sessions last.
    expired,
    /// The request has more of them than are looked at.
    too_many,
}

/// How an isolate came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "these are the label values as they are exposed")]
pub enum IsolateStart {
    /// From the start-up snapshot.
    cold,
    /// Taken from the pool of booted ones.
    pooled,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStatus {
    app: String,
    status_class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByApp {
    app: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLimit {
    app: String,
    limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRejection {
    reason: Rejection,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRefusal {
    reason: TokenRefusal,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStart {
    app: String,
    start: IsolateStart,
}

/// The series of one app that every request touches; look it up once and keep it.
#[derive(Debug)]
pub struct AppRequests {
    classes: [Counter; 6],
    duration: Histogram,
    bytes: Counter,
}

impl AppRequests {
    /// One request was answered.
    pub fn answered(&self, status: u16, duration: Duration, body_bytes: u64) {
        let class = usize::from(status / 100).min(5);
        self.classes[class].inc();
        self.duration.observe(duration.as_secs_f64());
        self.bytes.inc_by(body_bytes);
    }
}

/// The series of one app's isolates; look it up once and keep it.
#[derive(Debug)]
pub struct AppIsolates {
    live: Gauge,
    cold: Counter,
    pooled: Counter,
    start_seconds: Histogram,
    cpu: Counter<f64, AtomicU64>,
    cpu_request: Histogram,
    heap: Gauge<i64, AtomicI64>,
}

impl AppIsolates {
    /// An isolate is ready for its first request, `took` after it was asked for.
    pub fn started(&self, start: IsolateStart, took: Duration) {
        self.live.inc();
        match start {
            IsolateStart::cold => self.cold.inc(),
            IsolateStart::pooled => self.pooled.inc(),
        };
        self.start_seconds.observe(took.as_secs_f64());
    }

    pub fn ended(&self) {
        self.live.dec();
    }

    /// CPU time of the app, whatever it was used for.
    pub fn cpu_used(&self, cpu: Duration) {
        self.cpu.inc_by(cpu.as_secs_f64());
    }

    /// CPU time of one finished request; it is not added to the app's total.
    pub fn request_used(&self, cpu: Duration) {
        self.cpu_request.observe(cpu.as_secs_f64());
    }

    /// One isolate's heap has grown, or shrunk, by so many bytes.
    pub fn heap_changed(&self, bytes: i64) {
        self.heap.inc_by(bytes);
    }
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

struct Families {
    registry: Registry,
    requests: Family<ByStatus, Counter>,
    duration: Family<ByApp, Histogram, fn() -> Histogram>,
    response_bytes: Family<ByApp, Counter>,
    limit_hits: Family<ByLimit, Counter>,
    connections: Gauge,
    connections_total: Counter,
    rejected: Family<ByRejection, Counter>,
    websockets: Gauge,
    session_tokens_refused: Family<ByRefusal, Counter>,
    isolates: Family<ByApp, Gauge>,
    isolate_starts: Family<ByStart, Counter>,
    isolate_start_seconds: Histogram,
    cpu_seconds: Family<ByApp, Counter<f64, AtomicU64>>,
    cpu_request_seconds: Histogram,
    heap_bytes: Family<ByApp, Gauge<i64, AtomicI64>>,
}

/// A handle to the node's metrics; clones share the same series.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn long_histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("verge");
        let r = &mut registry;
        let requests = Family::default();
        r.register("requests", "Requests answered", requests.clone());
        let duration: Family<ByApp, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(long_histogram);
        r.register_with_unit(
            "request_duration",
            "From the request's head to the last response byte",
            Unit::Seconds,
            duration.clone(),
        );
        let response_bytes = Family::default();
        r.register_with_unit(
            "response_body",
            "Response body bytes sent",
            Unit::Bytes,
            response_bytes.clone(),
        );
        let limit_hits = Family::default();
        r.register("limit_hits", "Limits hit", limit_hits.clone());
        let connections = Gauge::default();
        r.register("connections", "Open client connections", connections.clone());
        let connections_total = Counter::default();
        r.register(
            "connections_accepted",
            "Client connections accepted",
            connections_total.clone(),
        );
        let rejected = Family::default();
        r.register("connections_rejected", "Connections refused or cut", rejected.clone());
        let websockets = Gauge::default();
        r.register("websockets", "Open WebSockets", websockets.clone());
        let session_tokens_refused = Family::default();
        r.register(
            "session_tokens_refused",
            "Session tokens of clients that were not believed",
            session_tokens_refused.clone(),
        );
        let isolates = Family::default();
        r.register("isolates", "Live isolates", isolates.clone());
        let isolate_starts = Family::default();
        r.register("isolate_starts", "Isolates started", isolate_starts.clone());
        let isolate_start_seconds = Histogram::new(SHORT_BUCKETS);
        r.register_with_unit(
            "isolate_start",
            "Time an isolate took to be ready for its first request",
            Unit::Seconds,
            isolate_start_seconds.clone(),
        );
        let cpu_seconds = Family::default();
        r.register_with_unit("cpu", "CPU time used by apps", Unit::Seconds, cpu_seconds.clone());
        let cpu_request_seconds = Histogram::new(SHORT_BUCKETS);
        r.register_with_unit(
            "cpu_per_request",
            "CPU time of one request",
            Unit::Seconds,
            cpu_request_seconds.clone(),
        );
        let heap_bytes = Family::default();
        r.register_with_unit(
            "heap",
            "V8 heap in use by an app's isolates",
            Unit::Bytes,
            heap_bytes.clone(),
        );
        Self(Arc::new(Families {
            registry,
            requests,
            duration,
            response_bytes,
            limit_hits,
            connections,
            connections_total,
            rejected,
            websockets,
            session_tokens_refused,
            isolates,
            isolate_starts,
            isolate_start_seconds,
            cpu_seconds,
            cpu_request_seconds,
            heap_bytes,
        }))
    }

    /// The request series of an app; `None` is for requests that led to no app.
    pub fn app_requests(&self, app: Option<&AppName>) -> AppRequests {
        let app = name(app);
        AppRequests {
            classes: CLASSES.map(|status_class| {
                self.0.requests.get_or_create_owned(&ByStatus { app: app.clone(), status_class })
            }),
            duration: self.0.duration.get_or_create_owned(&ByApp { app: app.clone() }),
            bytes: self.0.response_bytes.get_or_create_owned(&ByApp { app }),
        }
    }

    /// A limit was hit. `app` is `None` where the limit is the node's own.
    pub fn limit_hit(&self, app: Option<&AppName>, limit: Limit) {
        let labels = ByLimit { app: name(app), limit: limit.spec().code };
        self.0.limit_hits.get_or_create(&labels).inc();
    }

    pub fn connection_opened(&self) {
        self.0.connections.inc();
        self.0.connections_total.inc();
    }

    pub fn connection_closed(&self) {
        self.0.connections.dec();
    }

    pub fn connection_rejected(&self, reason: Rejection) {
        self.0.rejected.get_or_create(&ByRejection { reason }).inc();
    }

    /// How often connections were refused or cut for a reason.
    pub fn rejections(&self, reason: Rejection) -> u64 {
        self.0.rejected.get_or_create(&ByRejection { reason }).get()
    }

    pub fn session_token_refused(&self, reason: TokenRefusal) {
        self.0.session_tokens_refused.get_or_create(&ByRefusal { reason }).inc();
    }

    pub fn websocket_opened(&self) {
        self.0.websockets.inc();
    }

    pub fn websocket_closed(&self) {
        self.0.websockets.dec();
    }

    /// The series of an app's isolates.
    pub fn app_isolates(&self, app: &AppName) -> AppIsolates {
        let by_app = ByApp { app: app.to_string() };
        let starts = |start| {
            let labels = ByStart { app: app.to_string(), start };
            self.0.isolate_starts.get_or_create_owned(&labels)
        };
        AppIsolates {
            live: self.0.isolates.get_or_create_owned(&by_app),
            cold: starts(IsolateStart::cold),
            pooled: starts(IsolateStart::pooled),
            start_seconds: self.0.isolate_start_seconds.clone(),
            cpu: self.0.cpu_seconds.get_or_create_owned(&by_app),
            cpu_request: self.0.cpu_request_seconds.clone(),
            heap: self.0.heap_bytes.get_or_create_owned(&by_app),
        }
    }

    /// Prometheus text (OpenMetrics 1.0).
    pub fn expose(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// The media type of [`Metrics::expose`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

fn name(app: Option<&AppName>) -> String {
    app.map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_the_names_the_documentation_gives() {
        let metrics = Metrics::new();
        let app: AppName = "shop".parse().unwrap();
        metrics.app_requests(Some(&app)).answered(204, Duration::from_millis(3), 7);
        metrics.clone().limit_hit(Some(&app), Limit::CpuTime);
        metrics.connection_opened();
        metrics.connection_rejected(Rejection::too_many_from_peer);
        metrics.session_token_refused(TokenRefusal::forged);
        let isolates = metrics.app_isolates(&app);
        isolates.started(IsolateStart::pooled, Duration::from_millis(1));
        isolates.cpu_used(Duration::from_micros(40));
        isolates.request_used(Duration::from_micros(40));
        isolates.heap_changed(8192);
        isolates.heap_changed(-4096);
        let text = metrics.expose();
        for line in [
            "verge_requests_total{app=\"shop\",status_class=\"2xx\"} 1",
            "verge_request_duration_seconds_bucket{le=\"0.005\",app=\"shop\"} 1",
            "verge_response_body_bytes_total{app=\"shop\"} 7",
            "verge_limit_hits_total{app=\"shop\",limit=\"cpu_limit\"} 1",
            "verge_connections 1",
            "verge_connections_rejected_total{reason=\"too_many_from_peer\"} 1",
            "verge_session_tokens_refused_total{reason=\"forged\"} 1",
            "verge_isolates{app=\"shop\"} 1",
            "verge_isolate_starts_total{app=\"shop\",start=\"pooled\"} 1",
            "verge_cpu_seconds_total{app=\"shop\"} 0.00004",
            "verge_cpu_per_request_seconds_count 1",
            "verge_heap_bytes{app=\"shop\"} 4096",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
