//! What a dataset's handles, its readers and its writer thread have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::InterruptHandle;
use tokio::sync::watch;
use verge_types::{DatasetId, Position};

use crate::boot::BootTime;
use crate::config::{Settings, StoreConfig};
use crate::core::{Core, Head, remove_wal};
use crate::dataset::{Ack, Role};
use crate::error::Error;
use crate::flight::Flight;
use crate::layout::Layout;
use crate::queue::{Apply, Queue, Work};
use crate::reader::Pool;
use crate::state::Duty;

/// How often a failed dataset tries to recover.
const RECOVER_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Shared {
    pub(crate) id: DatasetId,
    pub(crate) config: StoreConfig,
    pub(crate) layout: Layout,
    pub(crate) page_size: u32,
    pub(crate) queue: Queue,
    /// Held by the thread while it works; `None` after a failure until it is recovered.
    core: Mutex<Option<Core>>,
    pub(crate) pool: Pool,
    duty: Mutex<(Duty, u64)>,
    head: Mutex<Head>,
    pub(crate) position: watch::Sender<Position>,
    /// What others have confirmed, for [`Ack::Remote`].
    pub(crate) confirmed: watch::Sender<Position>,
    pub(crate) ack: Mutex<Ack>,
    /// No acknowledgement from this moment on.
    fence: Mutex<Option<BootTime>>,
    pub(crate) flight: Arc<Flight>,
    /// How often it failed.
    failures: AtomicU64,
    failed: Mutex<Option<(Arc<str>, BootTime)>>,
    closed: AtomicBool,
    /// When the running job is interrupted, in ms of [`Self::clock`]; 0 if none runs.
    job_ends: AtomicU64,
    interrupt: Mutex<Option<InterruptHandle>>,
    /// Bytes of committed frames in the `-wal`.
    wal_bytes: AtomicU64,
    born: Instant,
    pub(crate) log_index: Mutex<Arc<crate::log::LogIndex>>,
}

impl Shared {
    /// Opens a dataset; no other handle to it may be open in any process.
    pub(crate) fn open(
        id: DatasetId,
        config: &StoreConfig,
        layout: Layout,
    ) -> Result<Arc<Self>, Error> {
        let flight = Arc::<Flight>::default();
        let core = Core::open(config, &layout, flight.clone())?;
        if core.state.id != id {
            return Err(Error::corrupt("a dataset's state", "it is another dataset's"));
        }
        let head = core.head;
        Ok(Arc::new(Self {
            id,
            config: config.clone(),
            page_size: core.state.page_size,
            queue: Queue::default(),
            pool: Pool::new(layout.db(), config, flight.clone()),
            duty: Mutex::new((core.state.duty, core.state.epoch)),
            head: Mutex::new(head),
            position: watch::Sender::new(head.position),
            confirmed: watch::Sender::new(Position::default()),
            ack: Mutex::new(Ack::Local),
            fence: Mutex::new(None),
            flight,
            failures: AtomicU64::new(0),
            failed: Mutex::new(None),
            closed: AtomicBool::new(false),
            job_ends: AtomicU64::new(0),
            interrupt: Mutex::new(Some(core.interrupt_handle())),
            wal_bytes: AtomicU64::new(0),
            born: Instant::now(),
            log_index: Mutex::new(core.log.index().clone()),
            core: Mutex::new(Some(core)),
            layout,
        }))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.config.settings
    }

    pub(crate) fn head(&self) -> Head {
        *self.head.lock()
    }

    pub(crate) fn role(&self) -> Role {
        match *self.duty.lock() {
            (Duty::Primary, epoch) => Role::Primary { epoch },
            (Duty::Replica, _) => Role::Replica,
            (Duty::Quarantined, _) => Role::Quarantined,
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.duty.lock().1
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::SeqCst)
    }

    /// Why the dataset stopped, if it did.
    pub(crate) fn failure(&self) -> Option<Error> {
        let failed = self.failed.lock();
        failed.as_ref().map(|(why, _)| Error::Failed(why.clone()))
    }

    /// Whether writes are taken now.
    pub(crate) fn may_write(&self) -> Result<(), Error> {
        match *self.duty.lock() {
            (Duty::Primary, epoch) if self.is_fenced() => Err(Error::NotPrimary { epoch }),
            (Duty::Primary, _) => Ok(()),
            (Duty::Replica, epoch) => Err(Error::NotPrimary { epoch }),
            (Duty::Quarantined, _) => Err(crate::core::quarantined()),
        }
    }

