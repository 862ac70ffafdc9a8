//! What a node asks of its storage, as calls of the engine.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use verge_dataset::{Dataset, Role, Target};
use verge_replicate::follow::Health;
use verge_replicate::wire::{Segment, SnapshotHeader};
use verge_replicate::{Lineage, Moment};
use verge_types::Position;

use super::{Files, clock, failure, new_folder, sql};
use crate::content::{Content, Write};
use crate::rng::Rng;
use crate::storage::{Aside, Begun, Failure, Fault, Meta, Outlet, Storage};

impl Storage for Files {
    fn set_clock(&mut self, now: Moment, wall_ms: u64) {
        self.clock.set(now, wall_ms);
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    fn open(&mut self) -> Result<(), Failure> {
        self.machine.opening.store(true, Ordering::SeqCst);
        let live = self.begin();
        self.machine.opening.store(false, Ordering::SeqCst);
        let live = live.map_err(failure)?;
        let (position, checksum) = live.dataset.checksum();
        self.meta.settle(position, checksum);
        if live.dataset.role() == Role::Quarantined {
            self.meta.health = Health::Quarantined;
        }
        live.dataset.settle();
        self.live = Some(live);
        Ok(())
    }

    fn crash(&mut self, rng: &mut Rng) {
        // A process that is killed leaves what it has written; a machine without power does not.
        let killed = self.machine.is_on() && rng.chance(250);
        let moved = new_folder().and_then(|to| {
            let from = self.folder.path();
            match killed {
                true => self.machine.after_a_kill(from, to.path())?,
                false => self.machine.after_the_loss(from, to.path(), rng)?,
            }
            self.move_to(to)
        });
        // Found at the next opening.
        drop(moved);
    }

    fn wipe(&mut self) {
        self.meta = Meta { health: Health::Quarantined, ..Meta::default() };
        drop(new_folder().and_then(|folder| self.move_to(folder)));
    }

    fn fault(&mut self, fault: Fault) {
        let machine = &self.machine;
        match fault {
            Fault::Full { tells } => {
                machine.full.store(true, Ordering::SeqCst);
                machine.tells.store(tells, Ordering::SeqCst);
            }
            Fault::Space => machine.full.store(false, Ordering::SeqCst),
            Fault::SyncFails => machine.sync_fails.store(true, Ordering::SeqCst),
            Fault::Power { steps } => machine.fails_after(1 + steps),
            Fault::Heal => {
                machine.full.store(false, Ordering::SeqCst);
                machine.sync_fails.store(false, Ordering::SeqCst);
                if machine.is_on() {
                    machine.fails_after(u64::MAX);
                }
            }
        }
    }

    fn is_on(&self) -> bool {
        self.machine.is_on()
    }

    fn is_lost(&self) -> bool {
        false
    }

    fn head(&self) -> (u64, u64) {
        let (position, checksum) =
            self.dataset().map(|dataset| dataset.checksum()).unwrap_or_default();
        (position.txid, checksum)
    }

    fn epoch(&self) -> u64 {
        self.dataset().map_or(0, |dataset| dataset.epoch())
    }

    fn page_checksum(&mut self) -> Option<u64> {
        let size = self.dataset()?.page_size();
        self.read(Dataset::reader, |reader| sql::page_checksum(reader, size))?.ok()
    }

    fn look(&mut self, _: &Lineage, _: u64) -> Option<(Content, Position)> {
        // As apps' single reads are made.
        let seen = self.read(Dataset::steady_reader, |reader| {
            let content = sql::content(reader)?;
            Ok((content, reader.glimpse().block(Duration::from_secs(10))))
        })?;
        let (content, position) = seen.ok()?;
        Some((content.ok()?, position.ok()?))
    }

    fn verify(&mut self) -> Result<(), String> {
        let Some(dataset) = self.dataset() else { return Err("it is not open".into()) };
        self.call(dataset.verify()).map_err(|error| error.to_string())?;
        dataset.verify_log().map_err(|error| error.to_string())?;
        let content = self
            .read(Dataset::reader, |reader| sql::content(reader))
            .ok_or("it cannot be read")??;
        content?;
        let check = self
            .read(Dataset::reader, |reader| sql::integrity(reader))
            .ok_or("it cannot be read")??;
        if check == "ok" { Ok(()) } else { Err(check) }
    }

    fn promote(&mut self, epoch: u64) -> Result<(), Failure> {
        self.take_office(epoch)
    }

    fn demote(&mut self) -> Result<(), Failure> {
        let dataset = self.dataset().ok_or(Failure::Refused)?;
        if let Some(live) = &mut self.live {
            live.tail = None;
        }
        self.call(dataset.demote(dataset.epoch())).map(drop).map_err(failure)
    }

    fn lease(&mut self, until: Moment) {
        let Some(dataset) = self.dataset() else { return };
        match until {
            Moment(0) => dataset.fence(),
            Moment(u64::MAX) => dataset.lease_until(None),
            until => dataset.lease_until(Some(clock::boot_time(until))),
        }
    }

    fn begin(
        &mut self,
        _: Position,
        _: u64,
        writes: &[Write],
        rng: &mut Rng,
    ) -> Result<Begun, Failure> {
        let peek = rng.chance(100);
        if let Some(live) = &mut self.live {
            live.group = writes.to_vec();
            live.peek = peek;
        }
        Ok(Begun { ran: vec![true; writes.len()], checksum: None })
    }

    fn finish(&mut self) -> Result<Vec<bool>, Failure> {
        self.run_group()
    }

    fn drop_group(&mut self) {
        if let Some(live) = &mut self.live {
            live.group.clear();
        }
    }

    fn glimpsed(&mut self) -> Option<(Content, Position)> {
        self.what_was_told()
    }

    fn maintain(&mut self, kind: u64) -> Result<(), Failure> {
        let dataset = self.dataset().ok_or(Failure::Refused)?;
        if kind == 0 {
            return self.call(dataset.vacuum()).map(drop).map_err(failure);
        }
        self.upkeep(kind - 1)
    }

    fn restore(&mut self, position: Position) -> Result<(), Failure> {
        let store = self.live.as_ref().ok_or(Failure::Refused)?.store.clone();
        let target = Target::Position(position);
        self.call(store.restore(&self.id, target)).map(drop).map_err(failure)
    }

    fn pick_up(&mut self) -> Vec<Segment> {
        self.new_segments()
    }

    fn batch(&self) -> usize {
        256
    }

    fn apply_begin(&mut self, _: &[Segment]) -> Result<(), Failure> {
        Ok(())
    }

    fn apply_end(&mut self, segments: &[Segment]) -> Result<(), Failure> {
        let dataset = self.dataset().ok_or(Failure::Refused)?;
        let bytes = segments.iter().map(|segment| segment.bytes.clone()).collect();
        self.call(dataset.apply(bytes)).map(drop).map_err(failure)
    }

    fn chores(&mut self, rng: &mut Rng) {
        let due = rng.chance(80);
        if let Some(dataset) = self.dataset().filter(|_| due) {
            // What it cannot do now it does later.
            let _ = self.call(dataset.checkpoint());
        }
    }

    fn judge(&mut self, lineage: &Lineage, txid: u64) -> (u64, Option<u64>) {
        self.judge_follower(lineage.position(txid))
    }

    fn load(&mut self, lineage: &Lineage, after: u64, up_to: u64, most: usize) -> Vec<Segment> {
        self.load_segments(lineage.position(after), up_to, most)
    }

    fn open_snapshot(&mut self, to: Outlet, _: Position) -> Option<SnapshotHeader> {
        self.begin_snapshot(to)
    }

    fn chunk(&mut self, to: Outlet, chunk: u64) -> Option<(Bytes, bool)> {
        self.next_chunk(to, chunk)
    }

    fn close_snapshot(&mut self, to: Outlet) {
        if let Some(live) = &mut self.live {
            live.snapshots.remove(&to);
        }
    }

    fn close_snapshots(&mut self) {
        if let Some(live) = &mut self.live {
            live.snapshots.clear();
        }
    }

    /// The dataset bounds its log by itself.
    fn retain(&mut self, _: u64) {}

    fn seed_begin(&mut self, snapshot: &SnapshotHeader, lineage: Lineage) -> Result<(), Failure> {
        self.begin_seed(snapshot, lineage)
    }

    fn seed_chunk(&mut self, bytes: Bytes, last: bool) -> Result<(), Failure> {
        self.take_chunk(bytes, last)
    }

    fn seed_install(&mut self) -> Result<(), Failure> {
        self.install()
    }

    fn seed_abort(&mut self) {
        if let Some(live) = &mut self.live {
            live.seed = None;
        }
    }

    /// The dataset keeps its history when a snapshot takes its place.
    fn set_aside(&mut self, _: u64) {}

    fn aside(&mut self) -> Aside {
        self.set_aside_positions()
    }
}
