//! The lease's state machine: watching, holding, and what it hears from the register. Elections
//! are in `election`, planned hand-over is in `handover`.
//!
//! Always: `Promote` comes only after a swap of ours was confirmed, with `until` in the future;
//! an epoch is never begun twice, nor by two nodes; between `Promote` and `Demote` nobody else's
//! swap succeeded.

use std::collections::VecDeque;
use std::time::Duration;

use verge_types::Position;

use crate::jitter::Jitter;
use crate::lease::election::Candidacy;
use crate::lease::handover::HandOver;
use crate::lease::{LeaseConfig, Phase, Record, RegisterAnswer};
use crate::wire::{Poll, PollReply};
use crate::{Lineage, Moment, NodeId};

/// Swaps whose outcome may still be unknown; older ones are taken for not sent.
const MAX_ATTEMPTS: usize = 16;

/// What the lease must know of the data at each call.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    pub lineage: &'a Lineage,
    /// The last durable transaction in the log.
    pub txid: u64,
    /// `Health` is not `Quarantined`: what it acknowledged is in its data.
    pub sound: bool,
}

impl Local<'_> {
    pub(crate) fn rank(&self) -> Position {
        self.lineage.rank(self.txid)
    }
}

/// What happens to a lease.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed; more often than `margin`, and at least every fifth of `renew_every`.
    Tick,
    /// The answer to operation `op`.
    Register { op: u64, answer: RegisterAnswer },
    /// A candidate asks for our promise.
    Poll { from: NodeId, poll: Poll },
    /// A voter's answer.
    PollReply { from: NodeId, reply: PollReply },
    /// A higher fence was met, on a follower or in a message.
    Fenced { epoch: u64 },
    /// The operator asks the primary to hand over.
    HandOver { to: NodeId },
    /// All writes are refused from now on and none is running: `Local::txid` is final.
    WritesStopped,
    /// A follower acknowledged up to `rank`, and `settled` may be acknowledged to clients.
    Progress { from: NodeId, rank: Position, settled: Option<Position> },
    /// A primary told us that it has released the lease for us.
    Offered,
}

/// Why a primary is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demotion {
    /// It handed over, and the successor has everything.
    HandedOver { to: NodeId },
    /// Somebody else claimed the lease; what was written after the new record's base and not
    /// shipped is a tail that will be set aside.
    Replaced { by: NodeId, epoch: u64 },
}

/// What the lease wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the register.
    Read {
        op: u64,
    },
    /// Replace the register's value if it is `expected`.
    Swap {
        op: u64,
        expected: Option<Record>,
        new: Record,
    },
    SendPoll {
        to: NodeId,
        poll: Poll,
    },
    SendReply {
        to: NodeId,
        reply: PollReply,
    },
    /// Make the promise to refuse epochs below this one durable, and tell the follower core.
    PersistFence {
        epoch: u64,
    },
    /// Begin `epoch` after `base`: persist it in the lineage, and that the data is sound; then
    /// admit writes.
    Promote {
        epoch: u64,
        base: u64,
    },
    /// Acknowledgements and strong reads are allowed before `until`.
    Extended {
        epoch: u64,
        until: Moment,
    },
    /// What `Extended` allowed is over now: the lease is about to be released.
    Retracted,
    /// Refuse new writes, let running ones end, answer with `WritesStopped`.
    StopWrites,
    /// The hand-over was called off: admit writes again.
    ResumeWrites,
    /// Refuse writes, abandon groups that were not acknowledged (their outcome is unknown to
    /// their clients), become a replica.
    Demote {
        reason: Demotion,
    },
    /// Tell the successor to look at the register now.
    Offer {
        to: NodeId,
    },
    HandOverFailed {
        to: NodeId,
    },
    /// Who the register says is primary, whenever that changes.
    Primary {
        node: NodeId,
        epoch: u64,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Role {
    Watching,
    Candidate(Candidacy),
    Holder(Holder),
}

/// The register's record is ours.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub until: Moment,
    pub promoted: bool,
    pub hand_over: Option<HandOver>,
    /// A voter promised itself to a higher epoch; ours must rise above it.
    pub outbid: Option<Outbid>,
}

