//! One dataset's driver: feeds the cores with time and events, one at a time, and carries out
//! what they want done, in order.
//!
//! It is a task that lives while the dataset is in use. What takes long (the register, applying
//! segments, reading the log, snapshots) runs beside it as a job whose end is another event.
//!
//! Always: what a core wants persisted is durable before its next effect is begun; `now` is read
//! immediately before each call of a core.

mod follow;
mod lead;
mod life;
mod relay;
mod ship;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use verge_dataset::{Dataset, Header, Seeding, Snapshot, Subscription};
use verge_replicate::follow::{Follow, FollowConfig, Health, Replica};
use verge_replicate::lease::{Lease, LeaseConfig, Local, RegisterAnswer};
use verge_replicate::relay::Relay;
use verge_replicate::ship::Shipper;
use verge_replicate::upstream::Upstream;
use verge_replicate::wire::{self, Envelope, Message, Segment, SegmentHeader};
use verge_replicate::{Lineage, Moment, NodeId};
use verge_replicate::{follow as follow_core, lease as lease_core, ship as ship_core};
use verge_types::Position;

use crate::desk::Desk;
use crate::error::Error;
use crate::inner::Inner;
use crate::meta::Meta;

/// Time between two ticks while something happens, and while nothing does.
const TICK: Duration = Duration::from_millis(50);
const QUIET_TICK: Duration = Duration::from_millis(100);
/// Something happened less than this ago.
const BUSY_FOR: Duration = Duration::from_secs(1);
/// How long an installation under way is waited for at the end.
const INSTALL_END: Duration = Duration::from_secs(10);
/// Inputs for the cores that are gathered before they are worked off.
const MAX_QUEUED: usize = 1024;
/// Events that may wait for a driver; the cores bear the loss of messages beyond it.
pub(crate) const MAILBOX: usize = 16_384;

/// What happens to a driver.
pub(crate) enum Input {
    Message {
        from: NodeId,
        message: Message,
    },
    Link {
        node: NodeId,
        up: bool,
    },
    HandOver {
        to: NodeId,
        done: oneshot::Sender<Result<(), String>>,
    },
    /// End, in good order.
    Stop,
}

/// How a job ended.
enum Done {
    Register {
        op: u64,
        answer: RegisterAnswer,
    },
    Applied(Result<Position, verge_dataset::Error>),
    /// Answers the `stop`-th order to stop writes.
    Stopped {
        stop: u64,
    },
    Loaded {
        to: NodeId,
        session: u64,
        segments: Vec<Segment>,
    },
    Opened {
        to: NodeId,
        session: u64,
        opened: Result<(Snapshot, u64), verge_dataset::Error>,
    },
    Chunk {
        to: NodeId,
        session: u64,
        chunk: u64,
        lane: Box<Outgoing>,
        failed: bool,
    },
    Stored {
        seed: u64,
        chunk: u64,
        seeding: Option<Seeding>,
        installed: Installed,
    },
}

/// What became of a seed with a chunk.
enum Installed {
    NotYet,
    Yes(Arc<Dataset>),
    Failed(verge_dataset::Error),
}

/// An input for one of the cores.
enum Work {
    Lease(lease_core::Event),
    Ship(ship_core::Event),
    Follow(follow_core::Event),
}

/// A snapshot on its way to a follower. One chunk is read ahead, to know which is the last.
struct Outgoing {
    /// Never locked: a connection cannot be shared, and a driver's tasks look at all of it.
    snapshot: parking_lot::Mutex<Snapshot>,
    ahead: Option<Bytes>,
    current: Option<Bytes>,
}

/// A snapshot that is coming in.
struct Incoming {
    number: u64,
    /// Away while a chunk is being stored.
    seeding: Option<Seeding>,
    waiting: VecDeque<(u64, bool, Bytes)>,
    lineage: Lineage,
    position: Position,
    checksum: u64,
}

