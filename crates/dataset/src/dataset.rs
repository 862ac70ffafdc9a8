//! A dataset on this node, as others use it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use verge_types::{Bookmark, DatasetId, Position};

use crate::boot::BootTime;
use crate::core::{Core, GroupJob, Outcome};
use crate::error::{Error, WriteError};
use crate::log::LogReader;
use crate::queue::{Command, Queue};
use crate::reader::Reader;
use crate::segment::Header;
use crate::shared::Shared;
use crate::state::Duty;
use crate::transaction::{Opening, WriteTransaction};

/// What this node is for a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary {
        epoch: u64,
    },
    Replica,
    /// It diverged from its primary: readable, but it takes neither writes nor segments until it
    /// is seeded again.
    Quarantined,
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// Once this node's log is synced.
    #[default]
    Local,
    /// Once, besides, [`Dataset::confirm`] was told its position. Who counts (a follower, a
    /// quorum, a bucket) is the replication's to decide.
    Remote,
}

/// What a write returned, and the position at which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed<T> {
    pub value: T,
    pub position: Position,
}

/// A handle; the store keeps another. Cheap to use from any thread.
pub struct Dataset {
    pub(crate) shared: Arc<Shared>,
}

impl Dataset {
    pub fn id(&self) -> &DatasetId {
        &self.shared.id
    }

    pub fn role(&self) -> Role {
        self.shared.role()
    }

