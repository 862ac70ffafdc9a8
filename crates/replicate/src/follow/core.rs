//! The follower's state machine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use verge_types::Position;

use crate::follow::FollowConfig;
use crate::follow::beats::Beats;
use crate::jitter::Jitter;
use crate::wire::{Heartbeat, Hello, Message, Segment, SnapshotHeader, Start, Why};
use crate::{Lineage, Moment, NodeId};

/// Messages kept until those before them arrive.
const MAX_EARLY: usize = 4096;

fn opaque_bytes(message: &Message) -> usize {
    match message {
        Message::Segment { segment, .. } => segment.bytes.len(),
        Message::SnapshotChunk { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

/// What is on the replica's disk.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// As last persisted; terms beyond `txid` are not reached yet.
    pub lineage: Lineage,
    pub txid: u64,
    pub checksum: u64,
    /// Terms below it are refused.
    pub fence: u64,
    pub health: Health,
}

/// Whether a replica's data may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Sound,
    /// It ends in a tail that the primary does not have, and is not read until a snapshot has
    /// replaced it. What it acknowledged is in it all the same, so it votes: should the primary's
    /// disk be lost now, it may be the only one.
    Diverged,
    /// Wrong or missing: neither read nor vouched for.
    Quarantined,
}

/// Why a replica set its data aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    /// Transactions after `fork` are not in the surviving history.
    Diverged { fork: u64 },
    /// The same position, but other data: nothing of it is trusted.
    Checksum,
}

/// What happens to a follower.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed; at least every `gap_patience`.
    Tick,
    /// Whom to follow: the primary, a relay, or nobody (while being primary).
    Upstream {
        node: Option<NodeId>,
    },
    LinkUp {
        node: NodeId,
    },
    LinkDown {
        node: NodeId,
    },
    Message {
        from: NodeId,
        message: Message,
    },
    /// The oldest of the handed out segments is applied and durable; `checksum` was computed from
    /// the data.
    Applied {
        txid: u64,
        checksum: u64,
    },
    /// It could not be applied (a full disk, an I/O error) and is not in the data. The others
    /// that were handed out are dropped.
    ApplyFailed,
    /// A chunk is stored; the seed was installed if it was the last.
    ChunkStored {
        chunk: u64,
    },
    /// The snapshot replaced data and lineage in one step, durably.
    Seeded {
        txid: u64,
        checksum: u64,
    },
    SeedFailed,
    /// Our lease core promised itself.
    Fence {
        epoch: u64,
    },
}

/// What a follower wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Send {
        to: NodeId,
        message: Message,
    },
    /// Durable before what follows, and told to the lease core.
    PersistFence {
        epoch: u64,
    },
    /// Durable before what follows. Segments of its newer terms come after it.
    PersistLineage {
        lineage: Lineage,
    },
    /// Apply it, make it durable, answer `Applied` or `ApplyFailed`. Several may wait in a row.
    Apply {
        segment: Segment,
    },
    /// Durably mark the data as not to be read (see `Health`), keep a copy of what is lost where it can be listed
    /// and exported, count it. What is lost: the segments after the fork; if the log does not reach
    /// back to the fork, or for a wrong checksum, the whole database and its log.
    PersistQuarantine {
        quarantine: Quarantine,
    },
    /// Durably take that mark back: the data is part of the history after all.
    PersistSound,
    /// Discard an unfinished seed, begin another one. The old data stays until it is complete.
    SeedBegin {
        snapshot: SnapshotHeader,
        lineage: Lineage,
    },
    /// Store a chunk, answer `ChunkStored`; after the last install it, answer `Seeded`.
    SeedChunk {
        chunk: u64,
        last: bool,
        bytes: Bytes,
    },
    /// The seed will not be finished.
    SeedAbort,
}

#[derive(Clone, Debug)]
enum Stream {
    /// Nothing is expected; a greeting goes out at `greet_at`.
    Idle,
    Greeting {
        since: Moment,
    },
    Segments(Live),
    Seed(Seed),
}

#[derive(Clone, Debug)]
struct Live {
    term: u64,
    /// Handed out up to here, and the checksum there.
    end: u64,
    checksum: u64,
    /// Since when a segment is missing.
    gap: Option<Moment>,
}

#[derive(Clone, Debug)]
struct Seed {
    term: u64,
    lineage: Lineage,
    snapshot: Option<SnapshotHeader>,
    next_chunk: u64,
    complete: bool,
}

