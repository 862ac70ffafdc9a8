use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use verge_types::Position;

use super::*;
use crate::wire::{Poll, PollReply};
use crate::{AckMode, Lineage, Moment, NodeId};

/// A node with its data, and the register, which answers at once.
struct Node {
    lease: Lease,
    lineage: Lineage,
    txid: u64,
    sent: Vec<Effect>,
}

fn config(me: u64, mode: AckMode) -> LeaseConfig {
    let voters: BTreeSet<NodeId> = (0..3).map(NodeId).collect();
    LeaseConfig::new(NodeId(me), 100 + me, voters, mode)
}

impl Node {
    fn new(me: u64, mode: AckMode) -> Self {
        let lease = Lease::new(config(me, mode), 0);
        Self { lease, lineage: Lineage::default(), txid: 0, sent: Vec::new() }
    }

    fn on(&mut self, event: Event, register: &mut Option<Record>, now: Moment) -> Vec<Effect> {
        let mut all = Vec::new();
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let local = Local { lineage: &self.lineage, txid: self.txid, sound: true };
            for effect in self.lease.on(event, local, now) {
                match &effect {
                    Effect::Read { op } => events.push_back(Event::Register {
                        op: *op,
                        answer: RegisterAnswer::Value(*register),
                    }),
                    Effect::Swap { op, expected, new } => {
                        let answer = if register == expected {
                            *register = Some(*new);
                            RegisterAnswer::Swapped
                        } else {
                            RegisterAnswer::Conflict(*register)
                        };
                        events.push_back(Event::Register { op: *op, answer });
                    }
                    Effect::Promote { epoch, base } => self.lineage.begin(*epoch, *base).unwrap(),
                    _ => {}
                }
                all.push(effect);
            }
        }
        self.sent.extend(all.iter().cloned());
        all
    }

    /// Ticks every 200 ms.
    fn run(&mut self, register: &mut Option<Record>, from: Moment, time: Duration) -> Moment {
        let mut now = from;
        while now.since(from) < time {
            now = now + Duration::from_millis(200);
            self.on(Event::Tick, register, now);
        }
        now
    }
}

fn start() -> Moment {
    Moment(50_000_000)
}

#[test]
fn the_first_becomes_primary_and_stays_it_by_renewing() {
    let (mut node, mut register) = (Node::new(0, AckMode::Local), None);
    let now = node.run(&mut register, start(), Duration::from_secs(2));
    assert_eq!(node.lease.valid_epoch(now), Some(1));
    let now = node.run(&mut register, now, Duration::from_secs(60));
    assert_eq!(node.lease.valid_epoch(now), Some(1));
    assert_eq!(node.sent.iter().filter(|e| matches!(e, Effect::Promote { .. })).count(), 1);
}

#[test]
fn a_pause_of_twice_the_lease_leaves_no_right_behind() {
    let (mut node, mut register) = (Node::new(0, AckMode::Local), None);
    let now = node.run(&mut register, start(), Duration::from_secs(2));
    let later = now + Duration::from_secs(10);
    assert_eq!(node.lease.valid_epoch(later), None, "before any event tells it");
    // Meanwhile another took over.
    let other = Record {
        epoch: 2,
        holder: NodeId(1),
        incarnation: 7,
        sequence: 1,
        base: 0,
        ttl_ms: 5000,
        phase: Phase::Held,
    };
    register = Some(other);
    let effects = node.on(Event::Tick, &mut register, later);
    let reason = Demotion::Replaced { by: NodeId(1), epoch: 2 };
    assert!(effects.contains(&Effect::Demote { reason }), "{effects:?}");
    assert_eq!(register, Some(other));
}

#[test]
fn a_pause_that_nobody_used_is_made_good_by_a_renewal() {
    let (mut node, mut register) = (Node::new(0, AckMode::Local), None);
    let now = node.run(&mut register, start(), Duration::from_secs(2));
    let later = now + Duration::from_secs(10);
    node.on(Event::Tick, &mut register, later);
    assert_eq!(node.lease.valid_epoch(later), Some(1), "the record had not moved");
}

#[test]
fn a_challenger_waits_longer_than_the_holder_acts() {
    let mut register = None;
    let mut holder = Node::new(0, AckMode::Local);
    let now = holder.run(&mut register, start(), Duration::from_secs(2));
    let mut other = Node::new(1, AckMode::Local);
    let mut time = now;
    while other.lease.valid_epoch(time).is_none() {
        time = time + Duration::from_millis(200);
        other.on(Event::Tick, &mut register, time);
        assert!(time.since(now) < Duration::from_secs(20), "no failover");
        if other.lease.valid_epoch(time).is_some() {
            assert_eq!(holder.lease.valid_epoch(time), None, "two may act at {time}");
        }
    }
    assert!(time.since(now) >= Duration::from_secs(5));
}

#[test]
fn a_clock_that_jumps_does_not_shorten_the_wait() {
    let mut register = None;
    let mut holder = Node::new(0, AckMode::Local);
    let now = holder.run(&mut register, start(), Duration::from_secs(2));
    let mut other = Node::new(1, AckMode::Local);
    let now = other.run(&mut register, now, Duration::from_secs(1));
    let now = now + Duration::from_secs(3600);
    other.run(&mut register, now, Duration::from_secs(1));
    assert_eq!(register.unwrap().holder, NodeId(0));
}

