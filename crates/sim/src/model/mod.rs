//! The quick storage: a dataset in small, whose data is in memory (`data`) behind a model of a
//! disk (`disk`).

mod data;
mod disk;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use verge_replicate::follow::Health;
use verge_replicate::wire::{Segment, SegmentHeader, SnapshotHeader};
use verge_replicate::{Lineage, Moment};
use verge_types::Position;

use self::data::{Data, Pages};
use self::disk::Disk;
use crate::Bug;
use crate::content::{Content, Write};
use crate::rng::Rng;
use crate::storage::{Aside, Begun, Failure, Fault, Meta, Outlet, Storage};

/// Pages in one chunk of a snapshot.
const CHUNK_PAGES: usize = 3;

/// Every state that was committed anywhere, for operators who restore one.
pub type Archive = Rc<RefCell<BTreeMap<Position, Data>>>;

/// A group that is being made durable.
struct Group {
    segment: Segment,
    data: Data,
    count: usize,
}

/// What the process has in memory.
#[derive(Default)]
struct Live {
    data: Data,
    txid: u64,
    group: Option<Group>,
    fresh: Vec<Segment>,
    snapshots: BTreeMap<Outlet, Vec<Bytes>>,
    seed: Option<(u64, Lineage)>,
}

/// A node's modelled copy.
pub struct Model {
    disk: Disk,
    meta: Meta,
    live: Live,
    archive: Archive,
    bug: Option<Bug>,
}

impl Model {
    pub fn new(archive: Archive, bug: Option<Bug>) -> Self {
        Self { disk: Disk::default(), meta: Meta::default(), live: Live::default(), archive, bug }
    }
}

/// The checksum before the first transaction.
pub fn genesis() -> u64 {
    Data::default().checksum()
}

