//! A node's insides: which datasets are attended to, and how messages find their drivers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use verge_dataset::{CreateOptions, Dataset, Error as DatasetError, Role, Store};
use verge_fabric::{MessageStream, Peer};
use verge_replicate::follow::Health;
use verge_replicate::wire::{self, Message};
use verge_replicate::{Lineage, Moment, NodeId};
use verge_services::sql::{Database, Node as SqlNode};
use verge_types::DatasetId;

use crate::clock::Clock;
use crate::config::NodeConfig;
use crate::desk::Desk;
use crate::driver::{Driver, Input, MAILBOX};
use crate::error::Error;
use crate::forward::Forwarder;
use crate::home::NodeHome;
use crate::meta::{Meta, MetaFolder};
use crate::names::Roster;
use crate::transport::{Assembly, Received, Transport};

/// A database as this node serves it.
pub type NodeDatabase = Database<NodeHome>;

/// One dataset that was used in this process.
pub(crate) struct Entry {
    pub(crate) desk: Arc<Desk>,
    pub(crate) database: Arc<NodeDatabase>,
    /// The way to its driver, while one runs.
    mailbox: Mutex<Option<mpsc::Sender<Input>>>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// The nodes that can be reached.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    pub(crate) nodes: Vec<NodeId>,
    /// The first of our own PoP, if it comes before us by its name.
    pub(crate) first_here: Option<NodeId>,
}

pub(crate) struct Inner {
    pub(crate) config: NodeConfig,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) roster: Arc<Roster>,
    pub(crate) incarnation: u64,
    pub(crate) transport: Option<Transport>,
    metas: MetaFolder,
    entries: Mutex<FxHashMap<DatasetId, Arc<Entry>>>,
    /// Datasets that were deleted here, and when: what is still on its way from others must not
    /// bring them back.
    deleted: Mutex<FxHashMap<DatasetId, Instant>>,
    changes: watch::Sender<u64>,
    linked: RwLock<Arc<Linked>>,
    stopping: AtomicBool,
    runtime: tokio::runtime::Handle,
    this: Weak<Inner>,
}

impl Inner {
    pub(crate) fn new(
        config: NodeConfig,
        store: Store,
        metas: MetaFolder,
        roster: Arc<Roster>,
    ) -> Arc<Self> {
        let transport = config.fabric.clone().map(|fabric| Transport::new(fabric, roster.clone()));
        Arc::new_cyclic(|this| Self {
            store,
            clock: Clock::new(),
            roster,
            incarnation: crate::clock::incarnation(),
            transport,
            metas,
            entries: Mutex::default(),
            deleted: Mutex::default(),
            changes: watch::Sender::new(0),
            linked: RwLock::default(),
            stopping: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::current(),
            this: this.clone(),
            config,
        })
    }

    /// The node where new datasets begin, or all of them stay without a register.
    pub(crate) fn home(&self) -> NodeId {
        let pop = self.config.placement.as_ref().unwrap_or(&self.config.pop);
        self.roster.first_of(pop).unwrap_or(self.roster.me)
    }

    pub(crate) fn jitter(&self, id: &DatasetId) -> u64 {
        self.roster.me.0 ^ self.incarnation.rotate_left(32) ^ (u64::from(id.tag()) << 16)
    }

    pub(crate) async fn load_meta(&self, id: DatasetId) -> Result<Option<Meta>, Error> {
        let metas = self.metas.clone();
        let io = Error::io("reading a replica's state");
        on_disk(move || metas.load(&id)).await.map_err(io)
    }

    pub(crate) async fn save_meta(&self, id: DatasetId, meta: Meta) -> Result<(), Error> {
        let metas = self.metas.clone();
        let io = Error::io("writing a replica's state");
        on_disk(move || metas.save(&id, &meta)).await.map_err(io)
    }

    pub(crate) async fn remove_meta(&self, id: DatasetId) -> Result<(), Error> {
        let metas = self.metas.clone();
        on_disk(move || metas.remove(&id)).await.map_err(Error::io("removing a replica's state"))
    }

