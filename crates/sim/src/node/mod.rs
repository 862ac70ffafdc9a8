//! A simulated node: the cores of one process and the glue that carries out their effects: `lead`,
//! `write`, `ship` and `follow`, as in the real node's driver.

mod follow;
mod lead;
mod relay;
mod ship;
mod write;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use verge_replicate::follow::{Follow, Health, Replica};
use verge_replicate::lease::{Lease, Local};
use verge_replicate::relay::Relay;
use verge_replicate::session::{Role, View};
use verge_replicate::ship::Shipper;
use verge_replicate::upstream::Upstream;
use verge_replicate::wire::{self, Envelope, Message, Segment};
use verge_replicate::{Lineage, Moment, NodeId};
use verge_replicate::{follow as follow_core, lease as lease_core, ship as ship_core};
use verge_types::Position;

use crate::Bug;
use crate::clients::Request;
use crate::plan::MILLISECOND;
use crate::storage::{Failure, Storage};
use crate::world::{Event, World};

/// A machine: what outlives the process.
pub struct Node {
    pub storage: Box<dyn Storage>,
    /// Its clock is `offset + time * rate / 1_000_000`.
    pub clock_offset: u64,
    pub clock_rate: u64,
    pub paused_until: u64,
    /// Counts processes, so that what was meant for an earlier one is dropped.
    pub life: u64,
    pub process: Option<Process>,
    /// Kill the process after so many more effects.
    pub kill_in: Option<u32>,
}

/// A group of transactions that is being made durable.
#[derive(Debug)]
pub struct Group {
    epoch: u64,
    requests: Vec<Request>,
}

/// A process.
#[derive(Debug)]
pub struct Process {
    pub lease: Lease,
    pub follow: Follow,
    pub shipper: Option<Shipper>,
    /// While it serves others without being primary.
    relay: Option<Relay>,
    /// Whose replica this is, and by way of whom.
    followed: Option<usize>,
    upstream: Upstream,
    /// The epoch in which we are primary, and the whole lineage then.
    pub primary: Option<u64>,
    pub lineage: Lineage,
    /// The last transaction that the cores know of.
    pub txid: u64,
    pub admits: bool,
    stopping: bool,
    pub restore_to: Option<u64>,
    pub queue: VecDeque<Request>,
    pub group: Option<Group>,
    /// Durable here, not acknowledged.
    pub pending: BTreeMap<u64, Vec<Request>>,
    applying: VecDeque<Segment>,
    /// Those that are being applied.
    in_hand: Vec<Segment>,
    /// A position that could not be looked at, since the dataset had stopped.
    unseen: Option<Position>,
    /// Counts seeds, so that what was meant for an earlier one is dropped; whether one is coming.
    seed_number: u64,
    seeding: bool,
    pub primary_node: Option<usize>,
}

/// An input for one of the cores.
#[derive(Debug)]
pub enum Work {
    Lease(lease_core::Event),
    Ship(ship_core::Event),
    Follow(follow_core::Event),
}

impl Process {
    pub fn lineage(&self) -> Lineage {
        if self.primary.is_some() { self.lineage.clone() } else { self.follow.lineage() }
    }

    pub fn sound(&self) -> bool {
        self.primary.is_some() || self.follow.health() == Health::Sound
    }

    fn votes(&self) -> bool {
        self.primary.is_some() || self.follow.health() != Health::Quarantined
    }

    /// May it act as primary now?
    pub fn rules(&self, now: Moment, bug: Option<Bug>) -> bool {
        match self.primary {
            Some(epoch) => {
                self.lease.valid_epoch(now) == Some(epoch) || bug == Some(Bug::IgnoreEpoch)
            }
            None => false,
        }
    }

    pub fn role(&self, now: Moment, bug: Option<Bug>) -> Role {
        if !self.sound() {
            Role::Quarantined
        } else if self.rules(now, bug) {
            Role::Primary { settled: self.shipper.as_ref().and_then(Shipper::settled) }
        } else {
            Role::Replica
        }
    }

    pub fn view<'a>(
        &self,
        lineage: &'a Lineage,
        reachable: bool,
        now: Moment,
        bug: Option<Bug>,
    ) -> View<'a> {
        View {
            role: self.role(now, bug),
            lineage,
            txid: self.txid,
            staleness: self.follow.staleness(now),
            primary_reachable: reachable,
        }
    }
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64)
}

