//! Clients' writes at the primary: groups, their durability, their acknowledgement.

use verge_replicate::session::{Decision, Need, decide_write};
use verge_replicate::ship::Event as ShipEvent;
use verge_types::Position;

use super::{Group, Work};
use crate::Bug;
use crate::clients::{Outcome, Request};
use crate::content::Write;
use crate::storage::Failure;
use crate::world::{Event, World};

impl World {
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
        let view = process.view(&process.lineage, false, now, bug);
        let need = |request: &Request| Need {
            bookmark: request.bookmark.filter(|_| bug != Some(Bug::IgnoreBookmark)),
            ..Need::default()
        };
        // Decided again: the history may have changed while it waited (a restore).
        let decided: Vec<(Request, Option<Outcome>)> = batch
            .into_iter()
            .map(|request| match decide_write(&need(&request), &view) {
                Decision::Serve => (request, None),
                Decision::Refuse(refusal) => (request, Some(Outcome::Refused(refusal))),
                _ => (request, Some(Outcome::Failed)),
            })
            .collect();
        self.begin_group(node, epoch, decided);
    }

    fn begin_group(&mut self, node: usize, epoch: u64, decided: Vec<(Request, Option<Outcome>)>) {
        let (wall_ms, bug) = (self.wall_ms(node), self.plan.bug);
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let position = Position::new(epoch, process.txid + 1);
        let served = decided.iter().filter(|(_, outcome)| outcome.is_none());
        let writes: Vec<Write> = served.filter_map(|(request, _)| request.write).collect();
        let begun = machine.storage.begin(position, wall_ms, &writes, &mut self.rng);
        let refused = begun.is_err();
        let (mut ran, checksum) = match begun {
            Ok(begun) => (begun.ran.into_iter(), begun.checksum),
            Err(_) => (vec![false; writes.len()].into_iter(), None),
        };
        let mut requests = Vec::new();
        for (request, outcome) in decided {
            match outcome {
                None if ran.next() == Some(true) => requests.push(request),
                outcome => {
                    self.reply(node, &request, outcome.unwrap_or(Outcome::Failed));
                }
            }
        }
        if refused || requests.is_empty() {
            return;
        }
        let ops: Vec<u32> = requests.iter().map(|request| request.op).collect();
        if let Some(checksum) = checksum {
            self.history.committed(position, checksum, &ops, self.time);
        }
        let early = if bug == Some(Bug::AckBeforeLog) { requests.clone() } else { Vec::new() };
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        process.group = Some(Group { epoch, requests });
        let life = machine.life;
        let delay = self.rng.range(500, 5000);
        self.after(delay, Event::Synced { node, life });
        if !early.is_empty() {
            self.history.place(position, &ops);
        }
        for request in early {
            self.acknowledge(node, epoch, &request);
        }
    }

    /// The log's sync came back.
    pub fn synced(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if process.group.is_none() {
            return;
        }
        if machine.storage.is_lost() {
            self.crash(node);
            return;
        }
        let work = self.pick_up(node);
        self.dispatch(node, work);
        let kept = self.finish_group(node);
        let Some(process) = &mut self.nodes[node].process else { return };
        if !kept.is_empty() {
            process.pending.insert(process.txid + 1, kept);
        }
        let work = self.pick_up(node);
        if !work.is_empty() {
            self.nodes[node].storage.chores(&mut self.rng);
        }
        self.dispatch(node, work);
        let mut work = Default::default();
        self.stopped(node, &mut work);
        self.dispatch(node, work.into());
        self.start_group(node);
    }

    /// The group becomes durable, or does not: those of its writes that did.
    fn finish_group(&mut self, node: usize) -> Vec<Request> {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return Vec::new() };
        let Some(group) = process.group.take() else { return Vec::new() };
        let expected = self.expect(node, &group);
        let storage = &mut self.nodes[node].storage;
        let finished = storage.finish();
        let glimpsed = storage.glimpsed();
        let (kept, others, outcome) = match finished {
            Ok(ran) => {
                if expected.is_some_and(|expected| expected != ran) {
                    let what = format!("node {node}: other writes ran than should have");
                    self.history.broken("transactions", self.time, what);
                }
                let mut ran = ran.into_iter();
                let (kept, others): (Vec<_>, Vec<_>) =
                    group.requests.into_iter().partition(|_| ran.next() == Some(true));
                (kept, others, Outcome::Failed)
            }
            Err(Failure::Refused) => (Vec::new(), group.requests, Outcome::Failed),
            Err(failure) => {
                self.misfit("transactions", failure);
                (Vec::new(), group.requests, Outcome::Unknown)
            }
        };
        self.glimpses.extend(glimpsed);
        for request in others {
            self.reply(node, &request, outcome.clone());
        }
        kept
    }

    /// Notes what the group is about to make of its position: which of its writes run.
    fn expect(&mut self, node: usize, group: &Group) -> Option<Vec<bool>> {
        let process = self.nodes[node].process.as_ref()?;
        let before = process.lineage.position(process.txid);
        let next = Position::new(group.epoch, process.txid + 1);
        let mut content = self.history.content_at(before)?;
        let mut ops = Vec::new();
        let ran = group.requests.iter().map(|request| {
            let ran = request.write.is_some_and(|write| content.run(&write));
            ops.extend(ran.then_some(request.op));
            ran
        });
        let ran: Vec<bool> = ran.collect();
        self.history.attempt(next, ops, content);
        Some(ran)
    }

    /// A term ends while a group is under way: it becomes part of a tail, which the new primary's
    /// word may cut off, or it was not begun.
    pub(super) fn end_group(&mut self, node: usize, abandoned: &mut Vec<Request>) {
        let Some(process) = &mut self.nodes[node].process else { return };
        abandoned.extend(std::mem::take(&mut process.pending).into_values().flatten());
        if process.group.is_none() {
            return;
        }
        if self.plan.files && self.rng.chance(500) {
            self.nodes[node].storage.drop_group();
            let Some(process) = &mut self.nodes[node].process else { return };
            abandoned.extend(process.group.take().into_iter().flat_map(|group| group.requests));
            return;
        }
        let kept = self.finish_group(node);
        abandoned.extend(kept);
        // Nobody ships it any more.
        self.nodes[node].storage.pick_up();
    }

    /// What the log has new goes to the shipper, and may be read.
    pub(super) fn pick_up(&mut self, node: usize) -> Vec<Work> {
        self.set_clock(node);
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return Vec::new() };
        let segments = machine.storage.pick_up();
        if let Some(last) = segments.last() {
            process.txid = last.header.position.txid;
            process.unseen = Some(last.header.position);
        }
        let Some(position) = process.unseen else { return Vec::new() };
        self.show(node, position);
        for (content, position) in std::mem::take(&mut self.glimpses) {
            self.history.glimpsed(position, &content, self.time);
        }
        segments.into_iter().map(|segment| Work::Ship(ShipEvent::Appended { segment })).collect()
    }

    /// Now and then a database's owner changes something that its clients do not see.
    pub(super) fn maintain(&mut self, node: usize) {
        let (now, bug) = (self.clock(node), self.plan.bug);
        if !self.plan.files {
            return;
        }
        let Some(process) = &self.nodes[node].process else { return };
        let Some(epoch) = process.primary.filter(|_| process.rules(now, bug)) else { return };
        if !process.admits || !self.is_busy() || !self.rng.chance(15) {
            return;
        }
        let before = process.lineage.position(process.txid);
        let next = Position::new(epoch, process.txid + 1);
        let Some(content) = self.history.content_at(before) else { return };
        let kind = self.rng.range(0, 5);
        self.history.attempt(next, Vec::new(), content);
        if let Err(failure) = self.nodes[node].storage.maintain(kind) {
            self.misfit("upkeep", failure);
        }
        let work = self.pick_up(node);
        self.dispatch(node, work);
    }

    pub(super) fn acknowledge(&mut self, node: usize, epoch: u64, request: &Request) {
        self.history.acknowledged(node, epoch, request.op, self.time);
        let position = self.history.writes.get(&request.op).and_then(|written| written.position);
        if let Some(position) = position {
            self.reply(node, request, Outcome::Written(position));
        }
    }
}
