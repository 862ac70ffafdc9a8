//! A replicated dataset as the home of a SQL database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use verge_dataset::rusqlite::Connection;
use verge_dataset::{Dataset, Error, Reader, Role, WriteError, WriteTransaction};
use verge_types::{DatasetId, Position};

use super::error::{ErrorKind, SqlError};
use super::home::{Boxed, Home, Transaction};

/// How long ago a replica last knew that it had all of its primary's commits; `None` if never.
/// Replication knows.
pub type Age = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// A dataset of this node.
#[derive(Clone)]
pub struct DatasetHome {
    dataset: Arc<Dataset>,
    age: Option<Age>,
}

impl DatasetHome {
    /// Without `age`, a replica refuses every read that asks for `max_staleness`.
    pub fn new(dataset: Arc<Dataset>, age: Option<Age>) -> Self {
        Self { dataset, age }
    }

    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }
}

/// What an app may read of a dataset's failure.
impl From<Error> for SqlError {
    fn from(error: Error) -> Self {
        match error {
            Error::Sqlite(error) => match Arc::try_unwrap(error) {
                Ok(error) => error.into(),
                Err(shared) => Self::new(ErrorKind::Sqlite, shared.to_string()),
            },
            Error::DeadlinePassed | Error::TransactionEnded => {
                Self::new(ErrorKind::Deadline, error.public())
            }
            Error::JobPanicked | Error::InvalidOption { .. } => {
                Self::new(ErrorKind::Internal, error.public())
            }
            other => Self::new(ErrorKind::Unavailable, other.public()),
        }
    }
}

fn flatten(error: WriteError<SqlError>) -> SqlError {
    match error {
        WriteError::Job(error) => error,
        WriteError::Dataset(error) => error.into(),
    }
}

impl Home for DatasetHome {
    type Reader = Reader;
    type Transaction = WriteTransaction;

    fn id(&self) -> &DatasetId {
        self.dataset.id()
    }

    fn position(&self) -> Position {
        self.dataset.position()
    }

    fn is_primary(&self) -> bool {
        matches!(self.dataset.role(), Role::Primary { .. })
    }

    fn staleness(&self) -> Option<Duration> {
        if self.is_primary() {
            Some(Duration::ZERO)
        } else {
            self.age.as_ref().and_then(|age| age())
        }
    }

    fn reader(&self) -> Result<Reader, SqlError> {
        Ok(self.dataset.reader()?)
    }

    fn wait_for(&self, position: Position, longest: Duration) -> Boxed<'_, bool> {
        Box::pin(self.dataset.wait_for(position, longest))
    }

    fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Boxed<'_, Result<(T, Position), SqlError>> {
        Box::pin(async move {
            let committed = self.dataset.write(job).await.map_err(flatten)?;
            Ok((committed.value, committed.position))
        })
    }

    fn begin(&self, deadline: Instant) -> Boxed<'_, Result<WriteTransaction, SqlError>> {
        Box::pin(async move { Ok(self.dataset.begin(deadline).await?) })
    }
}

impl Transaction for WriteTransaction {
    fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Boxed<'_, Result<T, SqlError>> {
        Box::pin(async move { WriteTransaction::run(self, job).await.map_err(flatten) })
    }

    fn commit(self) -> Boxed<'static, Result<Position, SqlError>> {
        Box::pin(async move { Ok(WriteTransaction::commit(self).await?.position) })
    }

    fn rollback(self) -> Boxed<'static, Result<(), SqlError>> {
        Box::pin(async move { Ok(WriteTransaction::rollback(self).await?) })
    }
}
