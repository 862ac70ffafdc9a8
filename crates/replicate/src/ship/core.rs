//! The shipper's state machine.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use verge_types::Position;

use crate::ack::settled;
use crate::ship::ShipConfig;
use crate::ship::peer::{Peer, Stage};
use crate::ship::retain::Retention;
use crate::time::micros;
use crate::wire::{Heartbeat, Hello, Message, Segment, SnapshotHeader, Start, Why};
use crate::{AckMode, Lineage, Moment, NodeId};

/// Sessions remembered of each follower; copies of a message do not come later than that.
const MAX_SESSIONS: usize = 16;

/// In whose name is shipped.
#[derive(Clone, Debug)]
pub enum Origin {
    /// The primary: it acknowledges. `voters` counts itself.
    Primary { me: NodeId, mode: AckMode, voters: BTreeSet<NodeId> },
    /// A replica that serves other replicas. `voters`: what they acknowledged to the primary may
    /// not have come here yet.
    Relay { voters: BTreeSet<NodeId> },
}

/// What happens to a shipper.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed; at least twice per `beat_every`. `wall_ms`: milliseconds since 1970.
    Tick { wall_ms: u64 },
    /// A follower introduces itself. `first`: the oldest segment in the log (tip + 1 when there
    /// is none). `ours`: our checksum at its position, if the log still knows it.
    Hello { from: NodeId, hello: Hello, first: u64, ours: Option<u64> },
    /// Any other message of a follower.
    Message { from: NodeId, message: Message },
    /// The link to a node is down.
    Gone { node: NodeId },
    /// A segment is durable in our log.
    Appended { segment: Segment },
    /// The answer to `Load`: segments in order, as many as fit, at least one. Empty: the log does
    /// not have them any more.
    Loaded { to: NodeId, session: u64, segments: Vec<Segment> },
    /// The answer to `OpenSnapshot`.
    SnapshotOpened { to: NodeId, session: u64, snapshot: SnapshotHeader },
    /// The answer to `LoadChunk`.
    ChunkLoaded { to: NodeId, session: u64, chunk: u64, last: bool, bytes: Bytes },
    /// The snapshot cannot be made or read now; the follower will ask again.
    SnapshotFailed { to: NodeId, session: u64 },
    /// The lease's `Extended` of this epoch.
    Extended { until: Moment },
    /// The lease's `Retracted`: nothing may be acknowledged or called fresh any more.
    Retracted,
    /// At a relay: its own data is the primary's of no earlier than `as_of`.
    Fresh { as_of: Option<Moment> },
    /// At a relay: it serves no longer.
    Retire,
}

/// What a shipper wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Send {
        to: NodeId,
        message: Message,
    },
    /// Read segments after `after` from the log, up to `max_bytes` but at least one.
    Load {
        to: NodeId,
        session: u64,
        after: u64,
        max_bytes: usize,
    },
    /// Pin a snapshot of the data as it is now.
    OpenSnapshot {
        to: NodeId,
        session: u64,
    },
    /// Read a chunk of it; chunks count from 0.
    LoadChunk {
        to: NodeId,
        session: u64,
        chunk: u64,
    },
    CloseSnapshot {
        to: NodeId,
        session: u64,
    },
    /// Groups up to this transaction may be acknowledged to their clients.
    Acknowledge {
        up_to: u64,
    },
    /// Segments before `from` are needed by nobody.
    Retain {
        from: u64,
    },
    /// For the lease: a follower is promised to a newer epoch.
    Fenced {
        epoch: u64,
    },
    /// For the lease: how far a follower is.
    Progress {
        from: NodeId,
        rank: Position,
        settled: Option<Position>,
    },
}

/// Ships one dataset to all its followers.
#[derive(Clone, Debug)]
pub struct Shipper {
    config: ShipConfig,
    origin: Origin,
    term: u64,
    lineage: Lineage,
    tip: u64,
    checksum: u64,
    wall_ms: u64,
    /// Relay: our data's age; primary: not used.
    as_of: Option<Moment>,
    until: Moment,
    acknowledged: u64,
    recent: VecDeque<Segment>,
    recent_bytes: usize,
    peers: BTreeMap<NodeId, Peer>,
    ranks: BTreeMap<NodeId, Position>,
    retention: Retention,
    /// The last sessions of each follower, so that a late copy of a Hello begins none again.
    sessions: BTreeMap<NodeId, VecDeque<u64>>,
    /// What was appended is of another lineage than ours: a new shipper is due.
    retired: bool,
}

