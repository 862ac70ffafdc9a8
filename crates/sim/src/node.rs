//! A simulated node: the cores of one process and the glue that carries out their effects.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use verge_replicate::follow::{self, Follow, Health, Quarantine, Replica};
use verge_replicate::lease::{self, Demotion, Lease, Local};
use verge_replicate::session::{Role, View};
use verge_replicate::ship::{self, Origin, Shipper};
use verge_replicate::wire::{self, Envelope, Message, Segment, SnapshotHeader};
use verge_replicate::{Lineage, Moment, NodeId};

use crate::Bug;
use crate::clients::{Outcome, Request};
use crate::data::{self, Data, Pages};
use crate::disk::Disk;
use crate::net::REGISTER;
use crate::plan::MILLISECOND;
use crate::world::{Event, RegisterCall, World};

/// Pages in one chunk of a snapshot.
const CHUNK_PAGES: usize = 3;

/// A machine: what outlives the process.
#[derive(Debug)]
pub struct Node {
    pub disk: Disk,
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
    pub segment: Segment,
    pub data: Data,
    pub requests: Vec<Request>,
}

/// A process.
#[derive(Debug)]
pub struct Process {
    pub lease: Lease,
    pub follow: Follow,
    pub shipper: Option<Shipper>,
    relay_key: Option<(u64, Lineage)>,
    /// The epoch in which we are primary, and the whole lineage then.
    pub primary: Option<u64>,
    pub lineage: Lineage,
    pub data: Data,
    pub txid: u64,
    pub admits: bool,
    stopping: bool,
    pub restore_to: Option<u64>,
    pub queue: VecDeque<Request>,
    pub group: Option<Group>,
    /// Durable here, not acknowledged.
    pub pending: BTreeMap<u64, Vec<Request>>,
    pub applying: VecDeque<Segment>,
    snapshots: BTreeMap<(NodeId, u64), Vec<Bytes>>,
    seed: Option<(u64, Lineage)>,
    seed_number: u64,
    pub primary_node: Option<usize>,
}

/// An input for one of the cores.
#[derive(Debug)]
pub enum Work {
    Lease(lease::Event),
    Ship(ship::Event),
    Follow(follow::Event),
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

fn index(node: NodeId) -> usize {
    node.0 as usize
}

impl World {
    /// Starts a process on what the disk holds.
    pub fn start(&mut self, node: usize) {
        let now = self.clock(node);
        let incarnation = self.rng.draw();
        let bug = self.plan.bug;
        let machine = &mut self.nodes[node];
        machine.life += 1;
        let found = machine.disk.recover(bug == Some(Bug::SkipRedo));
        let meta = machine.disk.meta.clone();
        let replica = Replica {
            lineage: meta.lineage.clone(),
            txid: found.txid,
            checksum: found.data.checksum(),
            fence: if bug == Some(Bug::IgnoreFence) { 0 } else { meta.fence },
            health: meta.health,
        };
        machine.process = Some(Process {
            lease: Lease::new(self.plan.lease(node, incarnation), meta.fence),
            follow: Follow::new(self.plan.follow(incarnation), replica, now),
            shipper: None,
            relay_key: None,
            primary: None,
            lineage: Lineage::default(),
            txid: found.txid,
            data: found.data.clone(),
            admits: false,
            stopping: false,
            restore_to: None,
            queue: VecDeque::new(),
            group: None,
            pending: BTreeMap::new(),
            applying: VecDeque::new(),
            snapshots: BTreeMap::new(),
            seed: None,
            seed_number: 0,
            primary_node: None,
        });
        let life = machine.life;
        if meta.health == Health::Sound {
            let position = meta.lineage.position(found.txid);
            self.history.visible(node, position, &found.data, self.time);
        }
        self.after(0, Event::Tick { node, life });
    }

    /// Ends the process without warning; the disk keeps what luck leaves it.
    pub fn crash(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        if machine.process.take().is_none() {
            return;
        }
        machine.kill_in = None;
        machine.paused_until = 0;
        machine.life += 1;
        machine.disk.crash(&mut self.rng);
        self.trace(|| format!("n{node} crashes"));
        let delay = self.rng.range(20, 2500) * MILLISECOND;
        self.after(delay, Event::Restart { node });
    }

