//! A replicated dataset as the home of a SQL database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use verge_dataset::rusqlite::Connection;
use verge_dataset::{Dataset, Error, Glimpse, Reader, Role, WriteError, WriteTransaction};
use verge_types::{Coverage, DatasetId, Position};

use super::error::{ErrorKind, SqlError};
use super::home::{Boxed, Home, Transaction};

/// A sync of the log that takes longer than this is not waited for by a thread.
pub const LONGEST_SETTLING: Duration = Duration::from_secs(1);

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
            Error::Fenced | Error::Failed(_) | Error::Unconfirmed(_) => {
                Self::outcome_unknown(error.public())
            }
            other => Self::new(ErrorKind::Unavailable, other.public()),
        }
    }
}

/// What was read through a reader of `dataset`, once it may be told.
pub async fn settled(
    dataset: Arc<Dataset>,
    glimpse: Glimpse,
    strong: bool,
) -> Result<Position, SqlError> {
    let position = glimpse.settled().await.map_err(|error| not_read(&error))?;
    // What was there before this term no failover undoes: its election saw to that.
    if strong && position.epoch == dataset.epoch() {
        dataset.confirmed(position).await.map_err(|error| not_read(&error))?;
    }
    Ok(position)
}

/// A failure of a read: it changed nothing, whatever it was.
pub fn not_read(error: &Error) -> SqlError {
    SqlError::new(ErrorKind::Unavailable, error.public())
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

    /// Without a lineage there is one history only.
    fn coverage(&self, position: Position) -> Coverage {
        if self.position() >= position { Coverage::Covered } else { Coverage::NotYet }
    }

    fn reader(&self) -> Result<Reader, SqlError> {
        self.dataset.reader().map_err(|error| not_read(&error))
    }

    fn steady_reader(&self) -> Result<Reader, SqlError> {
        self.dataset.steady_reader().map_err(|error| not_read(&error))
    }

    fn is_settling(&self) -> bool {
        self.dataset.is_settling()
    }

    fn settled(&self, reader: &Reader, strong: bool) -> Boxed<'static, Result<Position, SqlError>> {
        let (dataset, glimpse) = (self.dataset.clone(), reader.glimpse());
        Box::pin(settled(dataset, glimpse, strong))
    }

    fn settle(&self, reader: &Reader) -> Result<Position, SqlError> {
        reader.glimpse().block(LONGEST_SETTLING).map_err(|error| not_read(&error))
    }

    fn wait_for(&self, position: Position, longest: Duration) -> Boxed<'_, bool> {
        Box::pin(self.dataset.wait_for(position, longest))
    }

    fn write<T: Send + 'static>(
        &self,
        after: Option<Position>,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Boxed<'_, Result<(T, Position), SqlError>> {
        Box::pin(async move {
            let dataset = self.dataset.clone();
            let guarded = move |conn: &Connection| match after {
                Some(after) if dataset.position() < after => Err(SqlError::history_lost(after)),
                _ => job(conn),
            };
            let committed = self.dataset.write(guarded).await.map_err(flatten)?;
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
