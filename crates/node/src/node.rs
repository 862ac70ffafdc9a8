//! A node: started, asked, ended.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};
use verge_dataset::{Store, StoreConfig};
use verge_fabric::Peer;
use verge_types::{Body, DatasetId};

use crate::config::NodeConfig;
use crate::control::{self, Command};
use crate::error::{Code, Error, Told};
use crate::inner::{Inner, LOOK_EVERY, NodeDatabase};
use crate::lock::NodeLock;
use crate::meta::MetaFolder;
use crate::names::Roster;
use crate::status::DatasetStatus;
use crate::{forward, large, transport};

/// The fabric's name of nodes' questions to each other.
const CALL: &str = "node";
/// How often an opening looks after its driver.
const OPEN_LOOK: Duration = Duration::from_millis(250);
const MAX_ANSWER: usize = 64 << 20;
/// How long one node waits for another's answer to a question.
const ASK_WITHIN: Duration = Duration::from_secs(10);
/// How long the end of the last readers is waited for.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// One PoP's data plane. Cheap to clone; ends by [`Node::shutdown`] or [`Node::kill`].
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
    held: Arc<Held>,
}

/// What ends with the node.
pub(crate) struct Held {
    lock: parking_lot::Mutex<Option<NodeLock>>,
    tasks: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }
}

impl Node {
    /// Takes the folder and begins to serve. Datasets are looked at when they are used.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Config`], and what the disk says.
    pub async fn start(config: NodeConfig) -> Result<Self, Error> {
        check(&config)?;
        let (data, settings, max_open) =
            (config.data.clone(), config.settings.clone(), config.max_open);
        let opening = spawn_blocking(move || {
            let lock = NodeLock::take(&data)?;
            let mut store = StoreConfig::new(data.join("datasets"));
            store.settings = settings;
            store.max_open = max_open;
            let store = Store::open(store)?;
            let metas = MetaFolder::open(data.join("replicas"))
                .map_err(Error::io("making the folder of replicas' states"))?;
            Ok::<_, Error>((lock, store, metas))
        });
        let (lock, store, metas) = opening.await.map_err(|_| Error::ShuttingDown)??;
        let roster = Arc::new(Roster::new(&config.peer(), &config.voters));
        let control = config.control;
        let inner = Inner::new(config, store, metas, roster);
        let held = Held { lock: parking_lot::Mutex::new(Some(lock)), tasks: Default::default() };
        let node = Self { inner, held: Arc::new(held) };
        node.serve_fleet();
        if control {
            let (path, task) = control::serve(&node)?;
            if let Some(lock) = &*node.held.lock.lock() {
                lock.announce(Some(path))?;
            }
            node.held.tasks.lock().push(task);
        }
        Ok(node)
    }