    pub fn tick(&mut self, node: usize) {
        let wall_ms = self.time / 1000 + self.wall_offset[node];
        let relays = (0..self.nodes.len()).any(|other| self.plan.relay_of(other) == Some(node));
        let Some(process) = &mut self.nodes[node].process else { return };
        if relays && process.primary.is_none() {
            let now_key = process.follow.term().map(|term| (term, process.follow.lineage()));
            if now_key.is_some() && process.relay_key != now_key && process.sound() {
                process.relay_key = now_key;
                self.new_relay(node);
            }
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.primary.is_none() && !process.sound() {
            process.shipper = None;
            process.relay_key = None;
        }
        let mut work = vec![Work::Lease(lease::Event::Tick), Work::Follow(follow::Event::Tick)];
        if process.shipper.is_some() {
            if process.primary.is_none() {
                let as_of = process.follow.as_of();
                work.push(Work::Ship(ship::Event::Fresh { as_of }));
            }
            work.push(Work::Ship(ship::Event::Tick { wall_ms }));
        }
        self.dispatch(node, work);
        self.start_group(node);
    }

    fn new_relay(&mut self, node: usize) {
        let (now, config) = (self.clock(node), self.plan.ship());
        let Some(process) = &mut self.nodes[node].process else { return };
        let Some((term, lineage)) = process.relay_key.clone() else { return };
        let (txid, checksum) = (process.txid, process.data.checksum());
        process.shipper =
            Some(Shipper::new(config, Origin::Relay, term, lineage, txid, checksum, now));
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
        let from = id(from);
        let Some(process) = &self.nodes[node].process else { return };
        let work = match message {
            Message::Hello(hello) => {
                if process.shipper.is_none() {
                    let session = hello.session;
                    self.send(node, from, Message::Goodbye { session });
                    return;
                }
                let disk = &self.nodes[node].disk;
                let ours = disk.checksum_at(hello.position.txid);
                let first = disk.first();
                Work::Ship(ship::Event::Hello { from, hello, first, ours })
            }
            Message::Ack { .. } | Message::SnapshotAck { .. } | Message::Refused { .. } => {
                Work::Ship(ship::Event::Message { from, message })
            }
            Message::Poll(poll) => Work::Lease(lease::Event::Poll { from, poll }),
            Message::PollReply(reply) => Work::Lease(lease::Event::PollReply { from, reply }),
            Message::Offer { .. } => Work::Lease(lease::Event::Offered),
            message => Work::Follow(follow::Event::Message { from, message }),
        };
        self.dispatch(node, vec![work]);
    }

    fn send(&mut self, node: usize, to: NodeId, message: Message) {
        let envelope = Envelope { dataset: self.dataset.clone(), message };
        let Ok(bytes) = wire::encode(&envelope) else {
            self.history.broken("wire", self.time, "a message does not fit".into());
            return;
        };
        let to = index(to);
        self.trace(|| format!("n{node} -> n{to} {:?}", envelope.message));
        for delay in self.net.copies(node, to, &self.plan, &mut self.rng) {
            self.after(delay, Event::Deliver { from: node, to, bytes: bytes.clone() });
        }
    }

    /// Feeds the cores until nothing is left to do.
    pub fn dispatch(&mut self, node: usize, work: Vec<Work>) {
        let mut work: VecDeque<Work> = work.into();
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
        if let Some(left) = &mut self.nodes[node].kill_in {
            if *left == 0 {
                self.crash(node);
                return true;
            }
            *left -= 1;
        }
        self.nodes[node].process.is_none()
    }

    fn lease_effect(&mut self, node: usize, effect: lease::Effect, work: &mut VecDeque<Work>) {
        let bug = self.plan.bug;
        match effect {
            lease::Effect::Read { op } => self.call_register(node, RegisterCall::Read { op }),
            lease::Effect::Swap { op, expected, new } => {
                self.call_register(node, RegisterCall::Swap { op, expected, new });
            }
            lease::Effect::SendPoll { to, poll } => self.send(node, to, Message::Poll(poll)),
            lease::Effect::SendReply { to, reply } => {
                self.send(node, to, Message::PollReply(reply));
            }
            lease::Effect::PersistFence { epoch } => {
                self.nodes[node].disk.meta.fence = epoch;
                if bug != Some(Bug::IgnoreFence) {
                    work.push_back(Work::Follow(follow::Event::Fence { epoch }));
                }
            }
            lease::Effect::Promote { epoch, base } => self.promote(node, epoch, base, work),
            lease::Effect::Extended { until, .. } => {
                let until = if bug == Some(Bug::IgnoreEpoch) { Moment(u64::MAX) } else { until };
                work.push_back(Work::Ship(ship::Event::Extended { until }));
            }
            lease::Effect::Retracted => work.push_back(Work::Ship(ship::Event::Retracted)),
            lease::Effect::StopWrites => {
                let Some(process) = &mut self.nodes[node].process else { return };
                process.admits = false;
                process.stopping = true;
                self.stopped(node, work);
            }
            lease::Effect::ResumeWrites => {
                let Some(process) = &mut self.nodes[node].process else { return };
                process.admits = true;
                process.stopping = false;
            }
            lease::Effect::Demote { reason } => self.demote(node, reason, work),
            lease::Effect::Offer { to } => self.send(node, to, Message::Offer { epoch: 0 }),
            lease::Effect::HandOverFailed { .. } => {}
            lease::Effect::Primary { node: primary, .. } => {
                let Some(process) = &mut self.nodes[node].process else { return };
                process.primary_node = Some(index(primary));
                let upstream = self.plan.relay_of(node).map_or(primary, id);
                if process.primary.is_none() && upstream != id(node) {
                    let upstream = follow::Event::Upstream { node: Some(upstream) };
                    work.push_back(Work::Follow(upstream));
                }
            }
        }
    }

    /// Answers `StopWrites` once no group is in work.
    fn stopped(&mut self, node: usize, work: &mut VecDeque<Work>) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if !process.stopping || process.group.is_some() {
            return;
        }
        process.stopping = false;
        if let Some(txid) = process.restore_to.take() {
            self.restore(node, txid);
        }
        work.push_back(Work::Lease(lease::Event::WritesStopped));
    }