impl Holder {
    /// Our swap may have released the lease by now, and the successor may rule.
    fn releasing(&self) -> bool {
        self.hand_over.as_ref().is_some_and(|hand_over| hand_over.ready)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Outbid {
    pub epoch: u64,
    pub stopped: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    op: u64,
    sent: Moment,
    swap: bool,
}

/// The lease of one dataset on one node.
#[derive(Clone, Debug)]
pub struct Lease {
    pub(super) config: LeaseConfig,
    pub(super) role: Role,
    pub(super) fence: u64,
    /// The newest record seen. Outer `None`: nothing seen yet.
    pub(super) seen: Option<Option<Record>>,
    /// How long we have watched it unchanged; time in which we were not called does not count.
    pub(super) watched: Duration,
    last_event: Option<Moment>,
    next_op: u64,
    operation: Option<Operation>,
    next_look: Moment,
    attempts: VecDeque<(Record, Moment)>,
    sequence: u64,
    pub(super) not_before: Moment,
    pub(super) futile: u32,
    pub(super) round: u64,
    pub(super) jitter: Jitter,
    announced: Option<(NodeId, u64)>,
    pub(super) offered: bool,
}

impl Lease {
    /// A lease of a process that just started; `fence` is the promise that it kept durably.
    pub fn new(config: LeaseConfig, fence: u64) -> Self {
        let jitter = Jitter::new(config.jitter_seed);
        Self {
            config,
            role: Role::Watching,
            fence,
            seen: None,
            watched: Duration::ZERO,
            last_event: None,
            next_op: 1,
            operation: None,
            next_look: Moment(0),
            attempts: VecDeque::new(),
            sequence: 0,
            not_before: Moment(0),
            futile: 0,
            round: 0,
            jitter,
            announced: None,
            offered: false,
        }
    }

    /// The epoch in which this node is primary, if acknowledging is allowed at `now`.
    pub fn valid_epoch(&self, now: Moment) -> Option<u64> {
        match (&self.role, self.seen) {
            (Role::Holder(holder), Some(Some(record)))
                if holder.promoted
                    && holder.outbid.is_none()
                    && !holder.releasing()
                    && now < holder.until =>
            {
                Some(record.epoch)
            }
            _ => None,
        }
    }

    /// The lowest epoch that this node still listens to.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// Who holds the lease, as far as is known here.
    pub fn holder(&self) -> Option<NodeId> {
        self.seen.flatten().map(|record| record.holder)
    }

    /// One step.
    pub fn on(&mut self, event: Event, local: Local<'_>, now: Moment) -> Vec<Effect> {
        let mut out = Vec::new();
        // A clock that jumps, or a pause, counts as a margin at most: others' leases did not run
        // any faster for it.
        let passed = self.last_event.map_or(Duration::ZERO, |last| now.since(last));
        self.watched = self.watched.saturating_add(passed.min(self.config.margin));
        self.last_event = Some(now);
        match event {
            Event::Tick => {}
            Event::Register { op, answer } => self.on_register(op, answer, local, now, &mut out),
            Event::Poll { from, poll } => self.on_poll(from, poll, local, now, &mut out),
            Event::PollReply { from, reply } => self.on_poll_reply(from, reply, now, &mut out),
            Event::Fenced { epoch } => self.on_fenced(epoch, &mut out),
            Event::HandOver { to } => self.on_hand_over(to, now, &mut out),
            Event::WritesStopped => self.on_writes_stopped(local, now),
            Event::Progress { from, rank, settled } => self.on_progress(from, rank, settled),
            Event::Offered => {
                self.offered = true;
                self.next_look = now;
            }
        }
        self.drive(local, now, &mut out);
        out
    }

    fn drive(&mut self, local: Local<'_>, now: Moment, out: &mut Vec<Effect>) {
        if let Some(operation) = self.operation
            && now.since(operation.sent) >= self.config.operation_timeout
        {
            // Its outcome is unknown; a read tells.
            self.operation = None;
            self.next_look = now;
        }
        match self.role {
            Role::Watching => self.consider_candidacy(local, now, out),
            Role::Candidate(_) => self.drive_candidacy(local, now, out),
            Role::Holder(_) => self.drive_holder(local, now, out),
        }
        if self.operation.is_none() && now >= self.next_look {
            let op = self.begin(false, now);
            out.push(Effect::Read { op });
        }
    }

    fn drive_holder(&mut self, local: Local<'_>, now: Moment, out: &mut Vec<Effect>) {
        self.drive_hand_over(local, now, out);
        let Role::Holder(holder) = &self.role else { return };
        let Some(Some(record)) = self.seen else { return };
        if self.operation.is_some() || matches!(record.phase, Phase::Released { .. }) {
            return;
        }
        let mut new = Record { phase: Phase::Held, ..record };
        let mut due = now >= self.next_look;
        match (&holder.hand_over, holder.outbid) {
            (Some(hand_over), _) if hand_over.ready => {
                new.phase = Phase::Released { successor: Some(hand_over.to) };
                new.base = local.txid;
                due = true;
            }
            (_, Some(Outbid { epoch, stopped: true })) => {
                new.epoch = epoch.max(self.fence).max(record.epoch) + 1;
                new.base = local.txid;
                due = true;
            }
            _ => {}
        }
        if due {
            self.swap(Some(record), new, now, out);
        }
    }

    fn begin(&mut self, swap: bool, now: Moment) -> u64 {
        let op = self.next_op;
        self.next_op += 1;
        self.operation = Some(Operation { op, sent: now, swap });
        self.next_look = now + self.config.renew_every;
        op
    }

    pub(super) fn busy(&self) -> bool {
        self.operation.is_some()
    }

    pub(super) fn look_soon(&mut self, now: Moment) {
        self.next_look = now;
    }

    pub(super) fn swap(
        &mut self,
        expected: Option<Record>,
        new: Record,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        self.sequence += 1;
        let new = Record {
            holder: self.config.me,
            incarnation: self.config.incarnation,
            sequence: self.sequence,
            ttl_ms: u64::try_from(self.config.ttl.as_millis()).unwrap_or(u64::MAX),
            ..new
        };
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back((new, now));
        let op = self.begin(true, now);
        out.push(Effect::Swap { op, expected, new });
    }

    fn on_register(
        &mut self,
        op: u64,
        answer: RegisterAnswer,
        local: Local<'_>,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        let Some(operation) = self.operation.filter(|operation| operation.op == op) else {
            return;
        };
        self.operation = None;
        let current = match answer {
            RegisterAnswer::Value(value) | RegisterAnswer::Conflict(value) => value,
            RegisterAnswer::Swapped if operation.swap => {
                self.attempts.back().map(|(record, _)| *record)
            }
            RegisterAnswer::Swapped | RegisterAnswer::Unknown => {
                self.next_look = now + self.jitter.spread(self.config.renew_every / 2);
                return;
            }
        };
        self.learn(current, local, now, out);
    }

    /// The register holds `current`, whatever we believed.
    fn learn(
        &mut self,
        current: Option<Record>,
        local: Local<'_>,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        if self.seen != Some(current) {
            self.seen = Some(current);
            self.watched = Duration::ZERO;
            self.futile = 0;
            if let Role::Candidate(candidacy) = &self.role
                && candidacy.expected != current
            {
                self.role = Role::Watching;
            }
        }
        let Some(record) = current else { return };
        let mine = record.holder == self.config.me && record.incarnation == self.config.incarnation;
        match record.phase {
            Phase::Held if mine => self.hold(record, local, now, out),
            Phase::Released { successor } if mine => {
                if let (Role::Holder(_), Some(to)) = (&self.role, successor) {
                    out.push(Effect::Demote { reason: Demotion::HandedOver { to } });
                    out.push(Effect::Offer { to });
                }
                self.role = Role::Watching;
                self.attempts.clear();
            }
            _ => {
                if let Role::Holder(holder) = &self.role
                    && holder.promoted
                {
                    let (by, epoch) = (record.holder, record.epoch);
                    out.push(Effect::Demote { reason: Demotion::Replaced { by, epoch } });
                }
                if let Role::Holder(_) = self.role {
                    self.role = Role::Watching;
                }
                self.attempts.clear();
                self.announce(record, out);
            }
        }
    }

