//! What a [`super::Database`] needs of the dataset under it and of the fleet around it.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::time::{Duration, Instant};

use verge_dataset::rusqlite::Connection;
use verge_types::{BoxFuture, Coverage, DatasetId, Position};

use super::error::SqlError;

/// A future on the heap: these calls wait for a disk or a network at least.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One dataset on this node: its readers, its writer where it is the primary, its position.
pub trait Home: Send + Sync + 'static {
    /// A read-only connection for the thread that holds it.
    type Reader: Deref<Target = Connection> + Send;
    /// An interactive transaction.
    type Transaction: Transaction;

    fn id(&self) -> &DatasetId;
    /// What a read that begins now sees at least.
    fn position(&self) -> Position;
    fn is_primary(&self) -> bool;
    /// False while the data here must not be shown: it is not the primary's, or is damaged.
    fn is_readable(&self) -> bool {
        true
    }
    /// How old the state here may be at most; `None` if that is not known. Zero on a primary.
    fn staleness(&self) -> Option<Duration>;
    /// What the history here says of a position that a client has seen.
    fn coverage(&self, position: Position) -> Coverage;
    fn reader(&self) -> Result<Self::Reader, SqlError>;
    /// A reader for one short read, which may find itself in a read transaction that shows all
    /// there is.
    fn steady_reader(&self) -> Result<Self::Reader, SqlError>;
    /// Whether a read that begins now may see commits that the disk has not got yet, and so has to
    /// wait for it.
    fn is_settling(&self) -> bool;
    /// Resolves once the disk has all that was read through `reader` until now, with a position
    /// that covers it. `strong`: and once no failover can undo it. What was read must not be told
    /// before.
    fn settled(
        &self,
        reader: &Self::Reader,
        strong: bool,
    ) -> Boxed<'static, Result<Position, SqlError>>;
    /// The same on this thread; not strong. Fails if it takes longer than a disk should.
    fn settle(&self, reader: &Self::Reader) -> Result<Position, SqlError>;
    /// Waits for a position; false if `longest` passed first.
    fn wait_for(&self, position: Position, longest: Duration) -> Boxed<'_, bool>;
    /// Runs a job in a transaction of its own on the writer's thread; resolves once durable. What
    /// `after` names must be in the history when the job's turn comes, or it does not run.
    fn write<T: Send + 'static>(
        &self,
        after: Option<Position>,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Boxed<'_, Result<(T, Position), SqlError>>;
    /// Opens an interactive transaction that rolls back by itself at the deadline.
    fn begin(&self, deadline: Instant) -> Boxed<'_, Result<Self::Transaction, SqlError>>;
}

/// An open write transaction. Dropped, it rolls back.
pub trait Transaction: Send + 'static {
    fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Boxed<'_, Result<T, SqlError>>;
    fn commit(self) -> Boxed<'static, Result<Position, SqlError>>;
    fn rollback(self) -> Boxed<'static, Result<(), SqlError>>;
}

/// Carries a request to the dataset's primary, wherever that is now, and its answer back. The
/// other end hands the bytes to [`super::Database::serve`].
pub trait Forward: Send + Sync + 'static {
    /// # Errors
    /// [`super::ErrorKind::Unavailable`] where the primary cannot be reached. Where the request
    /// may have arrived, it must not be sent again.
    fn forward(
        &self,
        dataset: &DatasetId,
        request: Vec<u8>,
    ) -> BoxFuture<Result<Vec<u8>, SqlError>>;
}
