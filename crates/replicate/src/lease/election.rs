//! Failover: when to become a candidate, what voters promise, who may claim.
//!
//! A candidate first fences itself, then polls. A promise is durable before it is told, and the
//! rank told with it is read after it: an older epoch's segment cannot be acknowledged behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use verge_types::Position;

use crate::ack::election_is_safe;
use crate::lease::core::Role;
use crate::lease::{Effect, Lease, Local, Phase, Record};
use crate::wire::{Poll, PollReply};
use crate::{AckMode, Failover, Moment, NodeId};

/// Rounds in which a better candidate may come forward before a worse one takes over anyway,
/// where the failover policy allows it.
const FUTILE_ROUNDS: u32 = 3;

#[derive(Clone, Debug)]
pub(super) struct Candidacy {
    pub round: u64,
    pub epoch: u64,
    pub expected: Option<Record>,
    /// The rank we had when we fenced ourselves.
    pub rank: Position,
    pub granted: BTreeMap<NodeId, Position>,
    /// Answered, but may not or will not promise; there is nothing to wait for.
    pub denied: BTreeSet<NodeId>,
    pub started: Moment,
}

/// How a claim may come about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// Not yet.
    Closed,
    /// We held it before a restart, or were named successor: no poll is needed.
    Ours,
    /// Nobody holds it: poll, then claim.
    Vacant,
}

impl Lease {
    fn opening(&self, local: Local<'_>) -> Opening {
        let Some(seen) = self.seen else { return Opening::Closed };
        let Some(record) = seen else { return Opening::Vacant };
        let ttl = Duration::from_millis(record.ttl_ms);
        let expired = self.watched >= ttl + self.config.margin;
        let me = self.config.me;
        match record.phase {
            // The process that held it is gone: this one has its data folder now. Having begun
            // that epoch, this disk has all that was acknowledged in it.
            Phase::Held if record.holder == me && local.lineage.epoch() == record.epoch => {
                Opening::Ours
            }
            Phase::Held if record.holder == me => Opening::Vacant,
            Phase::Released { successor: Some(to) } if to == me => {
                let complete = local.txid == record.base && local.lineage.epoch() == record.epoch;
                if complete { Opening::Ours } else { Opening::Closed.or(expired) }
            }
            Phase::Released { successor: None } => Opening::Vacant,
            Phase::Released { .. } | Phase::Held => Opening::Closed.or(expired),
        }
    }

    pub(super) fn consider_candidacy(
        &mut self,
        local: Local<'_>,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        let eligible = self.config.voters.contains(&self.config.me) && local.sound;
        if !eligible || self.busy() {
            return;
        }
        let opening = self.opening(local);
        if opening == Opening::Closed || (opening == Opening::Vacant && now < self.not_before) {
            return;
        }
        let expected = self.seen.flatten();
        self.round += 1;
        let epoch = expected.map_or(0, |record| record.epoch).max(self.fence) + 1;
        self.fence = epoch;
        out.push(Effect::PersistFence { epoch });
        let candidacy = Candidacy {
            round: self.round,
            epoch,
            expected,
            rank: local.rank(),
            granted: BTreeMap::new(),
            denied: BTreeSet::new(),
            started: now,
        };
        self.offered = false;
        if opening == Opening::Ours {
            self.role = Role::Candidate(candidacy);
            self.claim(local, now, out);
            return;
        }
        let poll = Poll { round: self.round, epoch, rank: candidacy.rank };
        for voter in self.config.voters.iter().filter(|voter| **voter != self.config.me) {
            out.push(Effect::SendPoll { to: *voter, poll });
        }
        self.role = Role::Candidate(candidacy);
        self.drive_candidacy(local, now, out);
    }