    fn announce(&mut self, record: Record, out: &mut Vec<Effect>) {
        let primary = match record.phase {
            Phase::Held => (record.holder, record.epoch),
            Phase::Released { .. } => return,
        };
        if self.announced != Some(primary) {
            self.announced = Some(primary);
            out.push(Effect::Primary { node: primary.0, epoch: primary.1 });
        }
    }

    fn hold(&mut self, record: Record, local: Local<'_>, now: Moment, out: &mut Vec<Effect>) {
        let sent = self.attempts.iter().find(|(r, _)| *r == record).map(|(_, sent)| *sent);
        while self.attempts.front().is_some_and(|(r, _)| r.sequence < record.sequence) {
            self.attempts.pop_front();
        }
        let mut holder = match std::mem::replace(&mut self.role, Role::Watching) {
            Role::Holder(holder) => holder,
            _ => Holder { until: Moment(0), promoted: false, hand_over: None, outbid: None },
        };
        let until = sent.map(|sent| sent + self.config.ttl - self.config.margin);
        let extended = until.is_some_and(|until| until > holder.until && until > now);
        if let Some(until) = until {
            holder.until = holder.until.max(until);
        }
        if let Some(outbid) = holder.outbid
            && record.epoch > outbid.epoch
        {
            holder.outbid = None;
            holder.promoted = false;
        }
        if record.epoch > self.fence {
            self.fence = record.epoch;
            out.push(Effect::PersistFence { epoch: record.epoch });
        }
        if !holder.promoted && holder.outbid.is_none() && local.txid != record.base {
            // A segment that was being applied when we claimed has come in: begin after it.
            holder.outbid = Some(Outbid { epoch: record.epoch, stopped: true });
        }
        if self.fence > record.epoch && holder.outbid.is_none() {
            holder.outbid = Some(Outbid { epoch: self.fence, stopped: !holder.promoted });
            if holder.promoted {
                out.push(Effect::StopWrites);
            }
        }
        let begins = !holder.promoted && holder.outbid.is_none() && now < holder.until;
        if begins {
            holder.promoted = true;
            out.push(Effect::Promote { epoch: record.epoch, base: record.base });
        }
        if holder.promoted && !holder.releasing() && (extended || begins) {
            out.push(Effect::Extended { epoch: record.epoch, until: holder.until });
        }
        if !holder.promoted || sent.is_none() {
            // Ours, but counted from an unknown or a long past moment: renew before acting.
            self.next_look = now;
        }
        self.role = Role::Holder(holder);
        self.announce(record, out);
    }