impl Storage for Model {
    fn set_clock(&mut self, _: Moment, _: u64) {}

    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }

    fn open(&mut self) -> Result<(), Failure> {
        let found = self.disk.recover(self.bug == Some(Bug::SkipRedo));
        self.live = Live { data: found.data, txid: found.txid, ..Live::default() };
        Ok(())
    }

    fn crash(&mut self, rng: &mut Rng) {
        self.live = Live::default();
        self.disk.crash(rng);
    }

    fn wipe(&mut self) {
        self.meta = Meta { health: Health::Quarantined, ..Meta::default() };
        self.disk = Disk::default();
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Full { .. } => self.disk.full = true,
            Fault::Space => self.disk.full = false,
            Fault::SyncFails => self.disk.sync_fails = true,
            Fault::Power { .. } => {}
            Fault::Heal => (self.disk.full, self.disk.sync_fails) = (false, false),
        }
    }

    fn is_on(&self) -> bool {
        true
    }

    fn is_lost(&self) -> bool {
        self.disk.sync_fails
    }

    fn head(&self) -> (u64, u64) {
        (self.live.txid, self.live.data.checksum())
    }

    fn epoch(&self) -> u64 {
        0
    }

    fn page_checksum(&mut self) -> Option<u64> {
        Some(self.live.data.checksum())
    }

    fn look(&mut self, lineage: &Lineage, txid: u64) -> Option<(Content, Position)> {
        Some((self.live.data.content(), lineage.position(txid)))
    }

    fn verify(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn promote(&mut self, _: u64) -> Result<(), Failure> {
        Ok(())
    }

    fn demote(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn lease(&mut self, _: Moment) {}

    fn begin(
        &mut self,
        position: Position,
        wall_ms: u64,
        writes: &[Write],
        rng: &mut Rng,
    ) -> Result<Begun, Failure> {
        let before = &self.live.data;
        let mut data = before.clone();
        let ran: Vec<bool> = writes.iter().map(|write| data::run(write, &mut data)).collect();
        let first = writes.iter().zip(&ran).find(|(_, ran)| **ran);
        let Some((first, _)) = first else { return Ok(Begun { ran, checksum: None }) };
        let mut captured = data.clone();
        if self.bug == Some(Bug::ShipPastCommit) && rng.chance(300) {
            data::debit(first, &mut captured);
        }
        let header = SegmentHeader {
            position,
            before: before.checksum(),
            after: captured.checksum(),
            committed_ms: wall_ms,
        };
        let segment = Segment { header, bytes: data::difference(before, &captured) };
        self.disk.append(segment.clone()).map_err(|_| Failure::Refused)?;
        self.archive.borrow_mut().entry(position).or_insert_with(|| data.clone());
        let begun = Begun { ran, checksum: Some(data.checksum()) };
        if self.bug == Some(Bug::ReadBeforeLog) {
            self.live.data = data.clone();
        }
        let count = begun.ran.iter().filter(|ran| **ran).count();
        self.live.group = Some(Group { segment, data, count });
        Ok(begun)
    }

    fn finish(&mut self) -> Result<Vec<bool>, Failure> {
        let Some(group) = self.live.group.take() else { return Ok(Vec::new()) };
        if self.bug != Some(Bug::SkipFsync) {
            self.disk.sync();
        }
        self.live.txid = group.segment.header.position.txid;
        self.live.data = group.data;
        self.live.fresh.push(group.segment);
        Ok(vec![true; group.count])
    }

    fn drop_group(&mut self) {
        self.live.group = None;
    }

    fn glimpsed(&mut self) -> Option<(Content, Position)> {
        None
    }

    fn maintain(&mut self, _: u64) -> Result<(), Failure> {
        Err(Failure::Refused)
    }

    /// Cuts the history back.
    fn restore(&mut self, position: Position) -> Result<(), Failure> {
        let data = self.archive.borrow().get(&position).cloned().ok_or(Failure::Refused)?;
        self.disk.restore(data.clone(), position.txid);
        self.live.data = data;
        self.live.txid = position.txid;
        Ok(())
    }

    fn pick_up(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.live.fresh)
    }

    fn batch(&self) -> usize {
        1
    }

    fn apply_begin(&mut self, segments: &[Segment]) -> Result<(), Failure> {
        for segment in segments {
            self.disk.append(segment.clone()).map_err(|_| Failure::Refused)?;
        }
        Ok(())
    }

    fn apply_end(&mut self, segments: &[Segment]) -> Result<(), Failure> {
        if self.bug != Some(Bug::SkipFsync) {
            self.disk.sync();
        }
        for segment in segments {
            for (number, page) in data::decode(segment.bytes.clone()).unwrap_or_default() {
                self.live.data.put(number, page);
            }
            self.live.txid = segment.header.position.txid;
        }
        Ok(())
    }

    /// Now and then pages reach the database file, or a checkpoint ends.
    fn chores(&mut self, rng: &mut Rng) {
        match rng.range(0, 12) {
            0 | 1 => self.disk.spill(&self.live.data, rng),
            2 => self.disk.checkpoint(&self.live.data, self.live.txid),
            _ => {}
        }
    }

    fn judge(&mut self, _: &Lineage, txid: u64) -> (u64, Option<u64>) {
        (self.disk.first(), self.disk.checksum_at(txid))
    }

    fn load(&mut self, _: &Lineage, after: u64, up_to: u64, max_bytes: usize) -> Vec<Segment> {
        self.disk.segments(after, up_to, max_bytes)
    }

    fn open_snapshot(&mut self, to: Outlet, position: Position) -> Option<SnapshotHeader> {
        let data = &self.live.data;
        let pages: Vec<(u32, Bytes)> =
            data.pages().iter().map(|(number, page)| (*number, page.clone())).collect();
        let chunks: Vec<Bytes> = pages
            .chunks(CHUNK_PAGES)
            .map(|pages| data::encode(&pages.iter().cloned().collect::<Pages>()))
            .collect();
        let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let checksum = data.checksum();
        self.live.snapshots.insert(to, chunks);
        Some(SnapshotHeader { position, checksum, bytes })
    }

    fn chunk(&mut self, to: Outlet, chunk: u64) -> Option<(Bytes, bool)> {
        let chunks = self.live.snapshots.get(&to)?;
        let bytes = chunks.get(chunk as usize)?;
        Some((bytes.clone(), chunks.len() as u64 == chunk + 1))
    }

    fn close_snapshot(&mut self, to: Outlet) {
        self.live.snapshots.remove(&to);
    }

    fn close_snapshots(&mut self) {
        self.live.snapshots.clear();
    }

    fn retain(&mut self, from: u64) {
        self.disk.retain(from);
    }

    fn seed_begin(&mut self, snapshot: &SnapshotHeader, lineage: Lineage) -> Result<(), Failure> {
        self.live.seed = Some((snapshot.position.txid, lineage));
        self.disk.seed_begin();
        Ok(())
    }

    fn seed_chunk(&mut self, bytes: Bytes, _: bool) -> Result<(), Failure> {
        self.disk.seed_chunk(bytes).map_err(|_| Failure::Refused)
    }

    fn seed_install(&mut self) -> Result<(), Failure> {
        let (txid, lineage) = self.live.seed.take().ok_or(Failure::Refused)?;
        let data = self.disk.seed_install(txid).ok_or(Failure::Refused)?;
        self.meta.lineage = lineage;
        self.meta.health = Health::Sound;
        self.live.data = data;
        self.live.txid = txid;
        Ok(())
    }

    fn seed_abort(&mut self) {
        self.live.seed = None;
        self.disk.seed_abort();
    }

    fn set_aside(&mut self, fork: u64) {
        if self.bug != Some(Bug::DropTail) {
            self.disk.set_aside(fork);
        }
    }

    fn aside(&mut self) -> Aside {
        Aside { ops: self.disk.quarantine.clone(), positions: Vec::new() }
    }
}