    /// Decides whether what was heard is enough, and whether we are the one.
    pub(super) fn drive_candidacy(&mut self, local: Local<'_>, now: Moment, out: &mut Vec<Effect>) {
        let Role::Candidate(candidacy) = &self.role else { return };
        if self.busy() {
            return;
        }
        if !local.sound || local.rank() != candidacy.rank || self.fence > candidacy.epoch {
            self.step_back(now);
            return;
        }
        let me = self.config.me;
        let mut heard: BTreeSet<NodeId> = candidacy.granted.keys().copied().collect();
        heard.insert(me);
        let old = candidacy.expected.map(|record| record.holder);
        let all = self
            .config
            .voters
            .iter()
            .all(|voter| heard.contains(voter) || candidacy.denied.contains(voter));
        let waited = now.since(candidacy.started) >= self.config.poll_patience;
        let safe = match candidacy.expected {
            // Nothing was ever acknowledged; still the best of those there are should begin.
            None => true,
            Some(_) => election_is_safe(self.config.mode, &self.config.voters, old, &heard),
        };
        let enough = match (self.config.mode, self.config.failover) {
            (AckMode::Local, _) | (_, Failover::AfterPatience) => all || waited,
            (_, Failover::OnlySafe) => safe && (all || waited),
        };
        // Equal ranks: the lower id, so that two do not race for long.
        let ours = (candidacy.rank, std::cmp::Reverse(me));
        let better =
            candidacy.granted.iter().any(|(node, rank)| (*rank, std::cmp::Reverse(*node)) > ours);
        let strictly = candidacy.granted.values().any(|rank| *rank > candidacy.rank);
        let anyway = self.futile >= FUTILE_ROUNDS
            && (!strictly || self.config.failover == Failover::AfterPatience);
        if enough && (!better || anyway) {
            self.claim(local, now, out);
        } else if waited {
            self.futile = self.futile.saturating_add(1);
            self.step_back(now);
        }
    }

    fn claim(&mut self, local: Local<'_>, now: Moment, out: &mut Vec<Effect>) {
        let Role::Candidate(candidacy) = &self.role else { return };
        let (epoch, expected) = (candidacy.epoch, candidacy.expected);
        let new = Record {
            epoch,
            holder: self.config.me,
            incarnation: self.config.incarnation,
            sequence: 0,
            base: local.txid,
            ttl_ms: 0,
            phase: Phase::Held,
        };
        self.swap(expected, new, now, out);
    }

    fn step_back(&mut self, now: Moment) {
        self.role = Role::Watching;
        self.not_before = now + self.jitter.spread(self.config.poll_patience * 2);
        self.look_soon(now);
    }

    pub(super) fn on_poll(
        &mut self,
        from: NodeId,
        poll: Poll,
        local: Local<'_>,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        let stranger = !self.config.voters.contains(&from);
        // A holder whose lease runs is not dead, whatever the candidate saw.
        let ruling = self.valid_epoch(now).is_some();
        let holding = matches!(self.role, Role::Holder(_));
        let granted = !stranger && !ruling && !holding && local.sound && poll.epoch >= self.fence;
        if granted && poll.epoch > self.fence {
            self.fence = poll.epoch;
            out.push(Effect::PersistFence { epoch: poll.epoch });
        }
        if granted && poll.rank > local.rank() {
            // Leave a better one time to claim, also if its clock is slower than ours.
            let pause = self.jitter.spread(self.config.poll_patience * 4);
            self.not_before = self.not_before.max(now + pause);
        }
        // Two candidates of one epoch: the register decides; each may have the other's promise.
        let reply = PollReply {
            round: poll.round,
            epoch: poll.epoch,
            granted,
            fence: self.fence,
            rank: if local.sound { local.rank() } else { Position::default() },
        };
        out.push(Effect::SendReply { to: from, reply });
    }

    pub(super) fn on_poll_reply(
        &mut self,
        from: NodeId,
        reply: PollReply,
        now: Moment,
        out: &mut Vec<Effect>,
    ) {
        if reply.fence > self.fence && !reply.granted {
            self.fence = reply.fence;
            out.push(Effect::PersistFence { epoch: reply.fence });
        }
        let Role::Candidate(candidacy) = &mut self.role else { return };
        if reply.round != candidacy.round || reply.epoch != candidacy.epoch {
            return;
        }
        if reply.granted && self.config.voters.contains(&from) {
            candidacy.granted.insert(from, reply.rank);
        } else if reply.fence > candidacy.epoch {
            self.step_back(now);
        } else {
            candidacy.denied.insert(from);
        }
    }
}

impl Opening {
    fn or(self, vacant: bool) -> Self {
        if vacant { Self::Vacant } else { self }
    }
}
