//! What a [`super::Database`] needs of the dataset under it and of the fleet around it.

use std::future::Future;
use std::ops::Deref;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use verge_types::{BoxFuture, DatasetId, Position};

use super::error::SqlError;

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
    /// How old the state here may be at most; `None` if that is not known. Zero on a primary.
    fn staleness(&self) -> Option<Duration>;
    fn reader(&self) -> Result<Self::Reader, SqlError>;
    /// Waits for a position; false if `longest` passed first.
    fn wait_for(&self, position: Position, longest: Duration) -> impl Future<Output = bool> + Send;
    /// Runs a job in a transaction of its own on the writer's thread; resolves once durable.
    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> impl Future<Output = Result<(T, Position), SqlError>> + Send;
    /// Opens an interactive transaction that rolls back by itself at the deadline.
    fn begin(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Transaction, SqlError>> + Send;
}

/// An open write transaction. Dropped, it rolls back.
pub trait Transaction: Send + 'static {
    fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> impl Future<Output = Result<T, SqlError>> + Send;
    fn commit(self) -> impl Future<Output = Result<Position, SqlError>> + Send;
    fn rollback(self) -> impl Future<Output = Result<(), SqlError>> + Send;
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
