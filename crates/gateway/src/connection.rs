//! What all requests of one connection share, and what all connections of a listener share.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use tokio::sync::Notify;
use verge_telemetry::{AccessLog, AccessRecord, AppRequests};
use verge_types::{AppName, ClientInfo, Geo, Resolve, Routed, Scheme};

use crate::admission::Permit;
use crate::config::GatewayConfig;
use crate::headers;
use crate::vitals::Progress;

/// How far the listener's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    Running,
    /// Running requests finish, connections say that they close.
    Draining,
    /// What still runs is cut.
    Cutting,
}

/// What all connections of a listener share.
pub struct Shared {
    pub config: GatewayConfig,
    pub resolve: Arc<dyn Resolve>,
    access: Arc<dyn AccessLog>,
    logs: bool,
    geo: Arc<Geo>,
    stage: AtomicU8,
    pub stage_changed: Notify,
    /// Requests that ended well, or did not, since draining began.
    finished: AtomicUsize,
    cut: AtomicUsize,
}

impl Shared {
    pub fn new(
        config: GatewayConfig,
        resolve: Arc<dyn Resolve>,
        access: Arc<dyn AccessLog>,
    ) -> Self {
        Self {
            geo: Arc::new(config.geo.clone()),
            logs: access.enabled(),
            config,
            resolve,
            access,
            stage: AtomicU8::new(Stage::Running as u8),
            stage_changed: Notify::new(),
            finished: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
        }
    }

    pub fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Running,
            1 => Stage::Draining,
            _ => Stage::Cutting,
        }
    }

    pub fn enter(&self, stage: Stage) {
        // SeqCst: a connection that registers for the change and then reads the old stage
        // must be found by the wake-up below.
        // Never back: a listener that is cut while it drains stays cut.
        self.stage.fetch_max(stage as u8, std::sync::atomic::Ordering::SeqCst);
        self.stage_changed.notify_waiters();
    }

    /// Returns once the listener's end has come so far.
    pub async fn reaches(&self, stage: Stage) {
        let mut changed = std::pin::pin!(self.stage_changed.notified());
        loop {
            // Registered before the look, so that no change is missed.
            changed.as_mut().enable();
            if self.stage() >= stage {
                return;
            }
            changed.as_mut().await;
            changed.set(self.stage_changed.notified());
        }
    }

    pub fn finished(&self) -> usize {
        self.finished.load(Relaxed)
    }

    pub fn cut(&self) -> usize {
        self.cut.load(Relaxed)
    }
}

/// What all requests of one connection share.
pub struct Connection {
    shared: Arc<Shared>,
    client: Arc<ClientInfo>,
    trusted: bool,
    http2: bool,
    running: AtomicUsize,
    progress: Arc<Progress>,
    /// The series of the app asked last: nearly always the one asked next.
    last_app: Mutex<Option<(AppName, Arc<AppRequests>)>>,
    _permit: Permit,
}

impl Connection {
    pub fn new(shared: Arc<Shared>, client: ClientInfo, http2: bool, permit: Permit) -> Self {
        let ip = client.addr.ip();
        Self {
            trusted: shared.config.trusted_proxies.iter().any(|net| net.contains(ip)),
            shared,
            client: Arc::new(client),
            http2,
            running: AtomicUsize::new(0),
            progress: Arc::default(),
            last_app: Mutex::new(None),
            _permit: permit,
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub fn config(&self) -> &GatewayConfig {
        &self.shared.config
    }

    pub fn route(&self, host: &str, path: &str) -> Option<Routed> {
        self.shared.resolve.route(host, path)
    }

    pub fn geo(&self) -> Arc<Geo> {
        Arc::clone(&self.shared.geo)
    }

    pub fn is_http2(&self) -> bool {
        self.http2
    }

    pub fn protocol(&self) -> &'static str {
        self.client.http_protocol
    }

    pub fn scheme(&self) -> Scheme {
        self.client.scheme
    }

    pub fn peer(&self) -> SocketAddr {
        self.client.addr
    }

    pub fn draining(&self) -> bool {
        self.shared.stage() != Stage::Running
    }

    pub fn logs(&self) -> bool {
        self.shared.logs
    }

    pub fn record(&self, entry: AccessRecord) {
        self.shared.access.record(entry);
    }

    /// Requests that run on it now.
    pub fn running(&self) -> usize {
        self.running.load(Relaxed)
    }

    pub fn request_began(&self) {
        self.running.fetch_add(1, Relaxed);
        self.progress.made();
    }

    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Bytes moved.
    pub fn moved(&self) {
        self.progress.made();
    }

    pub fn request_ended(&self, complete: bool) {
        self.running.fetch_sub(1, Relaxed);
        if self.draining() {
            let count = if complete { &self.shared.finished } else { &self.shared.cut };
            count.fetch_add(1, Relaxed);
        }
    }

    /// What a trusted proxy says of the client; `None` from everybody else.
    pub fn hearsay(&self, headers: &HeaderMap) -> Option<(Option<IpAddr>, Option<Scheme>)> {
        self.trusted.then(|| headers::believed(headers, &self.shared.config.trusted_proxies))
    }

    /// Who the client is.
    pub fn client_of(&self, hearsay: Option<(Option<IpAddr>, Option<Scheme>)>) -> Arc<ClientInfo> {
        let Some((ip, scheme)) = hearsay.filter(|(ip, scheme)| ip.is_some() || scheme.is_some())
        else {
            return Arc::clone(&self.client);
        };
        let mut client = ClientInfo::clone(&self.client);
        if let Some(ip) = ip {
            // The client's port is not told.
            client.addr = SocketAddr::new(ip, 0);
        }
        client.scheme = scheme.unwrap_or(client.scheme);
        Arc::new(client)
    }

    /// The metrics of an app's requests.
    pub fn requests_of(&self, app: Option<&AppName>) -> Arc<AppRequests> {
        let Some(app) = app else {
            return Arc::new(self.shared.config.metrics.app_requests(None));
        };
        let mut last = self.last_app.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((name, requests)) if name == app => Arc::clone(requests),
            _ => {
                let requests = Arc::new(self.shared.config.metrics.app_requests(Some(app)));
                *last = Some((app.clone(), Arc::clone(&requests)));
                requests
            }
        }
    }
}
