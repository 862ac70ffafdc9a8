//! Readers: connections that are checked out, used on the caller's own thread, and come back.
//!
//! A steady reader leaves its read transaction open when it comes back, and the next one goes on in
//! it while nothing was committed since: the locks that SQLite takes at both ends of one cost a
//! good part of a point read. Never: such a transaction keeps the `-wal` from being moved; whoever
//! moves it ends the idle ones first ([`Pool::end_idle_reads`]).

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
use crate::flight::{Calm, Flight, Mark};
use crate::shared::Shared;
use crate::sqlite;

/// A connection and the way to interrupt it from elsewhere.
struct Lane {
    db: Connection,
    watched: Arc<Watched>,
    /// When it came back last, if no commit was on its way then.
    seen: Option<Calm>,
    /// Its read transaction is left open, and shows what was there at `seen`.
    open: bool,
}

impl Lane {
    /// Before a use; a steady one goes on in the read transaction that was left open, if that
    /// still shows all there is. `false`: not usable any more.
    fn wake(&mut self, steady: bool, flight: &Flight) -> bool {
        let unchanged = self.seen.is_some() && self.seen == flight.calm();
        if !(steady && unchanged) {
            return self.end_read();
        }
        // Nothing was committed since the last use, so that a next use seems likely. If it does
        // not begin, each statement has a read transaction of its own.
        self.open = self.open || execute(&self.db, "BEGIN");
        true
    }

    /// After a use. `false`: not usable any more.
    fn rest(&mut self, flight: &Flight) -> bool {
        let now = flight.calm();
        // The transaction began somewhere between the two looks, so it shows this state.
        let shows_all = self.open && now.is_some() && now == self.seen && !self.db.is_autocommit();
        self.seen = now;
        // One that its user left open would pin the -wal.
        shows_all || self.end_read()
    }

    /// `false`: it is still open, and would show what is old.
    fn end_read(&mut self) -> bool {
        self.open = false;
        self.db.is_autocommit() || execute(&self.db, "ROLLBACK")
    }
}