/// The replica's side of one dataset.
#[derive(Clone, Debug)]
pub struct Follow {
    config: FollowConfig,
    jitter: Jitter,
    replica: Replica,
    upstream: Option<NodeId>,
    session: u64,
    stream: Stream,
    greet_at: Moment,
    attempt: u32,
    heard: Moment,
    /// Handed out to `Apply`: transaction, checksum after it, bytes.
    handed: VecDeque<(u64, u64, usize)>,
    handed_bytes: usize,
    /// Of this session, but ahead of their turn: messages may overtake each other.
    early: BTreeMap<(u8, u64), Message>,
    early_bytes: usize,
    beats: Beats,
    primary_ms: u64,
}

impl Follow {
    pub fn new(config: FollowConfig, replica: Replica, now: Moment) -> Self {
        Self {
            jitter: Jitter::new(config.jitter_seed),
            config,
            replica,
            upstream: None,
            session: 0,
            stream: Stream::Idle,
            greet_at: now,
            attempt: 0,
            heard: now,
            handed: VecDeque::new(),
            handed_bytes: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            beats: Beats::default(),
            primary_ms: 0,
        }
    }

    /// The terms that the data has reached.
    pub fn lineage(&self) -> Lineage {
        self.replica.lineage.up_to(self.replica.txid)
    }

    pub fn txid(&self) -> u64 {
        self.replica.txid
    }

    pub fn checksum(&self) -> u64 {
        self.replica.checksum
    }

    pub fn position(&self) -> Position {
        self.replica.lineage.position(self.replica.txid)
    }

    pub fn health(&self) -> Health {
        self.replica.health
    }

    /// Nothing handed out is being applied, no seed is being taken: `txid` will not move by itself.
    pub fn is_settled(&self) -> bool {
        self.handed.is_empty() && !matches!(self.stream, Stream::Seed(_))
    }

    /// What a relay ships in the upstream's name: its term, and its lineage, whose last terms our
    /// data may not have reached. While a session ships segments of sound data.
    pub fn served(&self) -> Option<(u64, &Lineage)> {
        match &self.stream {
            Stream::Segments(live) if self.replica.health == Health::Sound => {
                Some((live.term, &self.replica.lineage))
            }
            _ => None,
        }
    }

    /// An upper bound for how old the data is; `None` before the first heartbeat was reached.
    pub fn staleness(&self, now: Moment) -> Option<Duration> {
        self.beats.staleness(now)
    }

    /// The moment of which the data is at least; what a relay tells its shipper.
    pub fn as_of(&self) -> Option<Moment> {
        self.beats.as_of()
    }

    /// The primary's wall clock at its last heartbeat, in milliseconds since 1970.
    pub fn primary_ms(&self) -> u64 {
        self.primary_ms
    }

