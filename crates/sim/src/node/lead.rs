//! Being primary: what the lease decides, terms, restores.

use std::collections::VecDeque;

use verge_replicate::Moment;
use verge_replicate::follow::{Event as FollowEvent, Follow, Health, Replica};
use verge_replicate::lease::{Demotion, Effect, Event as LeaseEvent};
use verge_replicate::ship::{Event as ShipEvent, Origin, Shipper};
use verge_replicate::wire::Message;
use verge_types::Position;

use super::{Work, id};
use crate::Bug;
use crate::clients::{Outcome, Request};
use crate::net::REGISTER;
use crate::storage::Failure;
use crate::world::{Event, RegisterCall, World};

impl World {
    pub(super) fn lease_effect(&mut self, node: usize, effect: Effect, work: &mut VecDeque<Work>) {
        let bug = self.plan.bug;
        match effect {
            Effect::Read { op } => self.call_register(node, RegisterCall::Read { op }),
            Effect::Swap { op, expected, new } => {
                self.call_register(node, RegisterCall::Swap { op, expected, new });
            }
            Effect::SendPoll { to, poll } => self.send(node, to, Message::Poll(poll)),
            Effect::SendReply { to, reply } => {
                self.send(node, to, Message::PollReply(reply));
            }
            Effect::PersistFence { epoch } => {
                self.nodes[node].storage.meta_mut().fence = epoch;
                if bug != Some(Bug::IgnoreFence) {
                    work.push_back(Work::Follow(FollowEvent::Fence { epoch }));
                }
            }
            Effect::Promote { epoch, base } => self.promote(node, epoch, base, work),
            Effect::Extended { until, .. } => {
                let until = if bug == Some(Bug::IgnoreEpoch) { Moment(u64::MAX) } else { until };
                self.nodes[node].storage.lease(until);
                work.push_back(Work::Ship(ShipEvent::Extended { until }));
            }
            Effect::Retracted => {
                if bug != Some(Bug::IgnoreEpoch) {
                    self.nodes[node].storage.lease(Moment(0));
                }
                work.push_back(Work::Ship(ShipEvent::Retracted));
            }
            Effect::StopWrites => {
                let Some(process) = &mut self.nodes[node].process else { return };
                process.admits = false;
                process.stopping = true;
                self.stopped(node, work);
            }
            Effect::ResumeWrites => {
                let Some(process) = &mut self.nodes[node].process else { return };
                process.admits = true;
                process.stopping = false;
            }
            Effect::Demote { reason } => self.demote(node, reason, work),
            Effect::Offer { to } => self.send(node, to, Message::Offer { epoch: 0 }),
            Effect::HandOverFailed { .. } => {}
            Effect::Primary { node: primary, .. } => {
                let Some(process) = &mut self.nodes[node].process else { return };
                process.primary_node = Some(primary.0 as usize);
                if process.primary.is_none() && primary != id(node) {
                    process.followed = process.primary_node;
                    let upstream = self.choose_upstream(node);
                    work.push_back(upstream);
                }
            }
        }
    }

    /// Answers `StopWrites` once no group is in work.
    pub(super) fn stopped(&mut self, node: usize, work: &mut VecDeque<Work>) {
        let Some(process) = &mut self.nodes[node].process else { return };
        if !process.stopping || process.group.is_some() {
            return;
        }
        process.stopping = false;
        if let Some(txid) = process.restore_to.take() {
            self.restore(node, txid);
        }
        work.push_back(Work::Lease(LeaseEvent::WritesStopped));
    }

