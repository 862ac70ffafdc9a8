//! The writer's state: the one write connection, what was captured of its `-wal`, the log's end.
//!
//! Exactly one thread has it at a time. Between two commands always holds: every committed frame
//! of the `-wal` is in the log and durable, and `head` is the log's end. When that cannot be kept
//! the core is thrown away and made again from the log.

mod apply;
mod apply_large;
mod capture;
mod checkpoint;
mod group;
pub(crate) mod recover;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, InterruptHandle};
use verge_types::Position;

pub(crate) use apply::quarantined;
pub(crate) use group::{GroupJob, Outcome};
pub(crate) use recover::write_segment;

use crate::checksum::PageHashes;
use crate::config::StoreConfig;
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::flight::Flight;
use crate::layout::Layout;
use crate::log::Log;
use crate::sqlite;
use crate::state::{Duty, State};
use crate::wal::{WalCursor, WalPages};

/// A point of the history and what the database is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) position: Position,
    pub(crate) checksum: u64,
    pub(crate) pages: u32,
    pub(crate) wall_ms: u64,
}

pub(crate) struct Core {
    // Dropped first: the files below are closed only after SQLite has closed its own, since
    // closing a file drops the process's POSIX locks on it.
    pub(crate) conn: Connection,
    db_file: Arc<dyn DiskFile>,
    wal_file: Option<Arc<dyn DiskFile>>,
    wal: WalCursor,
    /// Frames in the `-wal` after the last commit, by SQLite's own count.
    committed_frames: Arc<AtomicU32>,
    /// Something was committed since the last capture. The file does not tell: a transaction that
    /// rolls back may have begun it anew.
    committed: Arc<AtomicBool>,
    /// The last checkpoint moved every frame, so the next commit may begin the `-wal` anew.
    may_restart: bool,
    pages: WalPages,
    hashes: PageHashes,
    pub(crate) log: Log,
    /// A copy of the database file that is being made; no checkpoint meanwhile.
    image: Option<std::thread::JoinHandle<Result<(), Error>>>,
    pub(crate) state: State,
    pub(crate) head: Head,
    /// Told before each commit.
    pub(crate) flight: Arc<Flight>,
    pub(crate) layout: Layout,
    pub(crate) config: StoreConfig,
}

impl Core {
    /// Opens a dataset's files, and brings the database to the log's end. No connection to it may
    /// be open.
    pub(crate) fn open(
        config: &StoreConfig,
        layout: &Layout,
        flight: Arc<Flight>,
    ) -> Result<Self, Error> {
        let disk = &config.disk;
        let mut state = State::load(&**disk, &layout.state())?;
        let log = Log::open(
            disk.clone(),
            &layout.log(),
            state.id.tag(),
            state.checkpoint,
            config.settings.log_file_bytes,
        )?;
        let db_file = disk.open(&layout.db(), false).map_err(Error::io("the database file"))?;
        let head = recover::redo(&**disk, layout, &mut state, &log, &*db_file)?;
        let kib = config.settings.cache_kib;
        let mut conn = sqlite::open_writer(&layout.db(), config.vfs.as_deref(), kib)?;
        let committed_frames = Arc::new(AtomicU32::new(0));
        let committed = Arc::new(AtomicBool::new(false));
        let (counter, flag) = (committed_frames.clone(), committed.clone());
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, frames| {
            counter.store(u32::try_from(frames).unwrap_or(0), Ordering::Relaxed);
            flag.store(true, Ordering::Relaxed);
            Ok(())
        }))?;
        let core = Self {
            conn,
            db_file,
            wal_file: None,
            wal: WalCursor::default(),
            committed_frames,
            committed,
            may_restart: true,
            pages: WalPages::default(),
            hashes: PageHashes::default(),
            log,
            image: None,
            state,
            head,
            flight,
            layout: layout.clone(),
            config: config.clone(),
        };
        core.forget_pages();
        core.guard_connection()?;
        Ok(core)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.config.disk
    }

    pub(crate) fn interrupt_handle(&self) -> InterruptHandle {
        self.conn.get_interrupt_handle()
    }

    /// Becomes something else, durably.
    pub(crate) fn set_duty(&mut self, duty: Duty, epoch: u64) -> Result<(), Error> {
        if epoch < self.state.epoch {
            return Err(Error::StaleEpoch { given: epoch, known: self.state.epoch });
        }
        let next = State { duty, epoch, ..self.state.clone() };
        next.save(self.disk(), &self.layout.state())?;
        self.state = next;
        self.forget_pages();
        self.guard_connection()
    }

    /// Empties the write connection's page cache. SQLite keeps what it understood of a page
    /// beside the page, and does not notice that `sqlite_dbpage` wrote another one over it.
    fn forget_pages(&self) {
        // SAFETY: the handle lives as long as `conn`, which no other thread uses meanwhile.
        unsafe {
            rusqlite::ffi::sqlite3_db_release_memory(self.conn.handle());
        }
    }

    /// A primary's jobs cannot write pages past SQL; a replica does just that.
    fn guard_connection(&self) -> Result<(), Error> {
        let on = self.state.duty == Duty::Primary;
        self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, on)?;
        Ok(())
    }

    /// Bytes of committed frames in the `-wal`.
    pub(crate) fn wal_bytes(&self) -> u64 {
        u64::from(self.committed_frames.load(Ordering::Relaxed))
            * (24 + u64::from(self.state.page_size))
    }

    fn wal_file(&mut self) -> Result<Arc<dyn DiskFile>, Error> {
        if let Some(file) = &self.wal_file {
            return Ok(file.clone());
        }
        let path = self.layout.wal();
        let file = self.disk().open(&path, false).map_err(Error::io("opening the -wal"))?;
        self.wal_file = Some(file.clone());
        Ok(file)
    }
}

/// Removes SQLite's cache files. No connection may be open.
pub(crate) fn remove_wal(disk: &dyn Disk, layout: &Layout) -> Result<(), Error> {
    let remove = |path: &Path| disk.remove_if_there(path).map_err(Error::io("removing a -wal"));
    remove(&layout.wal())?;
    remove(&layout.shm())
}