impl Shipper {
    /// A shipper of a history that ends at `tip` with `checksum`, for one term.
    pub fn new(
        config: ShipConfig,
        origin: Origin,
        term: u64,
        lineage: Lineage,
        tip: u64,
        checksum: u64,
        now: Moment,
    ) -> Self {
        let mut retention = Retention::default();
        if let Origin::Primary { me, voters, .. } = &origin {
            // Not heard of yet: they may be anywhere, so the cap alone limits what they need.
            for voter in voters.iter().filter(|voter| *voter != me) {
                retention.gone(*voter, 0, now);
            }
        }
        Self {
            config,
            origin,
            term,
            lineage,
            tip,
            checksum,
            wall_ms: 0,
            as_of: None,
            until: Moment(0),
            acknowledged: tip,
            recent: VecDeque::new(),
            recent_bytes: 0,
            peers: BTreeMap::new(),
            ranks: BTreeMap::new(),
            retention,
            sessions: BTreeMap::new(),
            retired: false,
        }
    }

    pub fn term(&self) -> u64 {
        self.term
    }

    /// What may be acknowledged by the mode, whatever the lease says; `None` at a relay or while
    /// nothing of this term is settled. Strong reads wait until it covers what they would see.
    pub fn settled(&self) -> Option<Position> {
        let Origin::Primary { mode, voters, .. } = &self.origin else { return None };
        let ranks = self.ranks.iter().filter(|(node, _)| voters.contains(node)).map(|(_, r)| *r);
        settled(*mode, Position::new(self.term, self.tip), voters.len(), ranks)
    }