    /// An operator takes the primary back to an older transaction.
    fn restore(&mut self, node: usize, txid: u64) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let position = process.lineage.position(txid);
        if machine.storage.restore(position).is_err() {
            return;
        }
        process.txid = txid;
        let content = machine.storage.look(&process.lineage, txid);
        let Some((content, _)) = content else { return };
        self.history.take_back(&content);
        self.trace(|| format!("n{node} restores {txid}"));
    }

    /// The same where it is one more transaction: `back` transactions ago becomes now.
    pub fn restore_on(&mut self, node: usize, back: u64) {
        let (now, bug) = (self.clock(node), self.plan.bug);
        self.set_clock(node);
        let work = self.pick_up(node);
        self.dispatch(node, work);
        let Some(process) = &self.nodes[node].process else { return };
        let Some(epoch) = process.primary.filter(|_| process.rules(now, bug)) else { return };
        let target = process.lineage.position(process.txid.saturating_sub(back).max(1));
        let next = Position::new(epoch, process.txid + 1);
        let Some(content) = self.history.content_at(target) else { return };
        self.history.attempt(next, Vec::new(), content.clone());
        match self.nodes[node].storage.restore(target) {
            Ok(()) | Err(Failure::Unknown) => self.history.take_back(&content),
            Err(Failure::Misfit(why)) => self.history.broken("restore", self.time, why),
            Err(_) => {}
        }
        self.trace(|| format!("n{node} restores {target} as {next}"));
        let work = self.pick_up(node);
        self.dispatch(node, work);
    }

    fn promote(&mut self, node: usize, epoch: u64, base: u64, work: &mut VecDeque<Work>) {
        let (now, config, bug) = (self.clock(node), self.plan.ship(), self.plan.bug);
        let (mode, voters) = (self.plan.mode, self.plan.lease(node, 0).voters);
        self.end_relay(node);
        if let Some(process) = &mut self.nodes[node].process {
            process.followed = None;
        }
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let mut lineage = process.lineage();
        if self.plan.files && !(process.applying.is_empty() && process.in_hand.is_empty()) {
            // Something was still being applied when we claimed: begin anew, after it.
            work.push_back(Work::Follow(FollowEvent::Upstream { node: None }));
            work.push_back(Work::Lease(LeaseEvent::Fenced { epoch: epoch + 1 }));
            return;
        }
        if base != process.txid || lineage.begin(epoch, base).is_err() {
            let what = format!("node {node}: {epoch} after {base} at {}", process.txid);
            self.history.broken("promotion", self.time, what);
            return;
        }
        let meta = machine.storage.meta_mut();
        meta.lineage = lineage.clone();
        meta.health = Health::Sound;
        if let Err(failure) = machine.storage.promote(epoch) {
            let known = if let Failure::Stale { known } = failure { known } else { epoch };
            work.push_back(Work::Follow(FollowEvent::Upstream { node: None }));
            let epoch = known.max(epoch) + 1;
            work.push_back(Work::Lease(LeaseEvent::Fenced { epoch }));
            return;
        }
        process.lineage = lineage.clone();
        process.primary = Some(epoch);
        process.primary_node = Some(node);
        process.admits = true;
        process.stopping = false;
        let origin = Origin::Primary { me: id(node), mode, voters };
        let (_, checksum) = machine.storage.head();
        process.shipper = Some(Shipper::new(config, origin, epoch, lineage, base, checksum, now));
        if bug == Some(Bug::IgnoreEpoch) {
            let until = Moment(u64::MAX);
            machine.storage.lease(until);
            work.push_back(Work::Ship(ShipEvent::Extended { until }));
        }
        let abandoned = std::mem::take(&mut process.pending);
        work.push_back(Work::Follow(FollowEvent::Upstream { node: None }));
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
        let mut abandoned: Vec<Request> = Vec::new();
        self.nodes[node].storage.lease(Moment(0));
        self.end_relay(node);
        self.end_group(node, &mut abandoned);
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if machine.storage.demote().is_err() {
            // The disk does not take it (it is full): the next opening does it.
            self.crash(node);
            return;
        }
        machine.storage.close_snapshots();
        let (txid, checksum) = machine.storage.head();
        process.txid = txid;
        process.admits = false;
        process.stopping = false;
        process.shipper = None;
        // Where the promotion had failed it has followed all the while.
        if process.primary.take().is_some() {
            let replica = Replica {
                lineage: process.lineage.clone(),
                txid,
                checksum,
                fence: machine.storage.meta().fence,
                health: Health::Sound,
            };
            process.follow = Follow::new(follow, replica, now);
            let position = process.lineage.position(txid);
            self.show(node, position);
        }
        if let Demotion::Replaced { by, .. } = reason {
            if let Some(process) = &mut self.nodes[node].process {
                process.followed = Some(by.0 as usize);
            }
            let upstream = self.choose_upstream(node);
            work.push_back(upstream);
        }
        for request in abandoned {
            self.reply(node, &request, Outcome::Unknown);
        }
    }

    fn call_register(&mut self, node: usize, call: RegisterCall) {
        let life = self.nodes[node].life;
        for delay in self.net.copies(node, REGISTER, &self.plan, &mut self.rng) {
            self.after(delay, Event::Register { node, life, call });
        }
    }
}