    /// The highest epoch known here.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch()
    }

    /// The last durable segment.
    pub fn position(&self) -> Position {
        self.shared.head().position
    }

    pub fn bookmark(&self) -> Bookmark {
        Bookmark::new(self.id(), self.position())
    }

    /// Position and rolling checksum, taken together.
    pub fn checksum(&self) -> (Position, u64) {
        let head = self.shared.head();
        (head.position, head.checksum)
    }

    /// Bytes.
    pub fn page_size(&self) -> u32 {
        self.shared.page_size
    }

    /// Size of the database, in bytes.
    pub fn size(&self) -> u64 {
        u64::from(self.shared.head().pages) * u64::from(self.shared.page_size)
    }

    /// When the last segment was committed at its primary, ms since 1970; 0 if there is none.
    pub fn wall_ms(&self) -> u64 {
        self.shared.head().wall_ms
    }

    /// Tells each new position.
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.shared.position.subscribe()
    }

    /// Why the dataset stopped, if it did: nothing is acknowledged, and readers are refused, until
    /// it has recovered from its log. Any use tries that.
    pub fn failure(&self) -> Option<Error> {
        self.shared.failure()
    }

    /// Checks out a connection for reading on this thread. A microsecond or less, unless all are
    /// out: then one is opened, up to `max_readers`.
    pub fn reader(&self) -> Result<Reader, Error> {
        self.check_out(false)
    }

    /// The same for short reads, one after the other: while nothing is committed they share one
    /// read transaction, which each finds begun and leaves open. Within it `BEGIN` is an error and
    /// pragmas that need to be outside of a transaction do nothing.
    pub fn steady_reader(&self) -> Result<Reader, Error> {
        self.check_out(true)
    }

    fn check_out(&self, steady: bool) -> Result<Reader, Error> {
        Reader::check_out(&self.shared, steady).inspect_err(|error| {
            if matches!(error, Error::Failed(_)) {
                self.shared.nudge();
            }
        })
    }

    /// Runs `job` in a transaction of its own on the writer's thread, and commits if it returns
    /// `Ok`. Resolves once that is durable. Dropped before it ran, it does not run; dropped later,
    /// it may be committed all the same.
    ///
    /// # Errors
    /// `Job` is the job's own, `NotPrimary` asks to forward, `Overloaded` and `DiskFull` wrote
    /// nothing. `Failed` and `Fenced`: whether it was kept is not known. `Unconfirmed`: durable
    /// here.
    pub async fn write<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<Committed<T>, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.write_for(job, None).await
    }

    /// The same for work of the database's owner, such as an import, that may keep the writer for
    /// `longest`.
    pub async fn write_long<T, E>(
        &self,
        longest: Duration,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<Committed<T>, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.write_for(job, Some(longest)).await
    }

    async fn write_for<T, E>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        longest: Option<Duration>,
    ) -> Result<Committed<T>, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.shared.may_write()?;
        let (reply, result) = oneshot::channel();
        let job = Job { job: Some(job), result: None, longest, reply };
        Queue::push(&self.shared, Command::Write(Box::new(job)))?;
        let committed = result.await.unwrap_or(Err(Error::Closed.into()))?;
        self.shared.confirm(committed.position).await?;
        Ok(committed)
    }

    /// Opens an interactive transaction once it is its turn. It ends at `deadline`, or after
    /// `max_transaction` if that is sooner.
    pub async fn begin(&self, deadline: Instant) -> Result<WriteTransaction, Error> {
        self.shared.may_write()?;
        let (reply, result) = oneshot::channel();
        Queue::push(&self.shared, Command::Begin(Opening { deadline, reply }))?;
        match tokio::time::timeout_at(deadline.into(), result).await {
            Ok(result) => result.unwrap_or(Err(Error::Closed)),
            Err(_) => Err(Error::DeadlinePassed),
        }
    }

    /// Whether a read that begins now may see what is not durable yet; see [`Glimpse`].
    pub fn is_settling(&self) -> bool {
        self.shared.flight.is_under_way()
    }

    /// Waits until others have `position`, where the dataset's [`Ack`] asks for that.
    ///
    /// # Errors
    /// `Unconfirmed` after `confirm_deadline`.
    pub async fn confirmed(&self, position: Position) -> Result<(), Error> {
        self.shared.confirm(position).await
    }

    /// Waits until the dataset has reached `position` here; `false` if `longest` passed first.
    pub async fn wait_for(&self, position: Position, longest: Duration) -> bool {
        if self.position() >= position {
            return true;
        }
        let mut watch = self.watch();
        timeout(longest, watch.wait_for(|now| *now >= position)).await.is_ok_and(|r| r.is_ok())
    }

    /// Reads segments after `from`, then waits for new ones.
    ///
    /// # Errors
    /// `NeedSnapshot` if the log no longer reaches back to it; `Diverged` if `from` is not in this
    /// history: then the follower has a tail to set aside.
    pub fn subscribe(&self, from: Position) -> Result<Subscription, Error> {
        let log = LogReader::new(self.shared.log_index.lock().clone(), from)?;
        Ok(Subscription { log, watch: self.watch(), shared: Arc::downgrade(&self.shared) })
    }

    /// Applies segments on a replica, in order; those it has already are passed over. Resolves
    /// with its position once they are durable here and visible to new readers. Calls that wait
    /// are applied together.
    pub async fn apply(&self, segments: Vec<Bytes>) -> Result<Position, Error> {
        let (reply, result) = oneshot::channel();
        Queue::push(&self.shared, Command::Apply { segments, reply })?;
        result.await.unwrap_or(Err(Error::Closed))
    }

    /// Becomes primary of `epoch`, which must be newer than any known here.
    pub async fn promote(&self, epoch: u64) -> Result<Position, Error> {
        self.control(move |core, shared| {
            if epoch <= core.state.epoch {
                return Err(Error::StaleEpoch { given: epoch, known: core.state.epoch });
            }
            if core.state.duty == Duty::Quarantined {
                return Err(crate::core::quarantined());
            }
            core.set_duty(Duty::Primary, epoch)?;
            shared.set_fence(None);
            Ok(core.head.position)
        })
        .await
    }

    /// Becomes (or stays) a replica that refuses epochs older than `epoch`. Writes that wait are
    /// answered `NotPrimary`. Gives the position at which it stands.
    pub async fn demote(&self, epoch: u64) -> Result<Position, Error> {
        self.control(move |core, _| {
            if core.state.duty != Duty::Quarantined {
                core.set_duty(Duty::Replica, epoch)?;
            }
            Ok(core.head.position)
        })
        .await
    }

    /// From now on nothing is acknowledged, at once and without waiting for the writer.
    pub fn fence(&self) {
        self.shared.set_fence(Some(BootTime::NEVER));
    }

    /// The lease: nothing is acknowledged from `until` on. Extend it while the lease is renewed;
    /// `None` for a primary without lease.
    pub fn lease_until(&self, until: Option<BootTime>) {
        self.shared.set_fence(until);
    }

    pub fn set_ack(&self, ack: Ack) {
        *self.shared.ack.lock() = ack;
    }

    /// Others have everything up to `position`; for [`Ack::Remote`].
    pub fn confirm(&self, position: Position) {
        self.shared.confirmed.send_if_modified(|confirmed| {
            let newer = position > *confirmed;
            *confirmed = position.max(*confirmed);
            newer
        });
    }

    /// Moves the `-wal` into the database file; `true` if no reader kept some of it back.
    pub async fn checkpoint(&self) -> Result<bool, Error> {
        self.control(|core, shared| shared.checkpoint(core)).await
    }

    /// `VACUUM`, which cannot run inside a job. It changes most pages.
    pub async fn vacuum(&self) -> Result<Position, Error> {
        self.control(|core, shared| {
            shared.may_write()?;
            core.flight.begin();
            core.conn.execute_batch("VACUUM")?;
            core.settle(Vec::new(), shared)?;
            Ok(core.head.position)
        })
        .await
    }

    /// Waits until the writer has done what it has in hand, on this thread. It answers callers
    /// before its own chores, such as a checkpoint that is due; a simulation waits for these too.
    pub fn settle(&self) {
        self.shared.rested();
    }

    /// Runs something with the writer's core, between two groups.
    pub(crate) async fn control<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Core, &Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, result) = oneshot::channel();
        let control = Box::new(move |core: Result<&mut Core, Error>, shared: &Arc<Shared>| {
            let outcome = core.and_then(|core| {
                let outcome = act(core, shared);
                if let Some(error) = outcome.as_ref().err().filter(|error| error.is_fatal()) {
                    shared.stop(error);
                }
                // Told before the caller is, so that it sees its own change.
                shared.publish(core);
                outcome
            });
            let fatal = outcome.as_ref().err().cloned();
            let _ = reply.send(outcome);
            fatal.map_or(Ok(()), Err)
        });
        Queue::push(&self.shared, Command::Control(control))?;
        result.await.unwrap_or(Err(Error::Closed))
    }
}