pub(crate) struct Driver {
    node: Arc<Inner>,
    desk: Arc<Desk>,
    dataset: Arc<Dataset>,
    meta: Meta,
    lease: Option<Lease>,
    follow: Follow,
    /// Whose replica this is, and by way of whom.
    followed: Option<NodeId>,
    upstream: Upstream,
    /// While primary, and while other replicas follow this one.
    shipper: Option<Shipper>,
    /// While other replicas follow this one.
    relay: Option<Relay>,
    /// The epoch in which we are primary.
    primary: Option<u64>,
    /// What the shipper ships: a whole lineage, and the log's end as shipped.
    lineage: Lineage,
    txid: u64,
    /// Our own log, as it grows; while there is a shipper.
    live: Option<Subscription>,
    applying: VecDeque<Segment>,
    /// Segments that the dataset is applying.
    in_hand: VecDeque<Segment>,
    /// While the file of a large segment is fetched from upstream; dropped to call that off.
    fetching: Option<oneshot::Sender<()>>,
    /// Orders to stop writes, counted.
    stops: u64,
    /// The dataset was closed or replaced under us: another driver must take over.
    superseded: bool,
    /// A snapshot is taking the data's place right now.
    installing: bool,
    snapshots: HashMap<(NodeId, u64), Option<Box<Outgoing>>>,
    seed: Option<Incoming>,
    seeds: u64,
    /// A segment too long for any message: who needs it needs a snapshot.
    unshippable: u64,
    hand_over: Option<oneshot::Sender<Result<(), String>>>,
    jobs: JoinSet<Done>,
    queue: VecDeque<Work>,
    positions: watch::Receiver<Position>,
    born: Moment,
    active: Moment,
    told_wanted: Moment,
}

impl Driver {
    /// A driver of what is on the disk.
    pub(crate) async fn new(
        node: Arc<Inner>,
        desk: Arc<Desk>,
        dataset: Arc<Dataset>,
    ) -> Result<Self, Error> {
        let mut meta = node.load_meta(desk.id.clone()).await?.unwrap_or_default();
        let (position, checksum) = dataset.checksum();
        if meta.settle(position, checksum) {
            node.save_meta(desk.id.clone(), meta.clone()).await?;
        }
        if meta.lineage.terms().is_empty() && position.epoch > 0 {
            // Made while the node was alone: all of it is of one epoch.
            let mut lineage = Lineage::default();
            if lineage.begin(position.epoch, 0).is_ok() && dataset_led(&dataset) {
                meta.lineage = lineage;
            }
        }
        let health = match dataset.role() {
            verge_dataset::Role::Quarantined => Health::Quarantined,
            _ => meta.health,
        };
        let now = node.clock.now();
        let replica = Replica {
            lineage: meta.lineage.clone(),
            txid: position.txid,
            checksum,
            fence: meta.fence,
            health,
        };
        let follow = Follow::new(FollowConfig::new(node.jitter(&desk.id)), replica, now);
        let lease = node
            .config
            .register
            .is_some()
            .then(|| Lease::new(lease_config(&node, &desk), meta.fence.max(dataset.epoch())));
        let positions = dataset.watch();
        Ok(Self {
            lineage: meta.lineage.clone(),
            txid: position.txid,
            node,
            desk,
            dataset,
            meta,
            lease,
            follow,
            followed: None,
            upstream: Upstream::default(),
            shipper: None,
            relay: None,
            primary: None,
            live: None,
            applying: VecDeque::new(),
            in_hand: VecDeque::new(),
            fetching: None,
            stops: 0,
            superseded: false,
            installing: false,
            snapshots: HashMap::new(),
            seed: None,
            seeds: 0,
            unshippable: 0,
            hand_over: None,
            jobs: JoinSet::new(),
            queue: VecDeque::new(),
            positions,
            born: now,
            active: now,
            told_wanted: Moment(0),
        })
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Message { from, message } => self.on_message(from, message),
            Input::Link { node, up: true } => {
                self.queue.push_back(Work::Follow(follow_core::Event::LinkUp { node }));
                self.choose_upstream();
            }
            Input::Link { node, up: false } => {
                self.queue.push_back(Work::Follow(follow_core::Event::LinkDown { node }));
                self.queue.push_back(Work::Ship(ship_core::Event::Gone { node }));
                self.choose_upstream();
            }
            Input::HandOver { to, done } => self.hand_over_to(to, done),
            Input::Stop => {}
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message) {
        self.active = self.node.clock.now();
        let work = match message {
            Message::Hello(hello) => {
                self.begin_relay(from);
                if self.shipper.is_none() {
                    self.send(from, Message::Goodbye { session: hello.session });
                    return;
                }
                self.ship_new();
                let (first, ours) = self.judge_hello(&hello);
                Work::Ship(ship_core::Event::Hello { from, hello, first, ours })
            }
            message @ (Message::Ack { .. }
            | Message::SnapshotAck { .. }
            | Message::Refused { .. }) => Work::Ship(ship_core::Event::Message { from, message }),
            Message::Poll(poll) => Work::Lease(lease_core::Event::Poll { from, poll }),
            Message::PollReply(reply) => Work::Lease(lease_core::Event::PollReply { from, reply }),
            Message::Offer { .. } => Work::Lease(lease_core::Event::Offered),
            message => {
                let turned_away = matches!(message, Message::Goodbye { .. });
                self.queue.push_back(Work::Follow(follow_core::Event::Message { from, message }));
                if turned_away {
                    self.turned_away(from);
                }
                return;
            }
        };
        self.queue.push_back(work);
    }