    /// An operator takes the primary back to an older transaction.
    fn restore(&mut self, node: usize, txid: u64) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let Some(data) = self.history.at(process.lineage.position(txid)).cloned() else { return };
        let kept: Vec<u32> = data.lists().concat();
        let cut = self
            .history
            .writes
            .iter()
            .filter(|(op, written)| written.position.is_some() && !kept.contains(op));
        self.history.restored_away.extend(cut.map(|(op, _)| *op).collect::<Vec<_>>());
        machine.disk.restore(data.clone(), txid);
        process.data = data;
        process.txid = txid;
        self.trace(|| format!("n{node} restores {txid}"));
    }

    fn promote(&mut self, node: usize, epoch: u64, base: u64, work: &mut VecDeque<Work>) {
        let (now, config, bug) = (self.clock(node), self.plan.ship(), self.plan.bug);
        let (mode, voters) = (self.plan.mode, self.plan.lease(node, 0).voters);
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let mut lineage = process.lineage();
        if base != process.txid || lineage.begin(epoch, base).is_err() {
            let what = format!("node {node}: {epoch} after {base} at {}", process.txid);
            self.history.broken("promotion", self.time, what);
            return;
        }
        machine.disk.meta.lineage = lineage.clone();
        machine.disk.meta.health = Health::Sound;
        process.lineage = lineage.clone();
        process.primary = Some(epoch);
        process.primary_node = Some(node);
        process.admits = true;
        process.stopping = false;
        let origin = Origin::Primary { me: id(node), mode, voters };
        let checksum = process.data.checksum();
        process.shipper = Some(Shipper::new(config, origin, epoch, lineage, base, checksum, now));
        if bug == Some(Bug::IgnoreEpoch) {
            let until = Moment(u64::MAX);
            work.push_back(Work::Ship(ship::Event::Extended { until }));
        }
        let abandoned = std::mem::take(&mut process.pending);
        work.push_back(Work::Follow(follow::Event::Upstream { node: None }));
        self.promotions += 1;
        for request in abandoned.into_values().flatten() {
            self.reply(node, &request, Outcome::Unknown);
        }
    }