#[test]
fn a_candidate_behind_a_voter_does_not_claim() {
    let mut register = Some(Record {
        epoch: 1,
        holder: NodeId(0),
        incarnation: 9,
        sequence: 1,
        base: 0,
        ttl_ms: 1000,
        phase: Phase::Held,
    });
    let mut node = Node::new(1, AckMode::Quorum);
    node.lineage.begin(1, 0).unwrap();
    node.txid = 5;
    let mut now = start();
    let mut polls = 0;
    while polls == 0 {
        now = now + Duration::from_millis(200);
        for effect in node.on(Event::Tick, &mut register, now) {
            if let Effect::SendPoll { to: NodeId(2), poll } = effect {
                polls += 1;
                let reply = PollReply {
                    round: poll.round,
                    epoch: poll.epoch,
                    granted: true,
                    fence: poll.epoch,
                    rank: Position::new(1, 6),
                };
                node.on(Event::PollReply { from: NodeId(2), reply }, &mut register, now);
            }
        }
    }
    node.run(&mut register, now, Duration::from_millis(600));
    assert_eq!(register.unwrap().holder, NodeId(0), "the voter has one more");
}

#[test]
fn voters_promise_durably_and_holders_do_not() {
    let mut register = None;
    let poll = Poll { round: 1, epoch: 8, rank: Position::new(1, 1) };
    let mut voter = Node::new(2, AckMode::Quorum);
    let effects = voter.on(Event::Poll { from: NodeId(1), poll }, &mut register, start());
    assert_eq!(effects[0], Effect::PersistFence { epoch: 8 });
    assert!(matches!(effects[1], Effect::SendReply { reply, .. } if reply.granted));
    let poll = Poll { epoch: 7, ..poll };
    let effects = voter.on(Event::Poll { from: NodeId(0), poll }, &mut register, start());
    assert!(matches!(effects[0], Effect::SendReply { reply, .. } if !reply.granted));

    let mut holder = Node::new(0, AckMode::Local);
    let now = holder.run(&mut register, start(), Duration::from_secs(2));
    let effects = holder.on(Event::Poll { from: NodeId(1), poll }, &mut register, now);
    assert!(matches!(effects[0], Effect::SendReply { reply, .. } if !reply.granted));
}

#[test]
fn a_hand_over_waits_for_the_successor_and_then_takes_no_time() {
    let mut register = None;
    let mut old = Node::new(0, AckMode::Local);
    let now = old.run(&mut register, start(), Duration::from_secs(2));
    old.txid = 9;
    let effects = old.on(Event::HandOver { to: NodeId(1) }, &mut register, now);
    assert!(effects.contains(&Effect::StopWrites));
    old.on(Event::WritesStopped, &mut register, now);
    let rank = Position::new(1, 9);
    let behind =
        Event::Progress { from: NodeId(1), rank: Position::new(1, 8), settled: Some(rank) };
    old.on(behind, &mut register, now);
    assert_eq!(register.unwrap().phase, Phase::Held);
    let there = Event::Progress { from: NodeId(1), rank, settled: Some(rank) };
    let effects = old.on(there, &mut register, now);
    assert!(effects.contains(&Effect::Retracted), "{effects:?}");
    assert!(effects.contains(&Effect::Offer { to: NodeId(1) }), "{effects:?}");
    assert_eq!(old.lease.valid_epoch(now), None);

    let mut new = Node::new(1, AckMode::Local);
    new.lineage.begin(1, 0).unwrap();
    new.txid = 9;
    new.on(Event::Offered, &mut register, now);
    let effects = new.on(Event::Tick, &mut register, now);
    assert!(
        new.sent.contains(&Effect::Promote { epoch: 2, base: 9 }),
        "{effects:?} {:?}",
        new.sent
    );
}

#[test]
fn a_hand_over_to_a_dead_node_is_called_off() {
    let mut register = None;
    let mut old = Node::new(0, AckMode::Local);
    let now = old.run(&mut register, start(), Duration::from_secs(2));
    old.on(Event::HandOver { to: NodeId(1) }, &mut register, now);
    old.on(Event::WritesStopped, &mut register, now);
    let now = old.run(&mut register, now, Duration::from_secs(3));
    assert!(old.sent.contains(&Effect::ResumeWrites));
    assert!(old.sent.contains(&Effect::HandOverFailed { to: NodeId(1) }));
    assert_eq!(old.lease.valid_epoch(now), Some(1));
}

#[test]
fn a_primary_that_was_outbid_rises_above() {
    let mut register = None;
    let mut node = Node::new(0, AckMode::Local);
    let now = node.run(&mut register, start(), Duration::from_secs(2));
    let effects = node.on(Event::Fenced { epoch: 5 }, &mut register, now);
    assert!(effects.contains(&Effect::StopWrites));
    assert_eq!(node.lease.valid_epoch(now), None);
    node.on(Event::WritesStopped, &mut register, now);
    assert_eq!(node.lease.valid_epoch(now), Some(6));
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let good = config(0, AckMode::Local);
    assert_eq!(good.validate(), Ok(()));
    let late = LeaseConfig { renew_every: Duration::from_secs(4), ..good.clone() };
    assert_eq!(late.validate(), Err(BadLeaseConfig::RenewsTooLate));
    let bare = LeaseConfig { margin: Duration::ZERO, ..good };
    assert_eq!(bare.validate(), Err(BadLeaseConfig::NoMargin));
}
