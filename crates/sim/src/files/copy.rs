//! Giving the data to others and taking it from them, on real files.

use bytes::Bytes;
use verge_dataset::{Dataset, Role};
use verge_replicate::Lineage;
use verge_replicate::follow::Health;
use verge_replicate::wire::{Segment, SnapshotHeader};
use verge_types::Position;

use super::{Files, Incoming, Outgoing, failure, segment};
use crate::Bug;
use crate::storage::{Aside, Failure, Outlet, Seeding};

impl Files {
    pub(super) fn judge_follower(&self, at: Position) -> (u64, Option<u64>) {
        let Some(dataset) = self.dataset() else { return (u64::MAX, None) };
        match dataset.subscribe(at) {
            Ok(_) => (0, checksum_at(&dataset, at)),
            Err(_) => (dataset.position().txid + 1, None),
        }
    }

    pub(super) fn load_segments(&self, after: Position, up_to: u64, most: usize) -> Vec<Segment> {
        let log = self.dataset().and_then(|dataset| dataset.subscribe(after).ok());
        let Some(mut log) = log else { return Vec::new() };
        let (mut segments, mut bytes) = (Vec::new(), 0);
        while bytes < most
            && log.position().txid < up_to
            && let Ok(Some((header, Some(next)))) = log.try_next_within(usize::MAX)
        {
            bytes += next.len();
            segments.push(segment(&header, next));
        }
        segments
    }

    pub(super) fn begin_snapshot(&mut self, to: Outlet) -> Option<SnapshotHeader> {
        let dataset = self.dataset()?;
        let mut snapshot = self.call(dataset.snapshot()).ok()?;
        let position = snapshot.position();
        let checksum = checksum_at(&dataset, position)?;
        let bytes = snapshot.size();
        let ahead = snapshot.next_chunk().ok()?;
        let outgoing = Outgoing { snapshot, ahead, next: 0 };
        self.live.as_mut()?.snapshots.insert(to, outgoing);
        Some(SnapshotHeader { position, checksum, bytes })
    }

    /// Chunks are asked for in their order.
    pub(super) fn next_chunk(&mut self, to: Outlet, chunk: u64) -> Option<(Bytes, bool)> {
        let outgoing = self.live.as_mut()?.snapshots.get_mut(&to)?;
        if outgoing.next != chunk {
            return None;
        }
        let current = outgoing.ahead.take()?;
        outgoing.ahead = outgoing.snapshot.next_chunk().ok()?;
        outgoing.next += 1;
        Some((current, outgoing.ahead.is_none()))
    }

    pub(super) fn begin_seed(
        &mut self,
        header: &SnapshotHeader,
        lineage: Lineage,
    ) -> Result<(), Failure> {
        let live = self.live.as_mut().ok_or(Failure::Refused)?;
        live.seed = None;
        let seeding = live.store.seed(&self.id).map_err(failure)?;
        live.seed = Some(Incoming { seeding, last: None, header: header.clone(), lineage });
        Ok(())
    }

    pub(super) fn take_chunk(&mut self, bytes: Bytes, last: bool) -> Result<(), Failure> {
        let seed = self.live.as_mut().and_then(|live| live.seed.as_mut());
        let seed = seed.ok_or(Failure::Refused)?;
        if last {
            seed.last = Some(bytes);
            return Ok(());
        }
        seed.seeding.push(&bytes).map_err(failure)
    }

    pub(super) fn install(&mut self) -> Result<(), Failure> {
        let dataset = self.dataset().ok_or(Failure::Refused)?;
        let live = self.live.as_mut().ok_or(Failure::Refused)?;
        let Incoming { mut seeding, last, header, lineage } =
            live.seed.take().ok_or(Failure::Refused)?;
        live.snapshots.clear();
        // Before the data moves: whichever of the two a crash leaves, the lineage is known.
        let (position, checksum) = (header.position, header.checksum);
        self.meta.seeding = Some(Seeding { position, checksum, lineage });
        if self.meta.health != Health::Sound && dataset.role() != Role::Quarantined {
            // So that the dataset keeps all of its history.
            self.call(dataset.quarantine()).map_err(failure)?;
        }
        drop(dataset);
        let last = last.ok_or(Failure::Refused)?;
        let installed = seeding.push(&last).and_then(|()| seeding.finish());
        let dataset = installed.map_err(|error| {
            if self.machine.is_on() {
                self.meta.seeding = None;
            }
            failure(error)
        })?;
        let (position, checksum) = dataset.checksum();
        self.meta.settle(position, checksum);
        if let Some(live) = &mut self.live {
            live.dataset = dataset;
            live.tail = None;
        }
        if self.bug == Some(Bug::DropTail) {
            self.drop_tails();
        }
        Ok(())
    }

    fn drop_tails(&self) {
        let tails = self.dataset().and_then(|dataset| dataset.set_aside_tails().ok());
        for tail in tails.unwrap_or_default() {
            // There is none to drop, or it is dropped at the next chance.
            let _ = std::fs::remove_dir_all(&tail.dir);
        }
    }

    pub(super) fn set_aside_positions(&mut self) -> Aside {
        let mut aside = Aside::default();
        let Some(dataset) = self.dataset() else { return aside };
        for tail in dataset.set_aside_tails().unwrap_or_default() {
            let Ok(mut log) = dataset.read_tail(&tail, None) else { continue };
            while let Ok(Some((header, _))) = log.next_segment() {
                aside.positions.push((header.position, header.checksum_after));
            }
        }
        aside
    }
}

/// The rolling checksum at a position, if the log or the head still tells it.
fn checksum_at(dataset: &Dataset, position: Position) -> Option<u64> {
    let (tip, checksum) = dataset.checksum();
    if tip == position {
        return Some(checksum);
    }
    let (header, _) = dataset.subscribe(position).ok()?.try_next_within(0).ok()??;
    Some(header.checksum_before)
}
