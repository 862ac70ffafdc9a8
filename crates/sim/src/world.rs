//! Virtual time: one queue of events, one register, the end of a run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bytes::Bytes;
use verge_replicate::Moment;
use verge_replicate::lease::{self, Record, RegisterAnswer};
use verge_types::{DatasetId, Position};

use crate::clients::{Client, Outcome, Request};
use crate::content::Content;
use crate::files::Files;
use crate::history::{History, Relied, Violation};
use crate::model::{self, Model};
use crate::net::{Net, REGISTER};
use crate::node::{Node, Work};
use crate::plan::{MILLISECOND, Plan, SECOND};
use crate::rng::Rng;
use crate::storage::{Fault, Storage};

/// Events of one run at most; more is a loop.
const MAX_EVENTS: u64 = 3_000_000;
/// How often the cores are ticked.
const TICK: u64 = 20 * MILLISECOND;

/// A call of the register.
#[derive(Clone, Copy, Debug)]
pub enum RegisterCall {
    Read { op: u64 },
    Swap { op: u64, expected: Option<Record>, new: Record },
}

/// Something that happens at a moment.
#[derive(Clone, Debug)]
pub enum Event {
    Tick { node: usize, life: u64 },
    Deliver { from: usize, to: usize, bytes: Bytes },
    Register { node: usize, life: u64, call: RegisterCall },
    Registered { node: usize, life: u64, op: u64, answer: RegisterAnswer },
    Synced { node: usize, life: u64 },
    Applied { node: usize, life: u64, failed: bool },
    Stored { node: usize, life: u64, seed: u64, chunk: u64, last: bool },
    Request { node: usize, request: Request },
    Again { node: usize, life: u64, request: Request },
    Reply { client: usize, number: u64, outcome: Outcome },
    Ask { client: usize },
    Restart { node: usize },
    Space { node: usize },
    Fault,
    Heal,
}

impl Event {
    /// Whose process handles it, and which life of it.
    fn place(&self) -> Option<(usize, Option<u64>)> {
        match self {
            Self::Tick { node, life }
            | Self::Registered { node, life, .. }
            | Self::Synced { node, life }
            | Self::Applied { node, life, .. }
            | Self::Stored { node, life, .. }
            | Self::Again { node, life, .. } => Some((*node, Some(*life))),
            Self::Deliver { to: node, .. } | Self::Request { node, .. } => Some((*node, None)),
            _ => None,
        }
    }
}

/// Everything there is.
pub struct World {
    pub plan: Plan,
    pub rng: Rng,
    pub time: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    pub nodes: Vec<Node>,
    /// Milliseconds by which each wall clock is off.
    pub wall_offset: Vec<u64>,
    pub net: Net,
    pub clients: Vec<Client>,
    pub ops: BTreeMap<(usize, u64), u32>,
    pub next_op: u32,
    register: Option<Record>,
    pub dataset: DatasetId,
    pub history: History,
    pub rare_done: bool,
    pub promotions: u64,
    pub hand_overs: u64,
    pub snapshots: u64,
    /// How often a replica began to serve others.
    pub relays: u64,
    pub quarantines: u64,
    pub served: u64,
    /// Reads in the middle of a sync, and the positions they were told.
    pub glimpses: Vec<(Content, Position)>,
    tracing: bool,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    pub violations: Vec<Violation>,
    pub events: u64,
    pub acknowledged: usize,
    pub served: u64,
    pub promotions: u64,
    pub hand_overs: u64,
    pub snapshots: u64,
    pub relays: u64,
    pub quarantines: u64,
    pub lost_bookmarks: usize,
    /// Change with anything that happened, and with all that was committed, read and told: two
    /// runs of a seed have the same.
    pub fingerprint: u64,
    pub history: u64,
}