impl World {
    /// Starts a process on what the disk holds.
    pub fn start(&mut self, node: usize) {
        let now = self.clock(node);
        let incarnation = self.rng.draw();
        let bug = self.plan.bug;
        self.set_clock(node);
        let machine = &mut self.nodes[node];
        machine.life += 1;
        if let Err(failure) = machine.storage.open() {
            if let Failure::Misfit(why) = failure {
                self.history.broken("recovery", self.time, format!("node {node}: {why}"));
            } else {
                self.fall(node);
            }
            return;
        }
        let meta = machine.storage.meta().clone();
        let (txid, checksum) = machine.storage.head();
        let replica = Replica {
            lineage: meta.lineage.clone(),
            txid,
            checksum,
            fence: if bug == Some(Bug::IgnoreFence) { 0 } else { meta.fence },
            health: meta.health,
        };
        let known = meta.fence.max(machine.storage.epoch());
        machine.process = Some(Process {
            lease: Lease::new(self.plan.lease(node, incarnation), known),
            follow: Follow::new(self.plan.follow(incarnation), replica, now),
            shipper: None,
            relay: None,
            followed: None,
            upstream: Upstream::new(self.plan.upstream()),
            primary: None,
            lineage: Lineage::default(),
            txid,
            admits: false,
            stopping: false,
            restore_to: None,
            queue: VecDeque::new(),
            group: None,
            pending: BTreeMap::new(),
            applying: VecDeque::new(),
            in_hand: Vec::new(),
            unseen: None,
            seed_number: 0,
            seeding: false,
            primary_node: None,
        });
        let life = machine.life;
        if meta.health == Health::Sound {
            self.show(node, meta.lineage.position(txid));
        }
        self.after(0, Event::Tick { node, life });
    }

    /// A node's data may be read at `position` from now on.
    fn show(&mut self, node: usize, position: Position) {
        let Self { nodes, history, time, .. } = self;
        let Node { storage, process, .. } = &mut nodes[node];
        let checksum = storage.page_checksum();
        if let Some(process) = process {
            // Nobody reads a dataset that has stopped.
            process.unseen = if checksum.is_none() { Some(position) } else { None };
        }
        let Some(checksum) = checksum else { return };
        let (txid, told) = storage.head();
        if (txid, told) != (position.txid, checksum) {
            let what = format!("node {node} says {txid} for {position}, {told:x} for {checksum:x}");
            history.broken("prefix", *time, what);
        }
        let content = || storage.look(&Lineage::default(), txid).map(|(content, _)| content);
        history.visible(node, position, checksum, content, *time);
    }

    /// Ends the process without warning; the disk keeps what luck leaves it.
    pub fn crash(&mut self, node: usize) {
        if self.nodes[node].process.take().is_some() {
            self.fall(node);
        }
    }

    fn fall(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        machine.kill_in = None;
        machine.paused_until = 0;
        machine.life += 1;
        machine.storage.crash(&mut self.rng);
        self.trace(|| format!("n{node} crashes"));
        let delay = self.rng.range(20, 2500) * MILLISECOND;
        self.after(delay, Event::Restart { node });
    }

    /// A machine whose power has failed goes on with nothing.
    pub fn look_after(&mut self, node: usize) {
        if !self.nodes[node].storage.is_on() {
            self.crash(node);
        }
    }

    pub fn set_clock(&mut self, node: usize) {
        let (now, wall_ms) = (self.clock(node), self.wall_ms(node));
        self.nodes[node].storage.set_clock(now, wall_ms);
    }

    pub fn wall_ms(&self, node: usize) -> u64 {
        self.time / 1000 + self.wall_offset[node]
    }

    pub fn tick(&mut self, node: usize) {
        let wall_ms = self.wall_ms(node);
        let work = self.pick_up(node);
        self.dispatch(node, work);
        self.maintain(node);
        let mut work = vec![Work::Lease(lease_core::Event::Tick), self.choose_upstream(node)];
        work.push(Work::Follow(follow_core::Event::Tick));
        work.extend(self.keep_relay(node));
        let Some(process) = &self.nodes[node].process else { return };
        if process.shipper.is_some() {
            work.push(Work::Ship(ship_core::Event::Tick { wall_ms }));
        }
        self.dispatch(node, work);
        self.start_group(node);
    }