fn execute(db: &Connection, sql: &str) -> bool {
    db.prepare_cached(sql).and_then(|mut statement| statement.execute([])).is_ok()
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

impl Lanes {
    /// Under the lock: whoever drains the pool must not find it open.
    fn close(&mut self, lane: Lane) {
        self.all.retain(|watched| !Arc::ptr_eq(watched, &lane.watched));
        drop(lane);
    }
}

pub(crate) struct Pool {
    flight: Arc<Flight>,
    path: PathBuf,
    vfs: Option<String>,
    cache_kib: u32,
    max: usize,
    max_idle: usize,
    born: Instant,
    lanes: Mutex<Lanes>,
}

impl Pool {
    pub(crate) fn new(path: PathBuf, config: &StoreConfig, flight: Arc<Flight>) -> Self {
        Self {
            flight,
            path,
            vfs: config.vfs.clone(),
            cache_kib: config.settings.cache_kib,
            max: config.settings.max_readers,
            max_idle: config.settings.idle_readers,
            born: Instant::now(),
            lanes: Mutex::new(Lanes { idle: Vec::new(), all: Vec::new(), out: 0, refused: false }),
        }
    }

    fn check_out(&self, steady: bool) -> Result<Lane, Error> {
        {
            let mut lanes = self.lanes.lock();
            if lanes.refused {
                return Err(Error::Closed);
            }
            if lanes.out >= self.max {
                return Err(Error::Overloaded { what: "max_readers", limit: self.max as u64 });
            }
            lanes.out += 1;
        }
        let lane = self.woken(steady).inspect_err(|_| self.lanes.lock().out -= 1)?;
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        lane.watched.since.store(now.saturating_add(1), Ordering::Release);
        Ok(lane)
    }

    /// An idle lane that is usable, or a new one.
    fn woken(&self, steady: bool) -> Result<Lane, Error> {
        loop {
            let idle = self.lanes.lock().idle.pop();
            let Some(mut lane) = idle else { return self.open() };
            if lane.wake(steady, &self.flight) {
                return Ok(lane);
            }
            self.lanes.lock().close(lane);
        }
    }

    fn open(&self) -> Result<Lane, Error> {
        let db = sqlite::open_reader(&self.path, self.vfs.as_deref(), self.cache_kib)?;
        let handle = db.get_interrupt_handle();
        let watched = Arc::new(Watched { handle, since: AtomicU64::new(0) });
        self.lanes.lock().all.push(watched.clone());
        Ok(Lane { db, watched, seen: None, open: false })
    }

    fn check_in(&self, mut lane: Lane) {
        lane.watched.since.store(0, Ordering::Release);
        let usable = lane.rest(&self.flight);
        let mut lanes = self.lanes.lock();
        lanes.out -= 1;
        if usable && !lanes.refused && lanes.idle.len() < self.max_idle {
            lanes.idle.push(lane);
        } else {
            lanes.close(lane);
        }
    }

    /// Ends the read transactions that steady readers left open.
    pub(crate) fn end_idle_reads(&self) {
        let mut lanes = self.lanes.lock();
        for mut lane in std::mem::take(&mut lanes.idle) {
            if lane.end_read() {
                lanes.idle.push(lane);
            } else {
                lanes.close(lane);
            }
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
    failures: u64,
}

impl Reader {
    pub(crate) fn check_out(shared: &Arc<Shared>, steady: bool) -> Result<Self, Error> {
        // Before the check-out: a failure from then on ends the reader.
        let failures = shared.failures();
        let lane =
            shared.pool.check_out(steady).map_err(|error| shared.failure().unwrap_or(error))?;
        Ok(Self { lane: Some(lane), shared: shared.clone(), failures })
    }

    /// What a read transaction that begins now sees at least. It may see a little more: commits of
    /// the group whose sync is under way.
    pub fn position(&self) -> Position {
        self.shared.head().position
    }

    /// Stands for all that was read through this reader until now. What was read is not to be told
    /// to anybody before the glimpse has settled.
    pub fn glimpse(&self) -> Glimpse {
        let mark = self.shared.flight.mark();
        Glimpse { shared: self.shared.clone(), failures: self.failures, mark }
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

/// Something that was read, until it is durable.
///
/// SQLite shows a commit before our log has it on the disk. A reader that saw it waits for the sync
/// that is under way, which is the only one it can have seen; mostly there is none.
pub struct Glimpse {
    shared: Arc<Shared>,
    failures: u64,
    mark: Mark,
}

impl Glimpse {
    /// Resolves with a position that covers all that was read: durable, and no older.
    ///
    /// # Errors
    /// `Failed` if it did not become durable: what was read never was.
    pub async fn settled(self) -> Result<Position, Error> {
        self.shared.flight.wait(self.mark).await;
        self.told()
    }

    /// The same on this thread.
    ///
    /// # Errors
    /// `Overloaded` if the disk takes longer than `longest`.
    pub fn block(self, longest: Duration) -> Result<Position, Error> {
        if self.shared.flight.block(self.mark, longest) {
            return self.told();
        }
        let limit = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Err(Error::Overloaded { what: "a read's wait for the disk, ms,", limit })
    }

    fn told(&self) -> Result<Position, Error> {
        // Before the failures are counted: after one, the head may be another history's.
        let position = self.shared.head().position;
        if self.shared.failures() != self.failures {
            let failure = self.shared.failure();
            return Err(failure.unwrap_or(Error::Failed("what was read was not kept".into())));
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

    use super::*;
    use crate::{CreateOptions, Dataset, Store};

    fn count(dataset: &Dataset) -> i64 {
        let reader = dataset.steady_reader().unwrap();
        reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    async fn write(dataset: &Dataset, sql: &'static str) {
        dataset.write(|db: &Connection| db.execute_batch(sql)).await.unwrap();
    }

    #[tokio::test]
    async fn a_read_transaction_that_cannot_be_ended_is_not_read_in_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(folder.path())).unwrap();
        let dataset = store.create(&"d".parse().unwrap(), CreateOptions::default()).unwrap();
        write(&dataset, "CREATE TABLE t(x)").await;
        for expected in 1..5 {
            count(&dataset);
            count(&dataset);
            let mut reader = dataset.steady_reader().unwrap();
            let lane = reader.lane.as_mut().unwrap();
            assert!(lane.open);
            let stays_open = |context: AuthContext<'_>| match context.action {
                AuthAction::Transaction { .. } => Authorization::Deny,
                _ => Authorization::Allow,
            };
            lane.db.authorizer(Some(stays_open)).unwrap();
            drop(reader);
            write(&dataset, "INSERT INTO t VALUES (1)").await;
            if expected % 2 == 0 {
                assert!(dataset.checkpoint().await.unwrap());
            }
            assert_eq!(count(&dataset), expected);
        }
    }
}
