//! A node's fabric: started, asked, shut down.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use verge_types::Body;

use crate::body::{self, Incoming, Pump};
use crate::channel::Channel;
use crate::config::{FabricConfig, Security};
use crate::control::Record;
use crate::head::{Kind, Open, Outcome, Reply};
use crate::membership::{MemberTable, Membership};
use crate::message::MessageStream;
use crate::metrics::{Counters, FabricMetrics};
use crate::random::seed_of;
use crate::serve::{CallHandler, Handlers, StreamHandler, put_head};
use crate::shared::{Event, Shared};
use crate::tls::Tls;
use crate::{Error, NodeId, Peer, accept};

/// Events an owner may be behind.
const EVENTS: usize = 256;

/// A node's connections to the others. Clones share it; when the last one is dropped everything
/// ends at once, without a goodbye.
#[derive(Clone)]
pub struct Fabric {
    shared: Arc<Shared>,
    _last: Arc<DropGuard>,
}

impl Fabric {
    /// Listens, and begins to dial.
    pub async fn start(config: FabricConfig) -> Result<Self, Error> {
        config.check()?;
        let tls = match &config.security {
            Security::MutualTls(identity) => Some(Tls::new(identity)?),
            Security::Loopback => None,
        };
        let failed = |error| Error::io(format!("listening on {}", config.listen), error);
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let incarnation = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        let me = Record {
            node: config.node.clone(),
            pop: config.pop.clone(),
            address: config.advertise.clone().unwrap_or_else(|| local.to_string()),
            incarnation,
        };
        let mut core = Membership::new(
            me.node.clone(),
            config.timing.clone(),
            config.limits.max_members,
            seed_of(me.node.as_str()) ^ incarnation,
        );
        for seed in &config.seeds {
            core.add_seed(Duration::ZERO, seed.address.clone(), seed.peer.clone());
        }
        if let Some(links) = &config.links {
            links.register(local, me.node.clone());
        }
        let table = watch::Sender::new(Arc::new(core.table()));
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            tls,
            me,
            local,
            start: Instant::now(),
            core: Mutex::new(core),
            table,
            links: Default::default(),
            handlers: Handlers::default(),
            counters: Arc::new(Counters::default()),
            events: broadcast::Sender::new(EVENTS),
            closing: stop.child_token(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
            next_link: AtomicU64::new(1),
            killed: AtomicBool::new(false),
            config,
        });
        shared.tasks.spawn(accept::listen(shared.clone(), listener));
        shared.tasks.spawn(tick(shared.clone()));
        Ok(Self { shared, _last: Arc::new(stop.drop_guard()) })
    }

    /// This node.
    pub fn node(&self) -> &NodeId {
        &self.shared.me.node
    }

    pub fn peer(&self) -> Peer {
        Peer { node: self.shared.me.node.clone(), pop: self.shared.me.pop.clone() }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local
    }

    /// All other nodes; the receiver wakes at each change of a state, an address or a link.
    pub fn members(&self) -> watch::Receiver<Arc<MemberTable>> {
        self.shared.table.subscribe()
    }

    /// What happens from now on. A slow owner loses the oldest events.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// The smoothed round trip to a node, if there is a connection and it was measured.
    pub fn rtt(&self, node: &NodeId) -> Option<Duration> {
        self.shared.links.read().get(node)?.rtt()
    }

    pub fn metrics(&self) -> FabricMetrics {
        self.shared.counters.members_refused.set(self.shared.core.lock().refused());
        self.shared.counters.read()
    }

    /// Waits for a connection to a node; true when there is one.
    pub async fn wait_linked(&self, node: &NodeId, within: Duration) -> bool {
        let mut table = self.members();
        let linked = table.wait_for(|table| table.get(node).is_some_and(|member| member.linked));
        matches!(timeout(within, linked).await, Ok(Ok(_)))
    }

    /// From now on calls of this name are answered by `handler`.
    pub fn serve_calls(&self, name: impl Into<String>, handler: impl CallHandler) {
        self.shared.handlers.calls.write().insert(name.into(), Arc::new(handler));
    }

    /// From now on message streams of this name go to `handler`.
    pub fn serve_streams(&self, name: impl Into<String>, handler: impl StreamHandler) {
        self.shared.handlers.streams.write().insert(name.into(), Arc::new(handler));
    }

    /// Calls another node. Fails at once when there is no connection. `within` bounds the wait
    /// for the answer's head; its body comes as it is read. Method, target, headers, body and
    /// trailers arrive as given; the version and the extensions do not travel.
    ///
    /// Dropping the future or the answer's body tells the other side, which drops its handler.
    pub async fn call(
        &self,
        node: &NodeId,
        name: &str,
        request: Request<Body>,
        within: Duration,
    ) -> Result<Response<Body>, Error> {
        let deadline = Instant::now() + within;
        let (parts, body) = request.into_parts();
        let open = Open {
            kind: Kind::Call,
            deadline_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            name: name.to_owned(),
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
        };
        let head = open.encode();
        let link = self.shared.link(node)?;
        let Channel { mut tx, mut rx } = link.open(deadline).await?;
        self.shared.counters.calls_made.one();
        let pump = match body {
            Body::Empty => {
                put_head(&mut tx, head, &Bytes::new(), true)?;
                None
            }
            Body::Full(bytes) => {
                put_head(&mut tx, head, &bytes, true)?;
                None
            }
            body @ Body::Stream(_) => {
                put_head(&mut tx, head, &Bytes::new(), false)?;
                let sending = async move {
                    // A failure shows on the other direction, as a reset.
                    let _ = body::send(&mut tx, body).await;
                };
                Some(Pump(self.shared.tasks.spawn(sending).abort_handle()))
            }
        };
        let late = Error::Deadline { what: "a call", after: within, sent: true };
        let (head, rest) = timeout_at(deadline, rx.head()).await.map_err(|_| late)??;
        let reply = self.taken(Reply::decode(head)?, node, name)?;
        let mut response = Response::new(Incoming::reply(rx, rest, pump));
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok(response)
    }

    /// Opens a message stream to another node. Fails at once when there is no connection;
    /// `within` bounds the wait for the other side's consent (one round trip).
    pub async fn open_stream(
        &self,
        node: &NodeId,
        name: &str,
        headers: HeaderMap,
        within: Duration,
    ) -> Result<MessageStream, Error> {
        let deadline = Instant::now() + within;
        let open = Open {
            kind: Kind::Stream,
            deadline_ms: u32::try_from(within.as_millis()).unwrap_or(u32::MAX),
            name: name.to_owned(),
            method: Method::POST,
            uri: Uri::from_static("/"),
            headers,
        };
        let link = self.shared.link(node)?;
        let mut channel = link.open(deadline).await?;
        put_head(&mut channel.tx, open.encode(), &Bytes::new(), false)?;
        let late = Error::Deadline { what: "opening a stream", after: within, sent: true };
        let (head, rest) = timeout_at(deadline, channel.rx.head()).await.map_err(|_| late)??;
        self.taken(Reply::decode(head)?, node, name)?;
        self.shared.counters.streams_opened.one();
        let limit = self.shared.config.limits.max_message;
        Ok(MessageStream::new(link.peer(), channel, limit, rest))
    }

    fn taken(&self, reply: Reply, node: &NodeId, name: &str) -> Result<Reply, Error> {
        match reply.outcome {
            Outcome::Taken => Ok(reply),
            Outcome::UnknownName => {
                Err(Error::UnknownName { node: node.clone(), name: name.to_owned() })
            }
            Outcome::Malformed => Err(Error::Protocol(format!("{node} could not read the head"))),
        }
    }

    /// Says goodbye, lets calls and streams finish for `grace`, then ends. True when all ended
    /// by themselves.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let shared = &self.shared;
        let links: Vec<_> = shared.links.read().values().cloned().collect();
        shared.closing.cancel();
        for link in &links {
            shared.retire(link, true, grace);
        }
        let drained = async {
            for link in &links {
                link.wire.close.cancelled().await;
            }
        };
        // Each link ends itself after the grace; a moment more only if the runtime is late.
        let ended = timeout(grace + Duration::from_secs(1), drained).await.is_ok();
        let clean = ended && links.iter().all(|link| !link.wire.forced.load(Ordering::Acquire));
        self.kill();
        // Handlers of streams end when they see that their stream has.
        clean && timeout(grace, shared.tasks.wait()).await.is_ok()
    }

    /// Ends at once without a word, as a crash would. For `verge pop kill` and tests.
    pub fn kill(&self) {
        if let Some(links) = &self.shared.config.links
            && !self.shared.killed.swap(true, Ordering::AcqRel)
        {
            links.unregister(&self.shared.local);
        }
        self.shared.tasks.close();
        self.shared.stop.cancel();
    }
}

/// Lets time pass for the membership.
async fn tick(shared: Arc<Shared>) {
    let pace = (shared.config.timing.heartbeat / 5).max(Duration::from_millis(10));
    let mut pace = tokio::time::interval(pace);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = pace.tick() => {}
            () = shared.closing.cancelled() => return,
        }
        let links: Vec<_> = shared.links.read().values().cloned().collect();
        shared.decide(|core, now| {
            let mut effects = Vec::new();
            for link in links {
                let heard = now.saturating_sub(link.wire.heard().elapsed());
                effects.extend(core.heard(heard, &link.record.node, link.id));
            }
            effects.extend(core.tick(now));
            effects
        });
    }
}