    /// A message from the network.
    pub fn receive(&mut self, from: usize, node: usize, bytes: Bytes) {
        let message = match wire::decode(bytes) {
            Ok(envelope) => envelope.message,
            Err(error) => {
                self.history.broken("wire", self.time, error.to_string());
                return;
            }
        };
        if matches!(message, Message::Hello(_)) {
            self.begin_relay(node, from);
        }
        let (from, sender) = (NodeId(from as u64), from);
        let Some(process) = &self.nodes[node].process else { return };
        let turned_away = matches!(message, Message::Goodbye { .. });
        let work = match message {
            Message::Hello(hello) => {
                if process.shipper.is_none() {
                    let session = hello.session;
                    self.send(node, from, Message::Goodbye { session });
                    return;
                }
                let lineage = process.lineage();
                let (first, ours) = self.nodes[node].storage.judge(&lineage, hello.position.txid);
                Work::Ship(ship_core::Event::Hello { from, hello, first, ours })
            }
            Message::Ack { .. } | Message::SnapshotAck { .. } | Message::Refused { .. } => {
                Work::Ship(ship_core::Event::Message { from, message })
            }
            Message::Poll(poll) => Work::Lease(lease_core::Event::Poll { from, poll }),
            Message::PollReply(reply) => Work::Lease(lease_core::Event::PollReply { from, reply }),
            Message::Offer { .. } => Work::Lease(lease_core::Event::Offered),
            message => Work::Follow(follow_core::Event::Message { from, message }),
        };
        self.dispatch(node, vec![work]);
        if turned_away && let Some(work) = self.turned_away(node, sender) {
            self.dispatch(node, vec![work]);
        }
    }

    fn send(&mut self, node: usize, to: NodeId, message: Message) {
        let envelope = Envelope { dataset: self.dataset.clone(), message };
        let Ok(bytes) = wire::encode(&envelope) else {
            self.history.broken("wire", self.time, "a message does not fit".into());
            return;
        };
        let to = to.0 as usize;
        self.trace(|| format!("n{node} -> n{to} {:?}", envelope.message));
        for delay in self.net.copies(node, to, &self.plan, &mut self.rng) {
            self.after(delay, Event::Deliver { from: node, to, bytes: bytes.clone() });
        }
    }

    /// Feeds the cores until nothing is left to do.
    pub fn dispatch(&mut self, node: usize, work: Vec<Work>) {
        let mut work: VecDeque<Work> = work.into();
        self.set_clock(node);
        let mut steps = 0;
        while let Some(next) = work.pop_front() {
            steps += 1;
            if steps > 100_000 {
                self.history.broken("progress", self.time, format!("node {node} spins: {next:?}"));
                return;
            }
            let now = self.clock(node);
            let Some(process) = &mut self.nodes[node].process else { return };
            match next {
                Work::Lease(event) => {
                    let lineage = process.lineage();
                    let local =
                        Local { lineage: &lineage, txid: process.txid, sound: process.votes() };
                    for effect in process.lease.on(event, local, now) {
                        if self.killed(node) {
                            return;
                        }
                        self.trace(|| format!("n{node} lease {effect:?}"));
                        self.lease_effect(node, effect, &mut work);
                    }
                }
                Work::Ship(event) => {
                    let Some(shipper) = &mut process.shipper else { continue };
                    let term = shipper.term();
                    for effect in shipper.on(event, now) {
                        if self.killed(node) {
                            return;
                        }
                        self.ship_effect(node, term, effect, &mut work);
                    }
                }
                Work::Follow(event) => {
                    for effect in process.follow.on(event, now) {
                        if self.killed(node) {
                            return;
                        }
                        self.follow_effect(node, effect, &mut work);
                    }
                }
            }
        }
    }

    /// Kills happen between any two effects.
    fn killed(&mut self, node: usize) -> bool {
        self.look_after(node);
        if let Some(left) = &mut self.nodes[node].kill_in {
            if *left == 0 {
                self.crash(node);
                return true;
            }
            *left -= 1;
        }
        self.nodes[node].process.is_none()
    }
}