    /// Whether what was made durable may be told.
    pub(crate) fn may_acknowledge(&self) -> Result<(), Error> {
        if self.is_fenced() { Err(Error::Fenced) } else { Ok(()) }
    }

    fn is_fenced(&self) -> bool {
        self.fence.lock().is_some_and(|at| self.config.clock.now() >= at)
    }

    /// From `at` on nothing is acknowledged; `None` lifts it.
    pub(crate) fn set_fence(&self, at: Option<BootTime>) {
        *self.fence.lock() = at;
    }

    /// Tells everybody where the dataset stands.
    pub(crate) fn publish(&self, core: &Core) {
        self.wal_bytes.store(core.wal_bytes(), Ordering::Relaxed);
        *self.head.lock() = core.head;
        *self.duty.lock() = (core.state.duty, core.state.epoch);
        self.position.send_if_modified(|position| {
            let moved = *position != core.head.position;
            *position = core.head.position;
            moved
        });
        self.flight.land();
    }

    pub(crate) fn carry_out(self: &Arc<Self>, work: Work) {
        let mut slot = self.core.lock();
        let ready = self.ready(&mut slot);
        match work {
            Work::Control(control) => {
                let result = control(ready.and_then(|()| slot.as_mut().ok_or(Error::Closed)), self);
                self.after(
                    &mut slot,
                    result.or_else(|e| if e.is_fatal() { Err(e) } else { Ok(()) }),
                );
            }
            Work::Writes(jobs) => {
                let ready = ready.and_then(|()| self.may_write());
                match (ready.and_then(|()| self.has_room(&mut slot)), slot.as_mut()) {
                    (Ok(()), Some(core)) => {
                        let result = core.run_group(jobs, self);
                        self.after(&mut slot, result);
                    }
                    (Err(error), _) => {
                        let error = not_begun(error);
                        for job in jobs {
                            job.finish(Err(error.clone()));
                        }
                    }
                    (Ok(()), None) => {}
                }
            }
            Work::Begin(opening) => {
                let ready = ready.and_then(|()| self.may_write());
                match (ready.and_then(|()| self.has_room(&mut slot)), slot.as_mut()) {
                    (Ok(()), Some(core)) => {
                        let result = opening.serve(core, self);
                        self.after(&mut slot, result);
                    }
                    (Err(error), _) => opening.refuse(not_begun(error)),
                    (Ok(()), None) => {}
                }
            }
            Work::Applies(batch) => self.apply(&mut slot, ready, batch),
        }
    }

    fn apply(&self, slot: &mut Option<Core>, ready: Result<(), Error>, batch: Vec<Apply>) {
        let all: Vec<_> = batch.iter().flat_map(|(segments, _)| segments.iter().cloned()).collect();
        let result = match (ready, slot.as_mut()) {
            (Ok(()), Some(core)) => core.apply(&all),
            (Err(error), _) => Ok(Err(error)),
            (Ok(()), None) => Ok(Err(Error::Closed)),
        };
        let told = match &result {
            Ok(told) => told.clone().map(|head| head.position),
            Err(error) => Err(Error::Failed(error.to_string().into())),
        };
        self.after(slot, result.map(drop));
        for (_, reply) in batch {
            let _ = reply.send(told.clone());
        }
    }

    /// After work that may have changed the head; throws the core away if it failed.
    fn after(&self, slot: &mut Option<Core>, result: Result<(), Error>) {
        let result = result.and_then(|()| match slot.as_mut() {
            Some(core) => {
                self.publish(core);
                self.checkpoint_if_due(core)
            }
            None => Ok(()),
        });
        if let Err(error) = result {
            self.fail(slot, &error);
        }
    }

    /// Moves the `-wal` as far as readers at work allow.
    pub(crate) fn checkpoint(&self, core: &mut Core) -> Result<bool, Error> {
        self.pool.end_idle_reads();
        let moved = core.checkpoint();
        // A read transaction that began meanwhile would keep the next commit from beginning the
        // -wal anew; from now on they need only the database file.
        self.flight.turn();
        self.pool.end_idle_reads();
        moved
    }