    fn demote(&mut self, node: usize, reason: Demotion, work: &mut VecDeque<Work>) {
        if self.plan.bug == Some(Bug::IgnoreEpoch) {
            return;
        }
        if matches!(reason, Demotion::HandedOver { .. }) {
            self.hand_overs += 1;
        }
        let (now, incarnation) = (self.clock(node), self.rng.draw());
        let follow = self.plan.follow(incarnation);
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let mut abandoned: Vec<Request> =
            std::mem::take(&mut process.pending).into_values().flatten().collect();
        if let Some(group) = process.group.take() {
            // It is in the log already; it becomes a tail, which the new primary's word cuts off.
            machine.disk.sync();
            process.txid = group.segment.header.position.txid;
            process.data = group.data;
            abandoned.extend(group.requests);
        }
        process.primary = None;
        process.admits = false;
        process.stopping = false;
        process.shipper = None;
        process.relay_key = None;
        process.snapshots.clear();
        let replica = Replica {
            lineage: process.lineage.clone(),
            txid: process.txid,
            checksum: process.data.checksum(),
            fence: machine.disk.meta.fence,
            health: Health::Sound,
        };
        process.follow = Follow::new(follow, replica, now);
        if let Demotion::Replaced { by, .. } = reason {
            let upstream = self.plan.relay_of(node).map_or(by, id);
            work.push_back(Work::Follow(follow::Event::Upstream { node: Some(upstream) }));
        }
        for request in abandoned {
            self.reply(node, &request, Outcome::Unknown);
        }
    }

