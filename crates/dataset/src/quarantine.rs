//! Histories that are not the primary's: set aside, listed, never dropped.
//!
//! Each is a folder `quarantine/<epoch>-<txid>` named after its last position, with log files in
//! it as they were.

use std::path::PathBuf;

use verge_types::Position;

use crate::crashsafe::sync_parent;
use crate::dataset::Dataset;
use crate::disk::Disk;
use crate::error::Error;
use crate::layout::Layout;
use crate::log::{Log, LogReader};
use crate::state::{Duty, State};

/// What was set aside at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its last segment.
    pub last: Position,
    /// The folder with its log files.
    pub dir: PathBuf,
}

impl Dataset {
    /// Histories that were set aside here, oldest name first.
    pub fn set_aside_tails(&self) -> Result<Vec<SetAside>, Error> {
        let (disk, layout) = (&self.shared.config.disk, &self.shared.layout);
        list(&**disk, layout)
    }

    /// Reads what was set aside, segment by segment, after `from` (which its log must reach back
    /// to; `None` is from its beginning).
    pub fn read_tail(&self, tail: &SetAside, from: Option<Position>) -> Result<LogReader, Error> {
        let shared = &self.shared;
        let log = Log::open(shared.config.disk.clone(), &tail.dir, shared.id.tag(), tail.last, 0)?;
        let from = from.unwrap_or_else(|| log.index().base());
        LogReader::new(log.index().clone(), from)
    }

    /// Puts a replica that is ahead of its primary into quarantine. Its history is kept when it is
    /// seeded again.
    pub async fn quarantine(&self) -> Result<Position, Error> {
        self.control(|core, _| {
            core.set_duty(Duty::Quarantined, core.state.epoch)?;
            Ok(core.head.position)
        })
        .await
    }
}

fn list(disk: &dyn Disk, layout: &Layout) -> Result<Vec<SetAside>, Error> {
    let dir = layout.quarantine();
    if !disk.exists(&dir) {
        return Ok(Vec::new());
    }
    let mut names = disk.list(&dir).map_err(Error::io("reading what was set aside"))?;
    names.sort();
    let parse = |name: &String| {
        let (epoch, txid) = name.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(SetAside { last: Position::new(hex(epoch)?, hex(txid)?), dir: dir.join(name) })
    };
    Ok(names.iter().filter_map(parse).collect())
}

/// A closed dataset at `old` is about to be replaced by the one in `new`: keeps what was set aside
/// before, and the log too if it may hold what the new one's history does not. Then removes `old`.
pub(crate) fn keep_old(disk: &dyn Disk, old: &Layout, new: &Layout) -> Result<(), Error> {
    let io = |error| Error::io("setting a replica's history aside")(error);
    let coming = State::load(disk, &new.state())?;
    if disk.exists(&old.quarantine()) {
        disk.rename(&old.quarantine(), &new.quarantine()).map_err(io)?;
    }
    let state = State::load(disk, &old.state());
    let covered = state.as_ref().is_ok_and(|state| {
        state.duty == Duty::Replica
            && state.checkpoint <= coming.checkpoint
            && state.checkpoint.epoch == coming.checkpoint.epoch
    });
    if !covered && disk.exists(&old.log()) {
        disk.create_dir_all(&new.quarantine()).map_err(io)?;
        let last = state.map(|state| state.checkpoint).unwrap_or_default();
        let name = format!("{:016x}-{:016x}", last.epoch, last.txid);
        let place = new.quarantine().join(name);
        if disk.exists(&place) {
            // The same end was set aside before: keep both.
            let again = place.with_extension("again");
            disk.rename(&place, &again).map_err(io)?;
        }
        disk.rename(&old.log(), &place).map_err(io)?;
        disk.sync_dir(&new.quarantine()).map_err(io)?;
    }
    disk.sync_dir(&new.dir).map_err(io)?;
    disk.remove_dir_all(&old.dir).and_then(|()| sync_parent(disk, &old.dir)).map_err(io)
}