    /// Something that a status shows has changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn entry(&self, id: &DatasetId) -> Option<Arc<Entry>> {
        self.entries.lock().get(id).cloned()
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().values().cloned().collect()
    }

    /// The dataset, attended to. `make` it if it is not here; where that leads depends on who is
    /// primary.
    pub(crate) async fn open(&self, id: &DatasetId, make: bool) -> Result<Arc<Entry>, Error> {
        if let Some(entry) = self.entry(id)
            && entry.mailbox.lock().is_some()
        {
            return Ok(entry);
        }
        if self.stopping.load(Ordering::SeqCst) {
            return Err(Error::ShuttingDown);
        }
        let dataset = self.find(id, make).await?;
        let entry = {
            let mut entries = self.entries.lock();
            entries.entry(id.clone()).or_insert_with(|| Arc::new(self.new_entry(id))).clone()
        };
        let mut task = entry.task.lock().await;
        if entry.mailbox.lock().is_some() {
            return Ok(entry.clone());
        }
        if self.transport.is_none() {
            let lineage = self.lineage_alone(id, &dataset).await?;
            self.lead_alone(&entry, &dataset, lineage);
            drop(task);
            return Ok(entry);
        }
        if let Some(old) = task.take() {
            // It is on its way out.
            let _ = old.await;
        }
        let Some(this) = self.this.upgrade() else { return Err(Error::ShuttingDown) };
        let dataset = self.find(id, make).await?;
        let driver = Driver::new(this, entry.desk.clone(), dataset).await?;
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        entry.desk.want();
        entry.desk.change(|standing| standing.awake = true);
        *entry.mailbox.lock() = Some(sender);
        if self.stopping.load(Ordering::SeqCst) {
            *entry.mailbox.lock() = None;
            return Err(Error::ShuttingDown);
        }
        *task = Some(tokio::spawn(driver.run(mailbox)));
        drop(task);
        Ok(entry)
    }

    fn new_entry(&self, id: &DatasetId) -> Entry {
        let desk = Arc::new(Desk::new(id.clone(), self.clock));
        let home =
            NodeHome { desk: desk.clone(), store: self.store.clone(), node: self.this.clone() };
        let forward = self.transport.is_some().then(|| Forwarder::shared(self.this.clone()));
        let node = SqlNode {
            served_by: self.config.node.to_string(),
            region: self.config.pop.as_str().to_owned(),
        };
        let database = Database::new(home, forward, node, self.config.policy);
        Entry {
            desk,
            database: Arc::new(database),
            mailbox: Mutex::new(None),
            task: tokio::sync::Mutex::new(None),
        }
    }

    /// Where the history of a dataset comes from that this node leads without others. One that was
    /// in a fleet has a lineage, so that bookmarks of those times are still judged rightly.
    async fn lineage_alone(&self, id: &DatasetId, dataset: &Dataset) -> Result<Lineage, Error> {
        let epoch = dataset.epoch();
        let mut meta = self.load_meta(id.clone()).await?.unwrap_or_default();
        if meta.lineage.terms().is_empty() {
            // An epoch above none cannot be refused.
            let _ = meta.lineage.begin(epoch, 0);
        } else if meta.lineage.epoch() < epoch {
            // First thing after it was promoted here: nothing was written in this epoch yet.
            let begun = meta.lineage.begin(epoch, dataset.position().txid);
            begun.map_err(|error| Error::Config(error.to_string()))?;
            self.save_meta(id.clone(), meta.clone()).await?;
        }
        Ok(meta.lineage)
    }

    /// A node without others is primary of all that it has.
    fn lead_alone(&self, entry: &Entry, dataset: &Dataset, lineage: Lineage) {
        let epoch = dataset.epoch();
        let me = self.roster.me;
        entry.desk.change(|standing| {
            standing.awake = true;
            standing.primary = Some(me);
            standing.ours = Some(epoch);
            standing.has_history = true;
            standing.synced = true;
            standing.lineage = lineage;
        });
        if matches!(dataset.role(), Role::Primary { .. }) {
            entry.desk.set_until(Moment(u64::MAX));
            entry.desk.gate.open();
        }
    }

    async fn find(&self, id: &DatasetId, make: bool) -> Result<Arc<Dataset>, Error> {
        let (store, metas, id) = (self.store.clone(), self.metas.clone(), id.clone());
        let alone = self.transport.is_none();
        let leads = alone || (self.config.register.is_none() && self.home() == self.roster.me);
        let follows = !leads && self.roster.voters.len() > 1;
        let finding = move || match store.get(&id) {
            Err(DatasetError::NotFound(_)) if make => {
                let options = CreateOptions::default();
                let made = if leads {
                    store.create(&id, options)
                } else {
                    store.create_replica(&id, options)
                };
                match made {
                    // Somebody else made it meanwhile.
                    Err(DatasetError::Exists(_)) => store.get(&id),
                    made => made,
                }
            }
            // Others have it, and will seed it again.
            Err(error @ DatasetError::Corrupt { .. }) if follows => {
                // It does not vote until then: what it has acknowledged is not in it any more.
                let io = |error| DatasetError::from_io("writing a replica's state", error);
                let known = metas.load(&id).map_err(io)?.unwrap_or_default();
                let fence = known.fence.max(known.lineage.epoch());
                let health = Health::Quarantined;
                metas.save(&id, &Meta { fence, health, ..Meta::default() }).map_err(io)?;
                let kept = store.set_damaged_aside(&id)?;
                tracing::error!(dataset = %id, %error, kept = %kept.display(),
                    "a copy is damaged: it is set aside, and made anew from its primary");
                store.create_replica(&id, CreateOptions::default())
            }
            found => found,
        };
        let dataset = match spawn_blocking(finding).await {
            Ok(Ok(dataset)) => dataset,
            Ok(Err(DatasetError::NotFound(id))) => return Err(Error::NoDataset(id)),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(Error::ShuttingDown),
        };
        if alone && !matches!(dataset.role(), Role::Primary { .. }) {
            // It was a replica in a fleet; alone there is nobody else to lead it.
            let epoch = dataset.epoch() + 1;
            dataset.promote(epoch).await?;
        }
        Ok(dataset)
    }

    /// Attends to a dataset again, from a place that cannot wait.
    pub(crate) fn wake(&self, id: &DatasetId) {
        let Some(this) = self.this.upgrade() else { return };
        let id = id.clone();
        self.runtime.spawn(async move {
            if let Err(error) = this.open(&id, false).await {
                tracing::debug!(dataset = %id, %error, "a dataset was not woken");
            }
        });
    }

    /// Takes a driver's mailbox away if nobody wants the dataset. True: the driver may end.
    pub(crate) fn retire(&self, desk: &Desk) -> bool {
        let Some(entry) = self.entry(&desk.id) else { return true };
        *entry.mailbox.lock() = None;
        true
    }

    /// A driver has ended.
    pub(crate) fn rested(&self, desk: &Desk) {
        if let Some(entry) = self.entry(&desk.id) {
            *entry.mailbox.lock() = None;
        }
        self.changed();
    }

    /// Tells the other nodes that a dataset is in use.
    pub(crate) fn tell_wanted(&self, id: &DatasetId) {
        let Some(transport) = &self.transport else { return };
        for (node, _) in self.roster.others() {
            transport.send_wanted(node, id);
        }
    }

    /// Hands something to a driver; false if none runs or it has no room.
    pub(crate) fn tell(&self, id: &DatasetId, input: Input) -> bool {
        let Some(entry) = self.entry(id) else { return false };
        let mailbox = entry.mailbox.lock();
        mailbox.as_ref().is_some_and(|mailbox| mailbox.try_send(input).is_ok())
    }

    /// Reads one incoming stream to its end.
    pub(crate) async fn listen(&self, from: Peer, mut stream: MessageStream) {
        let from = self.roster.met(&from);
        let mut assembly = Assembly::default();
        loop {
            let frame = match stream.recv().await {
                Ok(Some(frame)) => frame,
                Ok(None) | Err(_) => return,
            };
            match assembly.take(frame) {
                Ok(Some(Received::Message(bytes))) => match wire::decode(bytes) {
                    Ok(envelope) => self.deliver(from, envelope.dataset, envelope.message),
                    Err(error) => {
                        tracing::warn!(%from, %error, "a message that cannot be read");
                        return;
                    }
                },
                Ok(Some(Received::Wanted(id))) => match self.entry(&id) {
                    Some(entry) if entry.mailbox.lock().is_some() => entry.desk.want(),
                    _ => self.attend(id, None),
                },
                Ok(None) => {}
                Err(_) => {
                    tracing::warn!(%from, "a frame that no node sends");
                    return;
                }
            }
        }
    }

    fn deliver(&self, from: NodeId, id: DatasetId, message: Message) {
        let begins =
            matches!(message, Message::Hello(_) | Message::Poll(_) | Message::Offer { .. });
        if begins && self.entry(&id).is_none_or(|entry| entry.mailbox.lock().is_none()) {
            self.attend(id, Some(Input::Message { from, message }));
        } else {
            self.tell(&id, Input::Message { from, message });
        }
    }

    /// Another node has to do with a dataset: so has this one.
    fn attend(&self, id: DatasetId, first: Option<Input>) {
        if self.was_deleted(&id) {
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        tokio::spawn(async move {
            match this.open(&id, true).await {
                Ok(entry) => {
                    entry.desk.want();
                    if let Some(first) = first {
                        this.tell(&id, first);
                    }
                }
                Err(error) => tracing::warn!(dataset = %id, %error, "cannot attend to a dataset"),
            }
        });
    }

    fn linked_of(&self, members: &[(Peer, bool)]) -> Linked {
        let up = members.iter().filter(|(_, up)| *up).map(|(peer, _)| peer);
        let here = up.clone().filter(|peer| peer.pop == self.config.pop);
        let first = here.min_by(|a, b| a.node.cmp(&b.node));
        let first = first.filter(|peer| peer.node < self.config.node);
        Linked {
            nodes: up.map(|peer| self.roster.met(peer)).collect(),
            first_here: first.map(|peer| self.roster.met(peer)),
        }
    }

    /// Tells every driver of links that came or went.
    pub(crate) async fn watch_links(self: Arc<Self>) {
        let Some(fabric) = self.config.fabric.clone() else { return };
        let mut table = fabric.members();
        let mut linked: FxHashMap<NodeId, bool> = FxHashMap::default();
        let weak = Arc::downgrade(&self);
        drop(self);
        loop {
            let now: Vec<_> = {
                let table = table.borrow_and_update();
                table.members.values().map(|m| (m.peer.clone(), m.linked)).collect()
            };
            let Some(this) = weak.upgrade() else { return };
            *this.linked.write() = Arc::new(this.linked_of(&now));
            for (peer, up) in now {
                let node = this.roster.met(&peer);
                if linked.insert(node, up).unwrap_or(false) == up {
                    continue;
                }
                for entry in this.entries() {
                    this.tell(&entry.desk.id, Input::Link { node, up });
                }
                this.changed();
            }
            drop(this);
            if table.changed().await.is_err() {
                return;
            }
        }
    }

    /// The nodes that can be reached.
    pub(crate) fn linked(&self) -> Arc<Linked> {
        self.linked.read().clone()
    }

    /// Of these, the nearest first.
    pub(crate) fn by_distance(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let far = |node: &NodeId| {
            let peer = self.roster.peer(*node)?;
            self.config.fabric.as_ref()?.rtt(&peer.node)
        };
        let mut nodes = nodes.to_vec();
        nodes.sort_by_cached_key(|node| far(node).unwrap_or(Duration::MAX));
        nodes
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Ends all drivers; in good order, or at once.
    pub(crate) async fn stop(&self, at_once: bool) {
        self.stopping.store(true, Ordering::SeqCst);
        for entry in self.entries() {
            entry.desk.gate.close();
            if at_once {
                if let Some(task) = &*entry.task.lock().await {
                    task.abort();
                }
            } else {
                let mailbox = entry.mailbox.lock().clone();
                if let Some(mailbox) = mailbox {
                    // A full mailbox empties, since its driver runs.
                    let _ = mailbox.send(Input::Stop).await;
                }
            }
        }
        for entry in self.entries() {
            if let Some(task) = entry.task.lock().await.take() {
                let _ = task.await;
            }
            entry.desk.change(|standing| {
                standing.ours = None;
                standing.awake = false;
            });
            *entry.mailbox.lock() = None;
        }
    }

    /// Notes that a dataset goes for good.
    pub(crate) fn note_deletion(&self, id: &DatasetId) {
        let mut deleted = self.deleted.lock();
        deleted.retain(|_, when| when.elapsed() < DELETED_FOR);
        deleted.insert(id.clone(), Instant::now());
    }

    /// Somebody makes a dataset of that name anew.
    pub(crate) fn forget_deletion(&self, id: &DatasetId) {
        self.deleted.lock().remove(id);
    }

    fn was_deleted(&self, id: &DatasetId) -> bool {
        self.deleted.lock().get(id).is_some_and(|when| when.elapsed() < DELETED_FOR)
    }

    /// Forgets a dataset, whose driver has ended.
    pub(crate) async fn drop_entry(&self, id: &DatasetId) {
        let Some(entry) = self.entry(id) else { return };
        let mailbox = entry.mailbox.lock().clone();
        if let Some(mailbox) = mailbox {
            let _ = mailbox.send(Input::Stop).await;
        }
        if let Some(task) = entry.task.lock().await.take() {
            let _ = task.await;
        }
        entry.desk.gate.close();
        self.entries.lock().remove(id);
    }
}

/// Runs something short that touches the disk, off the runtime's own threads.
pub(crate) async fn on_disk<T: Send + 'static>(
    act: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    spawn_blocking(act).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

/// How long messages of other nodes do not bring a deleted dataset back: longer than any is on its
/// way.
const DELETED_FOR: Duration = Duration::from_secs(3);

/// Longest wait of a loop that looks for a condition.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(20);