    fn ship_effect(
        &mut self,
        node: usize,
        term: u64,
        effect: ship::Effect,
        work: &mut VecDeque<Work>,
    ) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        match effect {
            ship::Effect::Send { to, message } => self.send(node, to, message),
            ship::Effect::Load { to, session, after, max_bytes } => {
                let segments = machine.disk.segments(after, process.txid, max_bytes);
                work.push_back(Work::Ship(ship::Event::Loaded { to, session, segments }));
            }
            ship::Effect::OpenSnapshot { to, session } => {
                let pages: Vec<(u32, Bytes)> =
                    process.data.pages().iter().map(|(n, page)| (*n, page.clone())).collect();
                let chunks: Vec<Bytes> = pages
                    .chunks(CHUNK_PAGES)
                    .map(|pages| data::encode(&pages.iter().cloned().collect::<Pages>()))
                    .collect();
                let snapshot = SnapshotHeader {
                    position: process.lineage().position(process.txid),
                    checksum: process.data.checksum(),
                    bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
                };
                process.snapshots.insert((to, session), chunks);
                self.snapshots += 1;
                work.push_back(Work::Ship(ship::Event::SnapshotOpened { to, session, snapshot }));
            }
            ship::Effect::LoadChunk { to, session, chunk } => {
                let chunks = process.snapshots.get(&(to, session));
                let event = match chunks.and_then(|chunks| chunks.get(chunk as usize)) {
                    Some(bytes) => {
                        let last = chunks.is_some_and(|chunks| chunks.len() as u64 == chunk + 1);
                        ship::Event::ChunkLoaded { to, session, chunk, last, bytes: bytes.clone() }
                    }
                    None => ship::Event::SnapshotFailed { to, session },
                };
                work.push_back(Work::Ship(event));
            }
            ship::Effect::CloseSnapshot { to, session } => {
                process.snapshots.remove(&(to, session));
            }
            ship::Effect::Acknowledge { up_to } => {
                let later = process.pending.split_off(&(up_to + 1));
                let settled = std::mem::replace(&mut process.pending, later);
                for request in settled.into_values().flatten() {
                    self.acknowledge(node, term, &request);
                }
            }
            ship::Effect::Retain { from } => machine.disk.retain(from),
            ship::Effect::Fenced { epoch } => {
                work.push_back(Work::Lease(lease::Event::Fenced { epoch }));
            }
            ship::Effect::Progress { from, rank, settled } => {
                let progress = lease::Event::Progress { from, rank, settled };
                work.push_back(Work::Lease(progress));
            }
        }
    }

    fn follow_effect(&mut self, node: usize, effect: follow::Effect, work: &mut VecDeque<Work>) {
        let bug = self.plan.bug;
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let life = machine.life;
        match effect {
            follow::Effect::Send { to, message } => self.send(node, to, message),
            follow::Effect::PersistFence { epoch } => {
                machine.disk.meta.fence = machine.disk.meta.fence.max(epoch);
                work.push_back(Work::Lease(lease::Event::Fenced { epoch }));
            }
            follow::Effect::PersistLineage { lineage } => machine.disk.meta.lineage = lineage,
            follow::Effect::Apply { segment } => {
                process.applying.push_back(segment);
                if process.applying.len() == 1 {
                    self.begin_apply(node);
                }
            }
            follow::Effect::PersistQuarantine { quarantine } => {
                let (health, fork) = match quarantine {
                    Quarantine::Diverged { fork } => (Health::Diverged, fork),
                    Quarantine::Checksum => (Health::Quarantined, 0),
                };
                machine.disk.meta.health = health;
                if bug != Some(Bug::DropTail) {
                    machine.disk.set_aside(fork);
                }
                self.quarantines += 1;
                if quarantine == Quarantine::Checksum {
                    let what = format!("node {node} disagrees with its primary");
                    self.history.broken("checksum", self.time, what);
                }
                self.trace(|| format!("n{node} quarantines {quarantine:?}"));
            }
            follow::Effect::PersistSound => machine.disk.meta.health = Health::Sound,
            follow::Effect::SeedBegin { snapshot, lineage } => {
                process.seed = Some((snapshot.position.txid, lineage));
                process.seed_number += 1;
                machine.disk.seed_begin();
            }
            follow::Effect::SeedChunk { chunk, last, bytes } => {
                let seed = process.seed_number;
                match machine.disk.seed_chunk(bytes) {
                    Ok(()) => {
                        let delay = self.rng.range(100, 3000);
                        self.after(delay, Event::Stored { node, life, seed, chunk, last });
                    }
                    Err(_) => work.push_back(Work::Follow(follow::Event::SeedFailed)),
                }
            }
            follow::Effect::SeedAbort => {
                process.seed = None;
                process.seed_number += 1;
                machine.disk.seed_abort();
            }
        }
    }

    /// A chunk is on the disk; after the last, the seed takes the data's place.
    pub fn stored(&mut self, node: usize, number: u64, chunk: u64, last: bool) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if process.seed_number != number {
            return;
        }
        let mut work = vec![Work::Follow(follow::Event::ChunkStored { chunk })];
        if last {
            let Some((txid, lineage)) = process.seed.take() else { return };
            let position = lineage.position(txid);
            let Some(data) = machine.disk.seed_install(txid, lineage) else {
                self.dispatch(node, vec![Work::Follow(follow::Event::SeedFailed)]);
                return;
            };
            process.txid = txid;
            process.data = data.clone();
            process.shipper = None;
            process.relay_key = None;
            let checksum = data.checksum();
            self.history.visible(node, position, &data, self.time);
            work.push(Work::Follow(follow::Event::Seeded { txid, checksum }));
        }
        self.dispatch(node, work);
    }

    fn begin_apply(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let Some(segment) = process.applying.front() else { return };
        let life = machine.life;
        let failed = machine.disk.append(segment.clone()).is_err();
        let delay = self.rng.range(100, 2000);
        self.after(delay, Event::Applied { node, life, failed });
    }

    /// The first waiting segment is applied, or was not for lack of space.
    pub fn applied(&mut self, node: usize, failed: bool) {
        let bug = self.plan.bug;
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if failed {
            process.applying.clear();
            self.dispatch(node, vec![Work::Follow(follow::Event::ApplyFailed)]);
            return;
        }
        if machine.disk.sync_fails {
            // Nobody knows what is on the disk now: only a recovery can tell.
            self.crash(node);
            return;
        }
        let Some(segment) = process.applying.pop_front() else { return };
        if bug != Some(Bug::SkipFsync) {
            machine.disk.sync();
        }
        for (number, page) in data::decode(segment.bytes.clone()).unwrap_or_default() {
            process.data.put(number, page);
        }
        let position = segment.header.position;
        process.txid = position.txid;
        let (data, txid, checksum) = (process.data.clone(), process.txid, process.data.checksum());
        self.touch_file(node);
        self.history.visible(node, position, &data, self.time);
        let mut work = vec![Work::Follow(follow::Event::Applied { txid, checksum })];
        if self.nodes[node].process.as_ref().is_some_and(|p| p.shipper.is_some()) {
            work.push(Work::Ship(ship::Event::Appended { segment }));
        }
        self.dispatch(node, work);
        self.begin_apply(node);
    }

    /// Now and then pages reach the database file, or a checkpoint ends.
    fn touch_file(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(process) = &machine.process else { return };
        match self.rng.range(0, 12) {
            0 | 1 => machine.disk.spill(&process.data, &mut self.rng),
            2 => machine.disk.checkpoint(&process.data, process.txid),
            _ => {}
        }
    }

    /// Commits the next group of waiting writes, if this node may.
    pub fn start_group(&mut self, node: usize) {
        let (now, bug) = (self.clock(node), self.plan.bug);
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.group.is_some() || process.queue.is_empty() {
            return;
        }
        let Some(epoch) = process.primary.filter(|_| process.rules(now, bug)) else {
            let waiting = std::mem::take(&mut process.queue);
            for request in waiting {
                self.reply(node, &request, Outcome::Failed);
            }
            return;
        };
        if !process.admits {
            return;
        }
        let count = process.queue.len().min(8);
        let batch: Vec<Request> = process.queue.drain(..count).collect();
        let before = process.data.clone();
        let mut data = before.clone();
        let (requests, failed): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|request| request.write.is_some_and(|write| write.run(&mut data)));
        for request in failed {
            self.reply(node, &request, Outcome::Failed);
        }
        if requests.is_empty() {
            return;
        }
        self.commit(node, epoch, before, data, requests);
    }

    fn commit(
        &mut self,
        node: usize,
        epoch: u64,
        before: Data,
        data: Data,
        requests: Vec<Request>,
    ) {
        let bug = self.plan.bug;
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let position = verge_types::Position::new(epoch, process.txid + 1);
        let mut captured = data.clone();
        if bug == Some(Bug::ShipPastCommit)
            && self.rng.chance(300)
            && let Some(write) = requests.first().and_then(|request| request.write)
        {
            write.debit(&mut captured);
        }
        let header = wire::SegmentHeader {
            position,
            before: before.checksum(),
            after: captured.checksum(),
            committed_ms: self.time / 1000 + self.wall_offset[node],
        };
        let segment = Segment { header, bytes: data::difference(&before, &captured) };
        if machine.disk.append(segment.clone()).is_err() {
            for request in requests {
                self.reply(node, &request, Outcome::Failed);
            }
            return;
        }
        self.history.committed(position, &data, self.time);
        for request in &requests {
            if let Some(written) = self.history.writes.get_mut(&request.op) {
                written.position = Some(position);
            }
        }
        if bug == Some(Bug::ReadBeforeLog) {
            process.data = data.clone();
        }
        let early = if bug == Some(Bug::AckBeforeLog) { requests.clone() } else { Vec::new() };
        process.group = Some(Group { segment, data, requests });
        let life = machine.life;
        let delay = self.rng.range(500, 5000);
        self.after(delay, Event::Synced { node, life });
        for request in early {
            self.acknowledge(node, epoch, &request);
        }
    }

    /// The log's sync came back.
    pub fn synced(&mut self, node: usize) {
        let bug = self.plan.bug;
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if process.group.is_none() {
            return;
        }
        if machine.disk.sync_fails {
            self.crash(node);
            return;
        }
        let Some(group) = process.group.take() else { return };
        if bug != Some(Bug::SkipFsync) {
            machine.disk.sync();
        }
        let position = group.segment.header.position;
        process.txid = position.txid;
        process.data = group.data.clone();
        process.pending.insert(position.txid, group.requests);
        self.history.visible(node, position, &group.data, self.time);
        self.touch_file(node);
        let appended = Work::Ship(ship::Event::Appended { segment: group.segment });
        self.dispatch(node, vec![appended]);
        let mut work = VecDeque::new();
        self.stopped(node, &mut work);
        self.dispatch(node, work.into());
        self.start_group(node);
    }

    fn acknowledge(&mut self, node: usize, epoch: u64, request: &Request) {
        self.history.acknowledged(node, epoch, request.op, self.time);
        let position = self.history.writes.get(&request.op).and_then(|written| written.position);
        if let Some(position) = position {
            self.reply(node, request, Outcome::Written(position));
        }
    }

    fn call_register(&mut self, node: usize, call: RegisterCall) {
        let life = self.nodes[node].life;
        for delay in self.net.copies(node, REGISTER, &self.plan, &mut self.rng) {
            self.after(delay, Event::Register { node, life, call });
        }
    }
}