/// Runs a plan to its end. `tracing` writes each step to standard error.
pub fn run(plan: Plan, tracing: bool) -> Report {
    let mut world = World::new(plan, tracing);
    let mut handled = 0;
    let mut fingerprint = 0u64;
    while let Some(Reverse((time, number))) = world.queue.pop() {
        let Some(event) = world.events.remove(&number) else { continue };
        if time > world.plan.end || !world.history.violations.is_empty() {
            break;
        }
        handled += 1;
        if handled > MAX_EVENTS {
            world.history.broken("progress", time, "the run does not end".into());
            break;
        }
        fingerprint = (fingerprint ^ time ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(5);
        world.time = time;
        world.handle(event);
    }
    if world.history.violations.is_empty() {
        world.judge();
    }
    Report {
        seed: world.plan.seed,
        history: world.history.hash(),
        violations: std::mem::take(&mut world.history.violations),
        events: handled,
        acknowledged: world.history.acknowledged,
        served: world.served,
        promotions: world.promotions,
        hand_overs: world.hand_overs,
        snapshots: world.snapshots,
        relays: world.relays,
        quarantines: world.quarantines,
        lost_bookmarks: world.history.lost_bookmarks,
        fingerprint,
    }
}

impl World {
    fn new(plan: Plan, tracing: bool) -> Self {
        let mut rng = Rng::new(plan.seed);
        let count = plan.nodes() as usize;
        #[expect(clippy::expect_used, reason = "a constant")]
        let dataset: DatasetId = "sim/main".parse().expect("a dataset id");
        let archive = model::Archive::default();
        let nodes = (0..count)
            .map(|node| Node {
                storage: storage(&plan, &dataset, &archive, &mut rng),
                clock_offset: rng.range(0, 1 << 40),
                // Half a percent of drift, far more than quartz has.
                clock_rate: match (node, plan.bad_clock) {
                    (0, true) => 250_000,
                    _ => rng.range(995_000, 1_005_000),
                },
                paused_until: 0,
                life: 0,
                process: None,
                kill_in: None,
            })
            .collect();
        let clients = (0..plan.clients)
            .map(|_| Client {
                home: rng.index(count),
                session: verge_replicate::session::Session::default(),
                relied: Relied::default(),
                waiting: None,
                next: 0,
            })
            .collect();
        let mut world = Self {
            rng,
            time: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            nodes,
            wall_offset: vec![1_700_000_000_000; count],
            net: Net::default(),
            clients,
            ops: BTreeMap::new(),
            next_op: 1,
            register: None,
            dataset,
            history: History::new(plan.bad_clock, plan.files),
            rare_done: false,
            promotions: 0,
            hand_overs: 0,
            snapshots: 0,
            relays: 0,
            quarantines: 0,
            served: 0,
            glimpses: Vec::new(),
            tracing,
            plan,
        };
        if !world.plan.files {
            world.history.genesis = Some(model::genesis());
        }
        for node in 0..count {
            world.start(node);
        }
        for client in 0..world.clients.len() {
            world.after(200 * MILLISECOND, Event::Ask { client });
        }
        world.after(world.plan.fault_every, Event::Fault);
        world.after(world.plan.trouble, Event::Heal);
        world
    }

    pub fn after(&mut self, delay: u64, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.queue.push(Reverse((self.time + delay, number)));
        self.events.insert(number, event);
    }

    /// Until then something is written; then the copies must become equal.
    pub fn is_busy(&self) -> bool {
        self.time <= self.plan.trouble + 8 * SECOND
    }

    /// A node's monotonic clock.
    pub fn clock(&self, node: usize) -> Moment {
        let machine = &self.nodes[node];
        Moment(machine.clock_offset + self.time * machine.clock_rate / 1_000_000)
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.tracing {
            eprintln!("{:>9.3} {}", self.time as f64 / 1e6, line());
        }
    }

    fn handle(&mut self, event: Event) {
        if let Some((node, life)) = event.place() {
            let machine = &self.nodes[node];
            if machine.process.is_none() || life.is_some_and(|life| life != machine.life) {
                return;
            }
            if self.time < machine.paused_until {
                let left = machine.paused_until - self.time;
                self.after(left, event);
                return;
            }
            self.set_clock(node);
            self.happen(event);
            self.look_after(node);
        } else {
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node, life } => {
                self.tick(node);
                self.after(TICK, Event::Tick { node, life });
            }
            Event::Deliver { from, to, bytes } => self.receive(from, to, bytes),
            Event::Register { node, life, call } => self.register(node, life, call),
            Event::Registered { node, op, answer, .. } => {
                let event = lease::Event::Register { op, answer };
                self.dispatch(node, vec![Work::Lease(event)]);
            }
            Event::Synced { node, .. } => self.synced(node),
            Event::Applied { node, failed, .. } => self.applied(node, failed),
            Event::Stored { node, seed, chunk, last, .. } => self.stored(node, seed, chunk, last),
            Event::Request { node, request } | Event::Again { node, request, .. } => {
                if request.write.is_some() {
                    self.ops.insert((request.client, request.number), request.op);
                }
                self.serve(node, request);
            }
            Event::Reply { client, number, outcome } => self.answered(client, number, outcome),
            Event::Ask { client } => self.ask(client),
            Event::Restart { node } => {
                if self.nodes[node].process.is_none() {
                    self.start(node);
                }
            }
            Event::Space { node } => self.nodes[node].storage.fault(Fault::Space),
            Event::Fault => self.fault(),
            Event::Heal => self.heal(),
        }
    }

    /// The register does one thing at a time; its answers may be lost.
    fn register(&mut self, node: usize, life: u64, call: RegisterCall) {
        let (op, answer) = match call {
            RegisterCall::Read { op } => (op, RegisterAnswer::Value(self.register)),
            RegisterCall::Swap { op, expected, new } => {
                if self.register == expected {
                    self.register = Some(new);
                    self.trace(|| format!("register {new:?}"));
                    (op, RegisterAnswer::Swapped)
                } else {
                    (op, RegisterAnswer::Conflict(self.register))
                }
            }
        };
        for delay in self.net.copies(REGISTER, node, &self.plan, &mut self.rng) {
            self.after(delay, Event::Registered { node, life, op, answer });
        }
    }

    /// The end: everything has healed long ago.
    fn judge(&mut self) {
        let mut data = Vec::new();
        let mut ruling = 0;
        let mut aside = BTreeSet::new();
        for node in 0..self.nodes.len() {
            let now = self.clock(node);
            self.set_clock(node);
            let machine = &mut self.nodes[node];
            let Some(process) = &machine.process else {
                self.history.broken("recovery", self.time, format!("node {node} is down"));
                return;
            };
            ruling += u32::from(process.lease.valid_epoch(now).is_some());
            if !process.sound() {
                self.history.broken("recovery", self.time, format!("node {node} is quarantined"));
            }
            let lineage = process.lineage();
            let checksum = machine.storage.page_checksum();
            let look = machine.storage.look(&lineage, process.txid);
            let (Some((content, _)), Some(checksum)) = (look, checksum) else {
                self.history.broken("recovery", self.time, format!("node {node} has stopped"));
                return;
            };
            data.push((checksum, content, lineage));
            if let Err(why) = machine.storage.verify() {
                self.history.broken("integrity", self.time, format!("node {node}: {why}"));
            }
            let kept = machine.storage.aside();
            aside.extend(kept.ops);
            aside.extend(self.history.ops_at(&kept.positions));
        }
        if ruling != 1 {
            self.history.broken("recovery", self.time, format!("{ruling} primaries"));
        }
        self.history.finish(self.plan.mode, &data, &aside, self.time);
    }
}

/// A new machine's copy: real files or a model of them.
fn storage(
    plan: &Plan,
    dataset: &DatasetId,
    archive: &model::Archive,
    rng: &mut Rng,
) -> Box<dyn Storage> {
    if !plan.files {
        return Box::new(Model::new(archive.clone(), plan.bug));
    }
    #[expect(clippy::expect_used, reason = "without temporary files there is nothing to simulate")]
    Box::new(Files::new(dataset, rng, plan.bug).expect("a temporary folder"))
}