impl Shared {
    /// Waits until others have `position`, if that is asked for.
    pub(crate) async fn confirm(&self, position: Position) -> Result<(), Error> {
        if *self.ack.lock() == Ack::Local {
            return Ok(());
        }
        let mut watch = self.confirmed.subscribe();
        let wait = watch.wait_for(|confirmed| *confirmed >= position);
        match timeout(self.settings().confirm_deadline, wait).await {
            // A later term's confirmations say nothing of an earlier one's tail.
            Ok(Ok(confirmed)) if confirmed.epoch == position.epoch => Ok(()),
            _ => Err(Error::Unconfirmed(position)),
        }
    }

    /// Has the writer look, which recovers a failed dataset.
    fn nudge(self: &Arc<Self>) {
        let _ = Queue::push(self, Command::Control(Box::new(|_, _| Ok(()))));
    }
}

/// One `write`.
struct Job<T, E, F> {
    job: Option<F>,
    result: Option<Result<T, E>>,
    longest: Option<Duration>,
    reply: oneshot::Sender<Result<Committed<T>, WriteError<E>>>,
}

impl<T, E, F> GroupJob for Job<T, E, F>
where
    T: Send,
    E: Send,
    F: FnOnce(&Connection) -> Result<T, E> + Send,
{
    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn longest(&self) -> Option<Duration> {
        self.longest
    }

    fn run(&mut self, db: &Connection) -> bool {
        self.result = self.job.take().map(|job| job(db));
        matches!(self.result, Some(Ok(_)))
    }

    fn finish(self: Box<Self>, outcome: Outcome) {
        let result = match (outcome, self.result) {
            (Err(error), _) => Err(error.into()),
            (Ok(_), Some(Err(error))) => Err(WriteError::Job(error)),
            (Ok(Some(head)), Some(Ok(value))) => Ok(Committed { value, position: head.position }),
            (Ok(_), _) => Err(Error::TransactionEnded.into()),
        };
        let _ = self.reply.send(result);
    }
}

/// Segments as they become durable.
pub struct Subscription {
    log: LogReader,
    watch: watch::Receiver<Position>,
    /// Weak: the end of the dataset is the end of the watch.
    shared: Weak<Shared>,
}

impl Subscription {
    /// The next segment. Waits for it; the reading itself is from the page cache, mostly.
    ///
    /// # Errors
    /// `NeedSnapshot` once retention has passed it by; `Closed` when the dataset is closed.
    pub async fn next(&mut self) -> Result<(Position, Bytes), Error> {
        loop {
            self.watch.borrow_and_update();
            if let Some(segment) = self.try_next()? {
                return Ok(segment);
            }
            self.watch.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// The next segment if it is durable already.
    pub fn try_next(&mut self) -> Result<Option<(Position, Bytes)>, Error> {
        self.follow_recovery()?;
        Ok(self.log.next_segment()?.map(|(header, bytes)| (header.position, bytes)))
    }

    /// The same, but only the header of a segment that is longer than `longest` bytes: so that it
    /// need not be in memory.
    pub fn try_next_within(
        &mut self,
        longest: usize,
    ) -> Result<Option<(Header, Option<Bytes>)>, Error> {
        self.follow_recovery()?;
        self.log.next_within(longest)
    }

    /// A dataset that failed and recovered has opened its log again.
    fn follow_recovery(&mut self) -> Result<(), Error> {
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };
        let index = shared.log_index.lock().clone();
        if !self.log.reads(&index) {
            self.log = LogReader::new(index, self.log.position())?;
        }
        Ok(())
    }

    /// The last segment that was given.
    pub fn position(&self) -> Position {
        self.log.position()
    }
}