    /// True for clones of one node; one that was started again is another.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn downgrade(&self) -> (Weak<Inner>, Weak<Held>) {
        (Arc::downgrade(&self.inner), Arc::downgrade(&self.held))
    }

    pub(crate) fn upgrade(inner: &Weak<Inner>, held: &Weak<Held>) -> Option<Self> {
        Some(Self { inner: inner.upgrade()?, held: held.upgrade()? })
    }

    fn serve_fleet(&self) {
        let Some(fabric) = &self.inner.config.fabric else { return };
        // Weak: the fabric keeps its handlers, and the node keeps the fabric.
        for name in [transport::STREAM, transport::BULK] {
            let inner = Arc::downgrade(&self.inner);
            fabric.serve_streams(name, move |from: Peer, _, stream| {
                let inner = inner.clone();
                async move {
                    if let Some(inner) = inner.upgrade() {
                        inner.listen(from, stream).await;
                    }
                }
            });
        }
        let inner = Arc::downgrade(&self.inner);
        fabric.serve_calls(forward::CALL, move |context, request| {
            let inner = inner.upgrade();
            async move {
                match inner {
                    Some(inner) => forward::serve(inner, context, request).await,
                    None => gone(),
                }
            }
        });
        let inner = Arc::downgrade(&self.inner);
        fabric.serve_calls(large::CALL, move |_, request| {
            let inner = inner.upgrade();
            async move {
                match inner {
                    Some(inner) => large::serve(inner, request).await,
                    None => gone(),
                }
            }
        });
        let (inner, held) = (Arc::downgrade(&self.inner), Arc::downgrade(&self.held));
        fabric.serve_calls(CALL, move |_, request| {
            let node = inner.upgrade().zip(held.upgrade());
            async move {
                match node {
                    Some((inner, held)) => Self { inner, held }.answer(request).await,
                    None => gone(),
                }
            }
        });
        let watch = tokio::spawn(self.inner.clone().watch_links());
        self.held.tasks.lock().push(watch);
    }

    /// Answers another node's question.
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let body = Limited::new(request.into_body(), MAX_ANSWER).collect().await;
        let command = match body {
            Ok(body) => serde_json::from_slice::<Command>(&body.to_bytes()),
            Err(_) => return gone(),
        };
        let result = match command {
            Ok(command) => self.run(command).await.map_err(|error| Told::from(&error)),
            Err(error) => Err(Told { code: Code::Other, message: error.to_string() }),
        };
        Response::new(Body::from(serde_json::to_string(&result).unwrap_or_default()))
    }

    /// Asks another node what it would answer to a command.
    pub(crate) async fn ask(
        &self,
        peer: &Peer,
        command: &Command,
    ) -> Result<serde_json::Value, Error> {
        let fabric = self.inner.config.fabric.as_ref().ok_or(Error::ShuttingDown)?;
        let text = serde_json::to_string(command).map_err(|e| Error::Command(e.to_string()))?;
        let request = Request::new(Body::from(text));
        let response = fabric.call(&peer.node, CALL, request, ASK_WITHIN).await?;
        let body = timeout(ASK_WITHIN, Limited::new(response.into_body(), MAX_ANSWER).collect());
        let bytes = match body.await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => return Err(Error::Command(format!("{} did not answer", peer.node))),
        };
        let result: Result<serde_json::Value, Told> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Command(format!("{}: {error}", peer.node)))?;
        result.map_err(Error::Told)
    }

    /// A database for apps. The first use of its name in the fleet makes it, at the placement's
    /// PoP; the first use here makes a copy here, and waits for its data.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if nobody has it who can be reached.
    pub async fn database(&self, id: &DatasetId) -> Result<Arc<NodeDatabase>, Error> {
        let deadline = Instant::now() + self.inner.config.timing.open_patience;
        let entry = loop {
            // Again and again: it must not go to rest while it is waited for.
            let entry = self.inner.open(id, true).await?;
            entry.desk.touch();
            let mut standing = entry.desk.watch();
            let ready = standing.wait_for(|standing| standing.has_history || standing.synced);
            if matches!(timeout(OPEN_LOOK, ready).await, Ok(Ok(_))) {
                break entry;
            }
            if Instant::now() >= deadline {
                let primary = entry.desk.standing().primary;
                let why = match primary.and_then(|node| self.inner.roster.peer(node)) {
                    Some(primary) => format!("its primary {primary} sent nothing yet"),
                    None => "nobody is its primary".to_owned(),
                };
                return Err(Error::Unavailable { dataset: id.clone(), why });
            }
        };
        Ok(entry.database.clone())
    }

    /// Like [`Node::database`], for one that is here already.
    ///
    /// # Errors
    /// [`Error::NoDataset`] if this node has no copy.
    pub async fn existing(&self, id: &DatasetId) -> Result<Arc<NodeDatabase>, Error> {
        self.inner.open(id, false).await?;
        self.database(id).await
    }

    /// Ids of the datasets of which this node has a copy.
    pub async fn list(&self) -> Result<Vec<DatasetId>, Error> {
        let store = self.inner.store.clone();
        Ok(spawn_blocking(move || store.list()).await.map_err(|_| Error::ShuttingDown)??)
    }

    /// Every dataset that was used in this process, on this node.
    pub fn status(&self) -> Vec<DatasetStatus> {
        let entries = self.inner.entries();
        let mut all: Vec<_> =
            entries.iter().filter_map(|entry| self.inner.status_of(&entry.desk.id).ok()).collect();
        all.sort_by(|a, b| a.dataset.cmp(&b.dataset));
        all
    }

    /// One dataset on this node.
    pub fn status_of(&self, id: &DatasetId) -> Result<DatasetStatus, Error> {
        self.inner.status_of(id)
    }

    /// One dataset on every node that can be reached, with how far each is behind.
    pub async fn lag(&self, id: &DatasetId) -> Result<Vec<DatasetStatus>, Error> {
        let mut all = Vec::new();
        if let Ok(own) = self.inner.status_of(id) {
            all.push(own);
        }
        let command = Command::Info { dataset: id.to_string() };
        for (_, peer) in self.inner.roster.others() {
            if let Ok(answer) = self.ask(&peer, &command).await
                && let Ok(status) = serde_json::from_value(answer)
            {
                all.push(status);
            }
        }
        if all.is_empty() {
            return Err(Error::NoDataset(id.clone()));
        }
        DatasetStatus::compare(&mut all);
        Ok(all)
    }

    /// Rises with each change of a role, a primary, a follower or a link. Positions move more
    /// often: look at [`Node::status`] at one's own pace too.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes()
    }

    /// Messages between nodes that were dropped for want of a link or of room; the cores ask again.
    pub fn dropped_messages(&self) -> u64 {
        self.inner.transport.as_ref().map_or(0, transport::Transport::dropped)
    }

    /// Ends in good order: running writes end, files are closed. The fabric stays the caller's.
    pub async fn shutdown(&self) {
        self.end(false).await;
    }

    /// Ends as a crash would, for `verge pop kill`: nothing is said to anyone, nobody is waited
    /// for. What was acknowledged is on the disk. The fabric is killed too.
    pub async fn kill(&self) {
        if let Some(fabric) = &self.inner.config.fabric {
            fabric.kill();
        }
        self.end(true).await;
    }

    async fn end(&self, at_once: bool) {
        self.inner.stop(at_once).await;
        for task in self.held.tasks.lock().drain(..) {
            task.abort();
        }
        let store = self.inner.store.clone();
        let closing = spawn_blocking(move || {
            // Files must be closed before this process may open them again.
            let until = std::time::Instant::now() + CLOSE_PATIENCE;
            loop {
                store.close_all();
                if store.open_count() == 0 || std::time::Instant::now() >= until {
                    return;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let _ = closing.await;
        *self.held.lock.lock() = None;
    }
}

fn gone() -> Response<Body> {
    let mut response = Response::new(Body::from("this node is shutting down"));
    *response.status_mut() = http::StatusCode::MISDIRECTED_REQUEST;
    response
}

fn check(config: &NodeConfig) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::Config(what));
    let Some(fabric) = &config.fabric else {
        return if config.register.is_some() {
            wrong("a lease register needs a fabric: a single node is primary of all".to_owned())
        } else {
            Ok(())
        };
    };
    if *fabric.node() != config.node {
        return wrong(format!("the fabric is {}'s, not {}'s", fabric.node(), config.node));
    }
    if config.voters.is_empty() {
        return wrong("with a fabric the nodes that may be primary must be named".to_owned());
    }
    let placement = config.placement.as_ref().unwrap_or(&config.pop);
    if !config.voters.iter().any(|voter| voter.pop == *placement) {
        return wrong(format!(
            "no voter stands in {}, where new datasets begin",
            placement.as_str()
        ));
    }
    if config.register.is_none() && config.ack != verge_replicate::AckMode::Local {
        // Works, but the consent of others protects nothing that could take over.
        tracing::warn!("without a lease register there is no failover, whatever the ack mode");
    }
    Ok(())
}