    async fn finished(&mut self, done: Done) {
        match done {
            Done::Register { op, answer } => {
                let answer = self.place(answer);
                self.queue.push_back(Work::Lease(lease_core::Event::Register { op, answer }));
            }
            // Writes may have been let in again meanwhile.
            Done::Stopped { stop } if stop != self.stops || self.desk.gate.is_open() => {}
            Done::Stopped { .. } => {
                // What the last writes appended, so that the end is final.
                self.ship_new();
                self.queue.push_back(Work::Lease(lease_core::Event::WritesStopped));
            }
            Done::Applied(result) => self.applied(result).await,
            Done::Loaded { to, session, segments } => {
                self.queue.push_back(Work::Ship(ship_core::Event::Loaded {
                    to,
                    session,
                    segments,
                }));
            }
            Done::Opened { to, session, opened } => self.snapshot_opened(to, session, opened),
            Done::Chunk { to, session, chunk, lane, failed } => {
                self.chunk_read(to, session, chunk, lane, failed);
            }
            Done::Stored { seed, chunk, seeding, installed } => {
                self.stored(seed, chunk, seeding, installed).await;
            }
        }
    }

    /// Feeds the cores until nothing is left to do.
    async fn dispatch(&mut self) -> Result<(), Error> {
        while let Some(work) = self.queue.pop_front() {
            match work {
                Work::Lease(event) => {
                    let lineage = self.current_lineage();
                    let (txid, sound) = (self.current_txid(), self.is_sound());
                    let Some(lease) = &mut self.lease else { continue };
                    let local = Local { lineage: &lineage, txid, sound };
                    let now = self.node.clock.now();
                    for effect in lease.on(event, local, now) {
                        self.lease_effect(effect).await?;
                    }
                }
                Work::Ship(event) => {
                    let Some(shipper) = &mut self.shipper else { continue };
                    for effect in shipper.on(event, self.node.clock.now()) {
                        self.ship_effect(effect);
                    }
                }
                Work::Follow(event) => {
                    for effect in self.follow.on(event, self.node.clock.now()) {
                        self.follow_effect(effect).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn current_lineage(&self) -> Lineage {
        if self.primary.is_some() { self.lineage.clone() } else { self.follow.lineage() }
    }

    fn current_txid(&self) -> u64 {
        if self.primary.is_some() { self.txid } else { self.follow.txid() }
    }

    /// What it acknowledged is in its data, and will be.
    fn is_sound(&self) -> bool {
        self.primary.is_some() || (self.follow.health() != Health::Quarantined && !self.installing)
    }

    async fn persist(&self) -> Result<(), Error> {
        self.node.save_meta(self.desk.id.clone(), self.meta.clone()).await
    }

    fn send(&self, to: NodeId, message: Message) {
        let Some(transport) = &self.node.transport else { return };
        let bulk = matches!(message, Message::SnapshotBegin { .. } | Message::SnapshotChunk { .. });
        let envelope = Envelope { dataset: self.desk.id.clone(), message };
        match wire::encode(&envelope) {
            Ok(bytes) => transport.send(to, bulk, bytes),
            Err(error) => tracing::error!(dataset = %self.desk.id, %error, "a message is too long"),
        }
    }
}

fn dataset_led(dataset: &Dataset) -> bool {
    matches!(dataset.role(), verge_dataset::Role::Primary { .. })
}

fn lease_config(node: &Inner, desk: &Desk) -> LeaseConfig {
    let timing = &node.config.timing;
    let voters = node.roster.voters.clone();
    let mut config = LeaseConfig::new(node.roster.me, node.incarnation, voters, node.config.ack);
    config.ttl = timing.lease_ttl;
    config.margin = timing.lease_margin;
    config.renew_every = timing.lease_renew_every;
    config.operation_timeout = timing.lease_renew_every;
    config.hand_over_limit = timing.hand_over_limit;
    config.jitter_seed = node.jitter(&desk.id);
    config
}

/// A segment of the log as the cores see it. One that is too long for any message is without its
/// bytes: see [`is_too_long`].
fn segment(header: &Header, bytes: Option<Bytes>) -> Segment {
    Segment {
        header: SegmentHeader {
            position: header.position,
            before: header.checksum_before,
            after: header.checksum_after,
            committed_ms: header.wall_ms,
        },
        bytes: bytes.unwrap_or_default(),
    }
}

/// No segment is empty.
fn is_too_long(segment: &Segment) -> bool {
    segment.bytes.is_empty()
}