    /// Followers in a session and what each has durably; for `db lag`.
    pub fn followers(&self) -> impl Iterator<Item = (NodeId, Position)> + '_ {
        self.peers.iter().map(|(node, peer)| (*node, peer.acked))
    }

    /// One step.
    pub fn on(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Tick { wall_ms } => self.on_tick(wall_ms, now, &mut out),
            Event::Hello { from, hello, first, ours } => {
                self.on_hello(from, hello, first, ours, now, &mut out);
            }
            Event::Message { from, message } => self.on_message(from, message, now, &mut out),
            Event::Gone { node } => self.drop_peer(node, now, &mut out),
            Event::Appended { segment } => self.on_appended(segment, now, &mut out),
            Event::Loaded { to, session, segments } => {
                self.on_loaded(to, session, segments, &mut out);
            }
            Event::SnapshotOpened { to, session, snapshot } => {
                self.on_snapshot(to, session, snapshot, &mut out);
            }
            Event::ChunkLoaded { to, session, chunk, last, bytes } => {
                self.on_chunk(to, session, chunk, last, bytes, &mut out);
            }
            Event::SnapshotFailed { to, session } => {
                if self.peers.get(&to).is_some_and(|peer| peer.session == session) {
                    out.push(Effect::Send { to, message: Message::Goodbye { session } });
                    self.drop_peer(to, now, &mut out);
                }
            }
            Event::Extended { until } => {
                self.until = self.until.max(until);
                self.acknowledge(now, &mut out);
            }
            Event::Retracted => self.until = Moment(0),
            Event::Fresh { as_of } => self.as_of = as_of,
            Event::Retire => self.retire(now, &mut out),
        }
        out
    }

    fn on_tick(&mut self, wall_ms: u64, now: Moment, out: &mut Vec<Effect>) {
        self.wall_ms = wall_ms;
        let silent: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| now.since(peer.heard) >= self.config.silence)
            .map(|(node, _)| *node)
            .collect();
        for node in silent {
            self.drop_peer(node, now, out);
        }
        let age = match self.origin {
            Origin::Primary { .. } => (now < self.until).then_some(0),
            Origin::Relay { .. } => self.as_of.map(|as_of| micros(now.since(as_of))),
        };
        let tip = self.lineage.position(self.tip);
        for (node, peer) in &mut self.peers {
            if now < peer.next_beat {
                continue;
            }
            peer.next_beat = now + self.config.beat_every;
            let beat = Heartbeat {
                session: peer.session,
                term: self.term,
                tip,
                checksum: self.checksum,
                sent: match peer.stage {
                    Stage::Segments { next, .. } => next - 1,
                    _ => 0,
                },
                echo: peer.echo,
                age,
                primary_ms: wall_ms,
            };
            out.push(Effect::Send { to: *node, message: Message::Heartbeat(beat) });
        }
        let needs = self.peers.values().map(|peer| match peer.stage {
            Stage::Chunks { at, .. } => at,
            _ => peer.acked.txid,
        });
        if let Some(from) = self.retention.floor(needs, self.tip, now, &self.config) {
            out.push(Effect::Retain { from });
        }
        self.acknowledge(now, out);
    }

    fn on_hello(
        &mut self,
        from: NodeId,
        hello: Hello,
        first: u64,
        ours: Option<u64>,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        let known = self.sessions.entry(from).or_default();
        if known.contains(&hello.session) {
            return; // Two streams of one session must not mix.
        }
        if known.len() == MAX_SESSIONS {
            known.pop_front();
        }
        known.push_back(hello.session);
        self.drop_peer(from, now, out);
        if self.retired {
            let message = Message::Goodbye { session: hello.session };
            out.push(Effect::Send { to: from, message });
            return;
        }
        if hello.fence > self.term {
            out.push(Effect::Fenced { epoch: hello.fence });
            let message = Message::Goodbye { session: hello.session };
            out.push(Effect::Send { to: from, message });
            return;
        }
        let Some(start) = self.start(from, &hello, first, ours) else {
            let message = Message::Goodbye { session: hello.session };
            out.push(Effect::Send { to: from, message });
            return;
        };
        let stage = match start {
            Start::Resume { after } => Stage::Segments { next: after + 1, loading: false },
            Start::Snapshot(_) => Stage::Opening,
        };
        let acked = match start {
            Start::Resume { after } => self.lineage.position(after),
            Start::Snapshot(_) => Position::default(),
        };
        self.retention.returned(from);
        let peer = Peer {
            session: hello.session,
            stage,
            acked,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            heard: now,
            echo: hello.sent,
            next_beat: now,
        };
        self.peers.insert(from, peer);
        let welcome = Message::Welcome {
            session: hello.session,
            term: self.term,
            tip: self.tip,
            lineage: self.lineage.clone(),
            start,
        };
        out.push(Effect::Send { to: from, message: welcome });
        if matches!(start, Start::Snapshot(_)) {
            out.push(Effect::OpenSnapshot { to: from, session: hello.session });
        }
        self.pump(from, out);
    }

    /// How to go on with a follower; `None` if that is not ours to tell.
    fn start(&self, from: NodeId, hello: &Hello, first: u64, ours: Option<u64>) -> Option<Start> {
        let txid = hello.position.txid;
        let ours = if txid == self.tip { Some(self.checksum) } else { ours };
        let start = if hello.reseed {
            Start::Snapshot(Why::Asked)
        } else if txid > self.tip || self.lineage.position(txid) != hello.position {
            Start::Snapshot(Why::Diverged)
        } else if ours.is_some_and(|ours| ours != hello.checksum) {
            Start::Snapshot(Why::Checksum)
        } else if txid < self.tip && txid + 1 < first {
            Start::Snapshot(Why::TooFarBehind)
        } else {
            Start::Resume { after: txid }
        };
        let Origin::Relay { voters } = &self.origin else { return Some(start) };
        match start {
            // It is ahead of us, in the same history as far as we know.
            Start::Snapshot(Why::Diverged)
                if txid > self.tip && self.lineage.position(txid) == hello.position =>
            {
                None
            }
            // Our data would make a voter of it again without all that it has acknowledged.
            Start::Snapshot(Why::Asked | Why::Checksum) if voters.contains(&from) => None,
            start => Some(start),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, now: Moment, out: &mut Vec<Effect>) {
        match message {
            Message::Ack { session, term, rank, sent } => {
                self.on_ack(from, session, term, rank, sent, now, out);
            }
            Message::SnapshotAck { session, term, chunk } => {
                let Some(peer) = self.peers.get_mut(&from) else { return };
                if peer.session != session || term != self.term {
                    return;
                }
                peer.heard = now;
                let Stage::Chunks { at, next, last, .. } = peer.stage else { return };
                peer.arrived(chunk);
                if last && chunk + 1 == next {
                    peer.stage = Stage::Segments { next: at + 1, loading: false };
                    out.push(Effect::CloseSnapshot { to: from, session });
                }
                self.pump(from, out);
            }
            Message::Refused { fence, .. } if fence > self.term => {
                out.push(Effect::Fenced { epoch: fence });
                self.drop_peer(from, now, out);
            }
            _ => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a message's fields")]
    fn on_ack(
        &mut self,
        from: NodeId,
        session: u64,
        term: u64,
        rank: Position,
        sent: u64,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.session != session || term != self.term || rank.txid > self.tip {
            return;
        }
        peer.heard = now;
        peer.echo = peer.echo.max(sent);
        match peer.stage {
            Stage::Segments { .. } => peer.arrived(rank.txid),
            // It goes on from the snapshot, so it has it: its last chunk's answer was lost.
            Stage::Chunks { at, last: true, .. } if rank.epoch > 0 && rank.txid >= at => {
                peer.in_flight.clear();
                peer.in_flight_bytes = 0;
                peer.stage = Stage::Segments { next: at + 1, loading: false };
                out.push(Effect::CloseSnapshot { to: from, session });
            }
            Stage::Opening | Stage::Chunks { .. } => {}
        }
        peer.acked = peer.acked.max(rank);
        let known = self.ranks.entry(from).or_default();
        *known = (*known).max(rank);
        let settled = self.settled();
        out.push(Effect::Progress { from, rank, settled });
        self.acknowledge(now, out);
        self.pump(from, out);
    }

    fn on_appended(&mut self, segment: Segment, now: Moment, out: &mut Vec<Effect>) {
        if self.retired {
            return;
        }
        let expected = self.lineage.position(self.tip + 1);
        if segment.header.position != expected {
            self.retire(now, out);
            return;
        }
        let (txid, bytes) = (segment.header.position.txid, segment.bytes.len());
        self.tip = txid;
        self.checksum = segment.header.after;
        self.retention.appended(txid, bytes, &self.config);
        self.recent_bytes += bytes;
        self.recent.push_back(segment);
        while self.recent_bytes > self.config.recent_bytes && self.recent.len() > 1 {
            if let Some(old) = self.recent.pop_front() {
                self.recent_bytes -= old.bytes.len();
            }
        }
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            self.pump(node, out);
        }
        self.acknowledge(now, out);
    }

    fn acknowledge(&mut self, now: Moment, out: &mut Vec<Effect>) {
        // A group that is settled after the lease's end waits: for a renewal, or to be abandoned.
        if now >= self.until {
            return;
        }
        if let Some(settled) = self.settled()
            && settled.txid > self.acknowledged
        {
            self.acknowledged = settled.txid;
            out.push(Effect::Acknowledge { up_to: settled.txid });
        }
    }

    fn on_loaded(
        &mut self,
        to: NodeId,
        session: u64,
        segments: Vec<Segment>,
        out: &mut Vec<Effect>,
    ) {
        let term = self.term;
        let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.session == session) else {
            return;
        };
        let Stage::Segments { next, loading: true } = peer.stage else { return };
        let mut next = next;
        let mut sent = false;
        for segment in segments {
            if segment.header.position.txid != next || next > self.tip {
                break;
            }
            next += 1;
            sent = true;
            peer.sent(segment.header.position.txid, segment.bytes.len());
            out.push(Effect::Send { to, message: Message::Segment { session, term, segment } });
        }
        peer.stage = Stage::Segments { next, loading: false };
        if !sent {
            // Retention overtook it, so it shakes hands again and is told to take a snapshot.
            out.push(Effect::Send { to, message: Message::Goodbye { session } });
            self.peers.remove(&to);
            return;
        }
        self.pump(to, out);
    }

    fn on_snapshot(
        &mut self,
        to: NodeId,
        session: u64,
        snapshot: SnapshotHeader,
        out: &mut Vec<Effect>,
    ) {
        let term = self.term;
        let peer = self.peers.get_mut(&to).filter(|peer| peer.session == session);
        let Some(peer) = peer.filter(|peer| peer.stage == Stage::Opening) else {
            out.push(Effect::CloseSnapshot { to, session });
            return;
        };
        let at = snapshot.position.txid;
        if self.lineage.position(at) != snapshot.position {
            let message = Message::Goodbye { session };
            out.push(Effect::Send { to, message });
            out.push(Effect::CloseSnapshot { to, session });
            self.peers.remove(&to);
            return;
        }
        peer.stage = Stage::Chunks { at, next: 0, loading: false, last: false };
        out.push(Effect::Send { to, message: Message::SnapshotBegin { session, term, snapshot } });
        self.pump(to, out);
    }

    fn on_chunk(
        &mut self,
        to: NodeId,
        session: u64,
        chunk: u64,
        is_last: bool,
        bytes: Bytes,
        out: &mut Vec<Effect>,
    ) {
        let term = self.term;
        let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.session == session) else {
            return;
        };
        let Stage::Chunks { next, loading, last, .. } = &mut peer.stage else { return };
        if !*loading || chunk != *next {
            return;
        }
        (*loading, *last) = (false, is_last);
        *next += 1;
        peer.sent(chunk, bytes.len());
        let message = Message::SnapshotChunk { session, term, chunk, last: is_last, bytes };
        out.push(Effect::Send { to, message });
        self.pump(to, out);
    }

    /// Sends, or asks for, what the window has room for.
    fn pump(&mut self, to: NodeId, out: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let session = peer.session;
        let window = self.config.window_bytes;
        match &mut peer.stage {
            Stage::Opening => {}
            Stage::Chunks { next, loading, last, .. } => {
                if !*last && !*loading && (peer.in_flight_bytes < window) {
                    *loading = true;
                    out.push(Effect::LoadChunk { to, session, chunk: *next });
                }
            }
            Stage::Segments { .. } => self.pump_segments(to, out),
        }
    }

    fn pump_segments(&mut self, to: NodeId, out: &mut Vec<Effect>) {
        let first = self.recent.front().map(|segment| segment.header.position.txid);
        let (term, tip) = (self.term, self.tip);
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let session = peer.session;
        while peer.has_room(self.config.window_bytes) {
            let Stage::Segments { next, loading } = &mut peer.stage else { return };
            if *next > tip || *loading {
                return;
            }
            let index = first.and_then(|first| next.checked_sub(first));
            let segment = index
                .and_then(|index| usize::try_from(index).ok())
                .and_then(|index| self.recent.get(index));
            let Some(segment) = segment else {
                *loading = true;
                let (after, max_bytes) = (*next - 1, self.config.load_bytes);
                out.push(Effect::Load { to, session, after, max_bytes });
                return;
            };
            let (number, segment) = (*next, segment.clone());
            *next += 1;
            peer.sent(number, segment.bytes.len());
            out.push(Effect::Send { to, message: Message::Segment { session, term, segment } });
        }
    }

    /// Sends all followers away: this lineage is not the data's any more.
    fn retire(&mut self, now: Moment, out: &mut Vec<Effect>) {
        self.retired = true;
        let sessions: Vec<(NodeId, u64)> =
            self.peers.iter().map(|(node, peer)| (*node, peer.session)).collect();
        for (to, session) in sessions {
            out.push(Effect::Send { to, message: Message::Goodbye { session } });
            self.drop_peer(to, now, out);
        }
    }

    fn drop_peer(&mut self, node: NodeId, now: Moment, out: &mut Vec<Effect>) {
        let Some(peer) = self.peers.remove(&node) else { return };
        if matches!(peer.stage, Stage::Opening | Stage::Chunks { .. }) {
            out.push(Effect::CloseSnapshot { to: node, session: peer.session });
        }
        self.retention.gone(node, peer.acked.txid, now);
    }
}