    fn checkpoint_if_due(&self, core: &mut Core) -> Result<(), Error> {
        if !core.checkpoint_is_due() {
            return Ok(());
        }
        match self.checkpoint(core) {
            // SQLite could not move pages (a full disk): the -wal grows until its limit.
            Err(Error::Sqlite(_)) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Refuses work that could not be made durable.
    fn has_room(&self, slot: &mut Option<Core>) -> Result<(), Error> {
        let settings = self.settings();
        let Some(core) = slot.as_mut() else { return Ok(()) };
        let free =
            core.disk().free_bytes(&self.layout.dir).map_err(Error::io("asking the disk"))?;
        if free < settings.min_free_bytes {
            return Err(Error::DiskFull { free, needed: settings.min_free_bytes });
        }
        let full = core.wal_bytes() >= settings.max_wal_bytes;
        if full && !(self.checkpoint(core)? && core.empty_wal()?) {
            let limit = settings.max_wal_bytes;
            return Err(Error::Overloaded { what: "max_wal_bytes", limit });
        }
        Ok(())
    }

    /// Called also with the reason why there is no core: then there is nothing to stop.
    ///
    /// Stops the dataset: nothing of the `-wal` can be trusted to be in the log.
    fn fail(&self, slot: &mut Option<Core>, error: &Error) {
        if slot.take().is_some() {
            self.stop(error);
        }
    }

    /// From here on nothing is acknowledged or read. Comes before anybody is told of the error.
    pub(crate) fn stop(&self, error: &Error) {
        *self.failed.lock() = Some((error.to_string().into(), self.config.clock.now()));
        self.failures.fetch_add(1, Ordering::SeqCst);
        self.pool.refuse();
        self.flight.land();
    }

    /// Sees to it that there is a core, recovering from the log if the last one was thrown away.
    fn ready(&self, slot: &mut Option<Core>) -> Result<(), Error> {
        if slot.is_some() {
            return Ok(());
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let failure = self.failure().unwrap_or(Error::Closed);
        let tried = self.failed.lock().as_ref().map(|(_, at)| *at);
        // Readers of the old -wal must be gone before it is removed.
        if tried.is_some_and(|at| self.config.clock.now().since(at) < RECOVER_EVERY)
            || !self.pool.drain()
        {
            return Err(failure);
        }
        match Core::open(&self.config, &self.layout, self.flight.clone()) {
            Ok(core) => {
                self.publish(&core);
                *self.log_index.lock() = core.log.index().clone();
                *self.interrupt.lock() = Some(core.interrupt_handle());
                *slot = Some(core);
                *self.failed.lock() = None;
                self.pool.allow();
                Ok(())
            }
            Err(error) => {
                *self.failed.lock() = Some((error.to_string().into(), self.config.clock.now()));
                Err(error)
            }
        }
    }

    /// Returns once the thread's work in hand is done.
    pub(crate) fn rested(&self) {
        drop(self.core.lock());
    }

    /// Called by the thread before it ends: leaves as little to redo as readers allow.
    pub(crate) fn rest(&self) {
        let mut slot = self.core.lock();
        let Some(core) = slot.as_mut() else { return };
        match self.checkpoint(core) {
            Ok(_) | Err(Error::Sqlite(_)) => {}
            Err(error) => self.fail(&mut slot, &error),
        }
    }

    /// Closes the files, everything being in the database file if readers allow. `false` if
    /// readers are out: nothing is closed then.
    pub(crate) fn close(&self) -> bool {
        if !self.pool.drain() {
            self.pool.allow();
            return false;
        }
        self.queue.close();
        self.closed.store(true, Ordering::Release);
        let mut slot = self.core.lock();
        let moved = slot.as_mut().is_some_and(|core| matches!(core.checkpoint(), Ok(true)));
        *slot = None;
        *self.interrupt.lock() = None;
        if moved {
            // They are a cache; left over, they are removed at the next opening.
            let _ = remove_wal(&*self.config.disk, &self.layout);
        }
        true
    }

    pub(crate) fn job_starts(&self, allowed: Duration) {
        self.job_ends.store(self.clock().saturating_add(millis(allowed)).max(1), Ordering::Release);
    }

    pub(crate) fn job_ended(&self) {
        self.job_ends.store(0, Ordering::Release);
    }

    fn clock(&self) -> u64 {
        millis(self.born.elapsed())
    }

    /// Interrupts what runs past its deadline. Called by the store's keeper, again and again.
    pub(crate) fn keep(&self) {
        let ends = self.job_ends.load(Ordering::Acquire);
        if ends != 0
            && self.clock() >= ends
            && let Some(handle) = self.interrupt.lock().as_ref()
        {
            handle.interrupt();
        }
        if self.wal_bytes.load(Ordering::Relaxed) >= self.settings().max_wal_bytes / 2 {
            self.pool.interrupt_older_than(self.settings().reader_deadline);
        }
    }
}

/// What stopped the dataset before; whoever asks now has written nothing.
fn not_begun(error: Error) -> Error {
    match error {
        Error::Failed(why) => Error::Stopped(why),
        Error::Io { .. } | Error::Corrupt { .. } => Error::Stopped(error.to_string().into()),
        other => other,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