    /// One step.
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Tick => {}
            Event::Upstream { node } => {
                if node != self.upstream {
                    self.leave(&mut out);
                    self.upstream = node;
                    self.attempt = 0;
                    self.greet_at = now;
                }
            }
            Event::LinkUp { node } => {
                // What was greeted while there was no link has not been heard.
                let waits = matches!(self.stream, Stream::Idle | Stream::Greeting { .. });
                if self.upstream == Some(node) && waits {
                    self.leave(&mut out);
                    self.attempt = 0;
                    self.greet_at = now;
                }
            }
            Event::LinkDown { node } => {
                if self.upstream == Some(node) {
                    self.retry(now, &mut out);
                }
            }
            Event::Message { from, message } => {
                if self.upstream == Some(from) {
                    self.on_message(from, message, now, &mut out);
                }
            }
            Event::Applied { txid, checksum } => self.on_applied(txid, checksum, now, &mut out),
            Event::ApplyFailed => {
                self.handed.clear();
                self.handed_bytes = 0;
                self.retry(now, &mut out);
            }
            Event::ChunkStored { chunk } => {
                self.heard = now;
                if let (Stream::Seed(seed), Some(to)) = (&self.stream, self.upstream) {
                    let (session, term) = (self.session, seed.term);
                    let message = Message::SnapshotAck { session, term, chunk };
                    out.push(Effect::Send { to, message });
                }
            }
            Event::Seeded { txid, checksum } => self.on_seeded(txid, checksum, now, &mut out),
            Event::SeedFailed => {
                if let Stream::Seed(_) = self.stream {
                    self.retry(now, &mut out);
                }
            }
            Event::Fence { epoch } => self.raise_fence(epoch, now, &mut out),
        }
        self.drive(now, &mut out);
        out
    }

    fn drive(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let overdue = match &self.stream {
            Stream::Idle => false,
            Stream::Greeting { since } => now.since(*since) >= self.config.silence,
            Stream::Segments(live) => {
                live.gap.is_some_and(|since| now.since(since) >= self.config.gap_patience)
                    || now.since(self.heard) >= self.config.silence
            }
            // Installing takes as long as it takes.
            Stream::Seed(seed) => !seed.complete && now.since(self.heard) >= self.config.silence,
        };
        if overdue {
            self.retry(now, out);
        }
        if let (Stream::Idle, Some(to)) = (&self.stream, self.upstream)
            && now >= self.greet_at
            && self.handed.is_empty()
        {
            self.session = self.jitter.token();
            self.stream = Stream::Greeting { since: now };
            self.heard = now;
            let hello = Hello {
                session: self.session,
                fence: self.replica.fence,
                position: self.position(),
                checksum: self.replica.checksum,
                reseed: self.replica.health == Health::Quarantined,
                sent: now.0,
            };
            out.push(Effect::Send { to, message: Message::Hello(hello) });
        }
    }

    /// Ends the session without a plan for the next.
    fn leave(&mut self, out: &mut Vec<Effect>) {
        if matches!(&self.stream, Stream::Seed(seed) if seed.snapshot.is_some()) {
            out.push(Effect::SeedAbort);
        }
        self.stream = Stream::Idle;
        self.early.clear();
        self.early_bytes = 0;
    }

    /// Ends the session; the next begins after a back-off.
    fn retry(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.leave(out);
        let doubled = self.config.backoff * 2u32.saturating_pow(self.attempt.min(16));
        self.attempt = self.attempt.saturating_add(1);
        self.greet_at = now + self.jitter.spread(doubled.min(self.config.backoff_max));
    }

    fn raise_fence(&mut self, epoch: u64, now: Moment, out: &mut Vec<Effect>) {
        if epoch <= self.replica.fence {
            return;
        }
        self.replica.fence = epoch;
        let term = match &self.stream {
            Stream::Segments(live) => live.term,
            Stream::Seed(seed) => seed.term,
            Stream::Idle | Stream::Greeting { .. } => return,
        };
        if term < epoch {
            self.retry(now, out);
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, now: Moment, out: &mut Vec<Effect>) {
        let (session, term) = match &message {
            Message::Welcome { session, term, .. }
            | Message::Segment { session, term, .. }
            | Message::SnapshotBegin { session, term, .. }
            | Message::SnapshotChunk { session, term, .. } => (*session, *term),
            Message::Heartbeat(beat) => (beat.session, beat.term),
            Message::Goodbye { session } => (*session, self.replica.fence),
            _ => return,
        };
        if session != self.session || matches!(self.stream, Stream::Idle) {
            return;
        }
        if term < self.replica.fence {
            let message = Message::Refused { session, fence: self.replica.fence };
            out.push(Effect::Send { to: from, message });
            self.retry(now, out);
            return;
        }
        // A seed must come along; signs of life alone do not make it complete.
        let lively = matches!(message, Message::Heartbeat(_));
        if !(lively && matches!(self.stream, Stream::Seed(_))) {
            self.heard = now;
        }
        self.take_or_keep(message, now, out);
        self.take_early(now, out);
    }

    /// Handles a message of this session, or keeps it until its turn.
    fn take_or_keep(&mut self, message: Message, now: Moment, out: &mut Vec<Effect>) {
        let Some((key, bytes)) = self.ahead(&message, now) else {
            self.take(message, now, out);
            return;
        };
        if self.early_bytes.saturating_add(bytes) <= self.config.queue_bytes
            && self.early.len() < MAX_EARLY
            && !self.early.contains_key(&key)
        {
            self.early_bytes += bytes;
            self.early.insert(key, message);
        }
    }

    fn take_early(&mut self, now: Moment, out: &mut Vec<Effect>) {
        while let Some((key, message)) = self.early.pop_first() {
            if self.ahead(&message, now).is_some() {
                self.early.insert(key, message);
                return;
            }
            self.early_bytes -= opaque_bytes(&message);
            self.take(message, now, out);
        }
    }

    /// If it is not a message's turn yet: its place in the order, and its size.
    fn ahead(&mut self, message: &Message, now: Moment) -> Option<((u8, u64), usize)> {
        let bytes = opaque_bytes(message);
        match (message, &mut self.stream) {
            (Message::SnapshotBegin { .. }, Stream::Greeting { .. }) => Some(((0, 0), bytes)),
            (Message::SnapshotChunk { chunk, .. }, Stream::Greeting { .. }) => {
                Some(((1, *chunk), bytes))
            }
            (Message::SnapshotChunk { chunk, .. }, Stream::Seed(seed))
                if *chunk > seed.next_chunk || seed.snapshot.is_none() =>
            {
                Some(((1, *chunk), bytes))
            }
            (Message::Segment { segment, .. }, Stream::Greeting { .. } | Stream::Seed(_)) => {
                Some(((2, segment.header.position.txid), bytes))
            }
            (Message::Segment { segment, .. }, Stream::Segments(live))
                if segment.header.position.txid > live.end + 1 =>
            {
                live.gap.get_or_insert(now);
                Some(((2, segment.header.position.txid), bytes))
            }
            _ => None,
        }
    }

    fn take(&mut self, message: Message, now: Moment, out: &mut Vec<Effect>) {
        match message {
            Message::Welcome { term, tip, lineage, start, .. } => {
                self.on_welcome(term, tip, lineage, start, now, out);
            }
            Message::Segment { term, segment, .. } => self.on_segment(term, segment, now, out),
            Message::SnapshotBegin { term, snapshot, .. } => {
                let Stream::Seed(seed) = &mut self.stream else { return };
                if seed.snapshot.is_none() && seed.term == term {
                    seed.snapshot = Some(snapshot.clone());
                    let lineage = seed.lineage.up_to(snapshot.position.txid);
                    out.push(Effect::SeedBegin { snapshot, lineage });
                }
            }
            Message::SnapshotChunk { term, chunk, last, bytes, .. } => {
                self.on_chunk(term, chunk, last, bytes, out);
            }
            Message::Heartbeat(beat) => self.on_heartbeat(beat, now, out),
            Message::Goodbye { .. } => self.retry(now, out),
            _ => {}
        }
    }

    fn on_welcome(
        &mut self,
        term: u64,
        tip: u64,
        lineage: Lineage,
        start: Start,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        if !matches!(self.stream, Stream::Greeting { .. }) {
            return; // A duplicate.
        }
        if term > self.replica.fence {
            self.replica.fence = term;
            out.push(Effect::PersistFence { epoch: term });
        }
        match start {
            Start::Resume { after }
                if after == self.replica.txid && self.replica.health != Health::Quarantined =>
            {
                if self.replica.health == Health::Diverged {
                    // Another primary has what the last one had not.
                    self.replica.health = Health::Sound;
                    out.push(Effect::PersistSound);
                }
                if self.replica.lineage != lineage {
                    self.replica.lineage = lineage.clone();
                    out.push(Effect::PersistLineage { lineage });
                }
                let (end, checksum) = (self.replica.txid, self.replica.checksum);
                self.stream = Stream::Segments(Live { term, end, checksum, gap: None });
                self.attempt = 0;
                self.ack(now, out);
            }
            // Not an answer to what we asked; a bug of the sender.
            Start::Resume { .. } => self.retry(now, out),
            Start::Snapshot(why) => {
                let own = self.lineage();
                let quarantine = match why {
                    Why::Checksum => Some(Quarantine::Checksum),
                    Why::Diverged => {
                        let fork = own.fork(self.replica.txid, &lineage, tip);
                        Some(Quarantine::Diverged { fork })
                    }
                    Why::TooFarBehind | Why::Asked => None,
                };
                if let Some(quarantine) = quarantine {
                    self.quarantine(quarantine, out);
                }
                self.stream = Stream::Seed(Seed {
                    term,
                    lineage,
                    snapshot: None,
                    next_chunk: 0,
                    complete: false,
                });
            }
        }
    }

    fn quarantine(&mut self, quarantine: Quarantine, out: &mut Vec<Effect>) {
        let health = match quarantine {
            Quarantine::Diverged { .. } => Health::Diverged,
            Quarantine::Checksum => Health::Quarantined,
        };
        self.beats.forget();
        if self.replica.health == health || self.replica.health == Health::Quarantined {
            return;
        }
        self.replica.health = health;
        out.push(Effect::PersistQuarantine { quarantine });
    }

    fn on_segment(&mut self, term: u64, segment: Segment, now: Moment, out: &mut Vec<Effect>) {
        let Stream::Segments(live) = &mut self.stream else { return };
        let (txid, bytes) = (segment.header.position.txid, segment.bytes.len());
        if term != live.term || txid <= live.end {
            return; // A duplicate.
        }
        let foreign = self.replica.lineage.position(txid) != segment.header.position;
        let flooded = self.handed_bytes.saturating_add(bytes) > self.config.queue_bytes
            && !self.handed.is_empty();
        if foreign || segment.header.before != live.checksum || flooded {
            // The handshake that follows finds out which of the two is wrong.
            self.retry(now, out);
            return;
        }
        (live.end, live.checksum) = (txid, segment.header.after);
        live.gap = None;
        self.handed.push_back((txid, segment.header.after, bytes));
        self.handed_bytes += bytes;
        out.push(Effect::Apply { segment });
    }

    fn on_applied(&mut self, txid: u64, checksum: u64, now: Moment, out: &mut Vec<Effect>) {
        let Some((_, expected, bytes)) = self.handed.pop_front_if(|(t, ..)| *t == txid) else {
            return;
        };
        self.handed_bytes -= bytes;
        self.replica.txid = txid;
        self.replica.checksum = checksum;
        if checksum != expected {
            self.handed.clear();
            self.handed_bytes = 0;
            self.quarantine(Quarantine::Checksum, out);
            self.retry(now, out);
            return;
        }
        self.beats.reached(txid);
        self.ack(now, out);
    }

    /// Tells upstream what is durable. Never behind a promise to a newer epoch.
    fn ack(&mut self, now: Moment, out: &mut Vec<Effect>) {
        let (Stream::Segments(live), Some(to)) = (&self.stream, self.upstream) else { return };
        if live.term < self.replica.fence || self.replica.health != Health::Sound {
            return;
        }
        let rank = self.lineage().rank(self.replica.txid);
        let (session, term) = (self.session, live.term);
        out.push(Effect::Send { to, message: Message::Ack { session, term, rank, sent: now.0 } });
    }

    fn on_heartbeat(&mut self, beat: Heartbeat, now: Moment, out: &mut Vec<Effect>) {
        self.primary_ms = beat.primary_ms;
        let Stream::Segments(live) = &mut self.stream else {
            if let (Stream::Seed(seed), Some(to)) = (&self.stream, self.upstream) {
                // A sign of life while a long seed is stored.
                let rank = Position::default();
                let (session, term) = (self.session, seed.term);
                let message = Message::Ack { session, term, rank, sent: now.0 };
                out.push(Effect::Send { to, message });
            }
            return;
        };
        if beat.sent > live.end {
            // It was sent before this; if it stays away, it was lost.
            live.gap.get_or_insert(now);
        }
        let settled = self.handed.is_empty() && beat.tip.txid == self.replica.txid;
        if settled && beat.checksum != self.replica.checksum {
            self.retry(now, out);
            return;
        }
        if let Some(age) = beat.age {
            let as_of = Moment(beat.echo.saturating_sub(age));
            self.beats.heard(beat.tip.txid, as_of, self.replica.txid);
        }
        self.ack(now, out);
    }

    fn on_chunk(&mut self, term: u64, chunk: u64, last: bool, bytes: Bytes, out: &mut Vec<Effect>) {
        let Stream::Seed(seed) = &mut self.stream else { return };
        if term != seed.term || chunk != seed.next_chunk || seed.complete {
            return; // A duplicate.
        }
        seed.next_chunk += 1;
        seed.complete = last;
        out.push(Effect::SeedChunk { chunk, last, bytes });
    }

    fn on_seeded(&mut self, txid: u64, checksum: u64, now: Moment, out: &mut Vec<Effect>) {
        let Stream::Seed(seed) = &self.stream else { return };
        let Some(snapshot) = &seed.snapshot else { return };
        self.replica.lineage = seed.lineage.up_to(txid);
        self.replica.txid = txid;
        self.replica.checksum = checksum;
        self.replica.health = Health::Sound;
        self.beats.forget();
        if txid != snapshot.position.txid || checksum != snapshot.checksum {
            self.quarantine(Quarantine::Checksum, out);
            self.retry(now, out);
            return;
        }
        if seed.term < self.replica.fence {
            self.retry(now, out);
            return;
        }
        let lineage = seed.lineage.clone();
        let term = seed.term;
        if self.replica.lineage != lineage {
            self.replica.lineage = lineage.clone();
            out.push(Effect::PersistLineage { lineage });
        }
        self.stream = Stream::Segments(Live { term, end: txid, checksum, gap: None });
        self.attempt = 0;
        self.heard = now;
        self.ack(now, out);
        self.take_early(now, out);
    }
}
