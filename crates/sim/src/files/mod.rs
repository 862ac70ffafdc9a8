//! The real storage: a `verge_dataset::Store` with real SQLite files in a temporary folder, on a
//! disk that loses its power (`power`). Each call runs to its end at one virtual instant, which is
//! also what the engine's clock says; nothing of it goes on beside the simulation.

mod clock;
mod copy;
mod engine;
mod lead;
mod sql;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use verge_dataset::{
    CreateOptions, Dataset, Error, Header, Reader, Role, Seeding, Settings, Snapshot, Store,
    StoreConfig, Subscription,
};
use verge_replicate::Lineage;
use verge_replicate::wire::{Segment, SegmentHeader, SnapshotHeader};
use verge_types::DatasetId;

use self::clock::SimClock;
use crate::Bug;
use crate::content::Write;
use crate::power::{Lie, Machine};
use crate::rng::Rng;
use crate::storage::{Failure, Meta, Outlet};

const NEVER: Duration = Duration::from_secs(1 << 20);
/// Small, so that there are many pages.
const PAGE_SIZE: u32 = 512;

/// A node's real copy.
pub struct Files {
    id: DatasetId,
    folder: TempDir,
    machine: Arc<Machine>,
    clock: Arc<SimClock>,
    runtime: Runtime,
    settings: Settings,
    meta: Meta,
    live: Option<Live>,
    bug: Option<Bug>,
}

/// What the process has in memory.
struct Live {
    store: Store,
    dataset: Arc<Dataset>,
    /// Our own log, as it grows, while primary.
    tail: Option<Subscription>,
    group: Vec<Write>,
    /// Look at the data in the middle of the next group's sync.
    peek: bool,
    peeked: Arc<Mutex<Option<lead::Peek>>>,
    snapshots: BTreeMap<Outlet, Outgoing>,
    seed: Option<Incoming>,
}

/// A snapshot on its way. One chunk is read ahead, to know which is the last.
struct Outgoing {
    snapshot: Snapshot,
    ahead: Option<Bytes>,
    next: u64,
}

/// A snapshot that is coming in.
struct Incoming {
    seeding: Seeding,
    /// It is installed with this.
    last: Option<Bytes>,
    header: SnapshotHeader,
    lineage: Lineage,
}

/// Where temporary files cost no disk.
fn new_folder() -> io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir())
}

impl Files {
    pub fn new(id: &DatasetId, rng: &mut Rng, bug: Option<Bug>) -> io::Result<Self> {
        let folder = new_folder()?;
        let settings = Settings {
            checkpoint_bytes: rng.pick(&[8 << 10, 64 << 10]),
            log_file_bytes: rng.pick(&[4 << 10, 24 << 10]),
            max_log_bytes: rng.pick(&[32 << 10, 128 << 10, 4 << 20]),
            min_free_bytes: 1,
            // No thread ends, and no job is interrupted, by the machine's own time.
            writer_idle: NEVER,
            job_deadline: NEVER,
            max_transaction: NEVER,
            reader_deadline: NEVER,
            cache_kib: 256,
            ..Settings::default()
        };
        Ok(Self {
            id: id.clone(),
            machine: Machine::start(folder.path(), lie(bug))?,
            folder,
            clock: Arc::default(),
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            settings,
            meta: Meta::default(),
            live: None,
            bug,
        })
    }

    /// Another folder takes this one's place, with power again.
    fn move_to(&mut self, folder: TempDir) -> io::Result<()> {
        self.end();
        self.machine = Machine::start(folder.path(), lie(self.bug))?;
        self.folder = folder;
        Ok(())
    }

    /// Ends the writer's thread; the folder is left behind.
    fn end(&mut self) {
        if let Some(live) = self.live.take() {
            let Live { store, dataset, snapshots, seed, tail, peeked, .. } = live;
            // Readers first.
            *peeked.lock() = None;
            drop((snapshots, seed, tail, dataset));
            store.close_all();
        }
    }

    fn begin(&mut self) -> Result<Live, Error> {
        let config = StoreConfig {
            settings: self.settings.clone(),
            disk: self.machine.disk(),
            clock: self.clock.clone(),
            images_beside: false,
            ..StoreConfig::new(self.folder.path())
        };
        let store = Store::open(config)?;
        let dataset = match store.get(&self.id) {
            Err(Error::NotFound(_)) => {
                store.create_replica(&self.id, CreateOptions { page_size: PAGE_SIZE })?
            }
            found => found?,
        };
        // A primary of the last run is none until it holds its lease again.
        dataset.fence();
        if let Role::Primary { epoch } = dataset.role() {
            self.runtime.block_on(dataset.demote(epoch))?;
        }
        Ok(Live {
            store,
            dataset,
            tail: None,
            group: Vec::new(),
            peek: false,
            peeked: Arc::default(),
            snapshots: BTreeMap::new(),
            seed: None,
        })
    }

    fn dataset(&self) -> Option<Arc<Dataset>> {
        self.live.as_ref().map(|live| live.dataset.clone())
    }

    /// The answer of an engine's call, once none of the writer's chores goes on beside the
    /// simulation.
    fn call<T>(&self, call: impl Future<Output = T>) -> T {
        let answer = self.runtime.block_on(call);
        if let Some(live) = &self.live {
            live.dataset.settle();
        }
        answer
    }

    /// A dataset that has stopped tries to recover when it is used.
    fn recover(&self) {
        if let Some(dataset) = self.dataset().filter(|dataset| dataset.failure().is_some()) {
            // What it cannot do now it does later.
            let _ = self.call(dataset.checkpoint());
        }
    }

    fn read<T>(
        &self,
        reader: impl FnOnce(&Dataset) -> Result<Reader, Error>,
        look: impl FnOnce(&Reader) -> Result<T, verge_dataset::rusqlite::Error>,
    ) -> Option<Result<T, String>> {
        let dataset = self.dataset()?;
        let read = reader(&dataset).map(|reader| look(&reader).map_err(|error| error.to_string()));
        if read.is_err() {
            // Being asked for readers, it has begun to.
            self.recover();
        }
        read.ok()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.end();
    }
}

fn lie(bug: Option<Bug>) -> Option<Lie> {
    match bug {
        Some(Bug::SkipFsync) => Some(Lie::Sync("log")),
        Some(Bug::SkipRedo) => Some(Lie::Redo),
        _ => None,
    }
}

/// An engine's error in words for the glue.
fn failure(error: Error) -> Failure {
    match error {
        Error::NotPrimary { .. }
        | Error::Overloaded { .. }
        | Error::DiskFull { .. }
        | Error::Stopped(_)
        | Error::NotRetained { .. } => Failure::Refused,
        Error::StaleEpoch { known, .. } => Failure::Stale { known },
        Error::Diverged { .. } | Error::Corrupt { .. } | Error::Gap { .. } => {
            Failure::Misfit(error.to_string())
        }
        _ => Failure::Unknown,
    }
}

fn segment(header: &Header, bytes: Bytes) -> Segment {
    let header = SegmentHeader {
        position: header.position,
        before: header.checksum_before,
        after: header.checksum_after,
        committed_ms: header.wall_ms,
    };
    Segment { header, bytes }
}
