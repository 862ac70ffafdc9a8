//! Readers: connections that are checked out, used on the caller's own thread, and come back.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle};
use verge_types::Position;

use crate::config::StoreConfig;
use crate::error::Error;
use crate::shared::Shared;
use crate::sqlite;

/// A connection and the way to interrupt it from elsewhere.
struct Lane {
    db: Connection,
    watched: Arc<Watched>,
}

struct Watched {
    handle: InterruptHandle,
    /// Since when it is out, in ms of the pool's clock plus one; 0 if it is not.
    since: AtomicU64,
}

struct Lanes {
    idle: Vec<Lane>,
    all: Vec<Arc<Watched>>,
    out: usize,
    refused: bool,
}

pub(crate) struct Pool {
    path: PathBuf,
    vfs: Option<String>,
    cache_kib: u32,
    max: usize,
    max_idle: usize,
    born: Instant,
    lanes: Mutex<Lanes>,
}

impl Pool {
    pub(crate) fn new(path: PathBuf, config: &StoreConfig) -> Self {
        Self {
            path,
            vfs: config.vfs.clone(),
            cache_kib: config.settings.cache_kib,
            max: config.settings.max_readers,
            max_idle: config.settings.idle_readers,
            born: Instant::now(),
            lanes: Mutex::new(Lanes { idle: Vec::new(), all: Vec::new(), out: 0, refused: false }),
        }
    }

    fn check_out(&self) -> Result<Lane, Error> {
        let idle = {
            let mut lanes = self.lanes.lock();
            if lanes.refused {
                return Err(Error::Closed);
            }
            if lanes.out >= self.max {
                return Err(Error::Overloaded { what: "max_readers", limit: self.max as u64 });
            }
            lanes.out += 1;
            lanes.idle.pop()
        };
        let lane = match idle {
            Some(lane) => lane,
            None => self.open().inspect_err(|_| self.lanes.lock().out -= 1)?,
        };
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        lane.watched.since.store(now.saturating_add(1), Ordering::Release);
        Ok(lane)
    }

    fn open(&self) -> Result<Lane, Error> {
        let db = sqlite::open_reader(&self.path, self.vfs.as_deref(), self.cache_kib)?;
        let handle = db.get_interrupt_handle();
        let watched = Arc::new(Watched { handle, since: AtomicU64::new(0) });
        self.lanes.lock().all.push(watched.clone());
        Ok(Lane { db, watched })
    }

    fn check_in(&self, lane: Lane) {
        lane.watched.since.store(0, Ordering::Release);
        // A transaction that its user left open would pin the -wal.
        let usable = lane.db.is_autocommit() || lane.db.execute_batch("ROLLBACK").is_ok();
        let mut lanes = self.lanes.lock();
        lanes.out -= 1;
        if usable && !lanes.refused && lanes.idle.len() < self.max_idle {
            lanes.idle.push(lane);
        } else {
            lanes.all.retain(|watched| !Arc::ptr_eq(watched, &lane.watched));
            // Closed under the lock: whoever drains the pool must not find it open.
            drop(lane);
        }
    }

    /// No readers from now on.
    pub(crate) fn refuse(&self) {
        let mut lanes = self.lanes.lock();
        lanes.refused = true;
        let idle = std::mem::take(&mut lanes.idle);
        lanes.all.retain(|watched| !idle.iter().any(|lane| Arc::ptr_eq(watched, &lane.watched)));
        drop(idle);
    }

    /// Refuses readers and closes idle ones; `true` if none is out.
    pub(crate) fn drain(&self) -> bool {
        self.refuse();
        self.lanes.lock().out == 0
    }

    pub(crate) fn allow(&self) {
        self.lanes.lock().refused = false;
    }

    pub(crate) fn out(&self) -> usize {
        self.lanes.lock().out
    }

    pub(crate) fn interrupt_older_than(&self, age: Duration) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        for watched in &self.lanes.lock().all {
            let since = watched.since.load(Ordering::Acquire);
            if since != 0 && now.saturating_sub(since) >= age {
                watched.handle.interrupt();
            }
        }
    }
}

/// A read-only connection, for the thread that holds it; it derefs to [`rusqlite::Connection`].
///
/// Use `prepare_cached`: the connection is used again and keeps its statements. A read transaction
/// left open is rolled back when the reader is dropped; while it is open it pins the `-wal`.
pub struct Reader {
    /// `None` only while being dropped.
    lane: Option<Lane>,
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn check_out(shared: &Arc<Shared>) -> Result<Self, Error> {
        let lane = shared.pool.check_out().map_err(|error| shared.failure().unwrap_or(error))?;
        Ok(Self { lane: Some(lane), shared: shared.clone() })
    }

    /// What a read transaction that begins now sees at least. It may see a little more: commits of
    /// the group whose sync is under way.
    pub fn position(&self) -> Position {
        self.shared.head().position
    }
}

impl Deref for Reader {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match &self.lane {
            Some(lane) => &lane.db,
            None => unreachable!("a reader is used after its drop"),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.shared.pool.check_in(lane);
        }
    }
}
