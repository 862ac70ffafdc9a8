//! Following: applies segments, takes snapshots in, sets aside what is not of the primary's
//! history.

use std::collections::VecDeque;

use verge_replicate::follow::{Effect, Event as FollowEvent, Health, Quarantine};
use verge_replicate::lease::Event as LeaseEvent;
use verge_replicate::ship::Event as ShipEvent;

use super::Work;
use crate::storage::Failure;
use crate::world::{Event, World};

impl World {
    pub(super) fn follow_effect(&mut self, node: usize, effect: Effect, work: &mut VecDeque<Work>) {
        if matches!(effect, Effect::SeedBegin { .. }) {
            self.end_relay(node);
        }
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        let life = machine.life;
        let storage = &mut machine.storage;
        match effect {
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::PersistFence { epoch } => {
                let meta = storage.meta_mut();
                meta.fence = meta.fence.max(epoch);
                work.push_back(Work::Lease(LeaseEvent::Fenced { epoch }));
            }
            Effect::PersistLineage { lineage } => storage.meta_mut().lineage = lineage,
            Effect::Apply { segment } => {
                process.applying.push_back(segment);
                self.begin_apply(node);
            }
            Effect::PersistQuarantine { quarantine } => {
                let (health, fork) = match quarantine {
                    Quarantine::Diverged { fork } => (Health::Diverged, fork),
                    Quarantine::Checksum => (Health::Quarantined, 0),
                };
                storage.meta_mut().health = health;
                storage.set_aside(fork);
                self.quarantines += 1;
                if quarantine == Quarantine::Checksum {
                    let what = format!("node {node} disagrees with its primary");
                    self.history.broken("checksum", self.time, what);
                }
                self.trace(|| format!("n{node} quarantines {quarantine:?}"));
            }
            Effect::PersistSound => storage.meta_mut().health = Health::Sound,
            Effect::SeedBegin { snapshot, lineage } => {
                process.seed_number += 1;
                process.seeding = storage.seed_begin(&snapshot, lineage).is_ok();
                if !process.seeding {
                    work.push_back(Work::Follow(FollowEvent::SeedFailed));
                }
            }
            Effect::SeedChunk { chunk, last, bytes } => {
                let seed = process.seed_number;
                match storage.seed_chunk(bytes, last) {
                    Ok(()) => {
                        let delay = self.rng.range(100, 3000);
                        self.after(delay, Event::Stored { node, life, seed, chunk, last });
                    }
                    Err(_) => work.push_back(Work::Follow(FollowEvent::SeedFailed)),
                }
            }
            Effect::SeedAbort => {
                process.seeding = false;
                process.seed_number += 1;
                storage.seed_abort();
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
        let mut work = vec![Work::Follow(FollowEvent::ChunkStored { chunk })];
        if last {
            if !std::mem::take(&mut process.seeding) {
                return;
            }
            if let Err(failure) = machine.storage.seed_install() {
                self.misfit("seed", failure);
                self.dispatch(node, vec![Work::Follow(FollowEvent::SeedFailed)]);
                return;
            }
            let (txid, checksum) = machine.storage.head();
            let position = machine.storage.meta().lineage.position(txid);
            process.txid = txid;
            self.show(node, position);
            work.push(Work::Follow(FollowEvent::Seeded { txid, checksum }));
        }
        self.dispatch(node, work);
    }

    pub(super) fn misfit(&mut self, promise: &'static str, failure: Failure) {
        if let Failure::Misfit(why) = failure {
            self.history.broken(promise, self.time, why);
        }
    }

    fn begin_apply(&mut self, node: usize) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if !process.in_hand.is_empty() || process.applying.is_empty() {
            return;
        }
        let count = process.applying.len().min(machine.storage.batch());
        process.in_hand.extend(process.applying.drain(..count));
        let life = machine.life;
        let failed = machine.storage.apply_begin(&process.in_hand).is_err();
        let delay = self.rng.range(100, 2000);
        self.after(delay, Event::Applied { node, life, failed });
    }

    /// The segments in hand are applied, or were not for lack of space.
    pub fn applied(&mut self, node: usize, failed: bool) {
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if failed {
            process.applying.clear();
            process.in_hand.clear();
            self.dispatch(node, vec![Work::Follow(FollowEvent::ApplyFailed)]);
            return;
        }
        if machine.storage.is_lost() {
            // Nobody knows what is on the disk now: only a recovery can tell.
            self.crash(node);
            return;
        }
        let segments = std::mem::take(&mut process.in_hand);
        if segments.is_empty() {
            return;
        }
        let result = machine.storage.apply_end(&segments);
        let (txid, checksum) = machine.storage.head();
        let relays = process.shipper.is_some();
        let (mut work, mut shown) = (Vec::new(), None);
        for segment in segments {
            let header = &segment.header;
            if header.position.txid > txid {
                break;
            }
            let last = header.position.txid == txid;
            let checksum = if last { checksum } else { header.after };
            let txid = header.position.txid;
            work.push(Work::Follow(FollowEvent::Applied { txid, checksum }));
            if last {
                shown = Some(header.position);
            }
            if relays {
                work.push(Work::Ship(ShipEvent::Appended { segment }));
            }
            if last {
                break;
            }
        }
        if let Some(position) = shown {
            process.txid = txid;
            machine.storage.chores(&mut self.rng);
            self.show(node, position);
        }
        if let Err(failure) = result {
            if let Some(process) = &mut self.nodes[node].process {
                process.applying.clear();
            }
            self.misfit("apply", failure);
            work.push(Work::Follow(FollowEvent::ApplyFailed));
        }
        self.dispatch(node, work);
        self.begin_apply(node);
    }
}