    /// A promise to a higher epoch than ours is out there: a candidate that did not win made
    /// followers deaf to us. As the register is still ours, we may rise above it.
    fn on_fenced(&mut self, epoch: u64, out: &mut Vec<Effect>) {
        if epoch > self.fence {
            self.fence = epoch;
            out.push(Effect::PersistFence { epoch });
        }
        let record = self.seen.flatten();
        if let (Role::Holder(holder), Some(record)) = (&mut self.role, record)
            && epoch > record.epoch
            && holder.outbid.is_none()
        {
            holder.outbid = Some(Outbid { epoch, stopped: !holder.promoted });
            if holder.promoted {
                out.push(Effect::StopWrites);
            }
            if let Some(hand_over) = holder.hand_over.take() {
                out.push(Effect::HandOverFailed { to: hand_over.to });
            }
        }
    }

    fn on_writes_stopped(&mut self, local: Local<'_>, now: Moment) {
        let Role::Holder(holder) = &mut self.role else { return };
        if let Some(outbid) = &mut holder.outbid {
            outbid.stopped = true;
        }
        if let Some(hand_over) = &mut holder.hand_over {
            hand_over.stopped_at = Some(local.rank());
        }
        self.next_look = self.next_look.min(now + self.config.renew_every);
    }
}
