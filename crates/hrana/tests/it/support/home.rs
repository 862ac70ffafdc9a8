//! A dataset as the SQL service's home.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use verge_dataset::rusqlite::Connection;
use verge_dataset::{Dataset, Error, Reader, Role, WriteError, WriteTransaction};
use verge_services::sql::{ErrorKind, Home, HomeTransaction, SqlError};
use verge_types::{DatasetId, Position};

pub struct DatasetHome(pub Arc<Dataset>);

pub struct OfDataset(Reader);

impl Deref for OfDataset {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

pub struct Writing(WriteTransaction);

impl Home for DatasetHome {
    type Reader = OfDataset;
    type Transaction = Writing;

    fn id(&self) -> &DatasetId {
        self.0.id()
    }

    fn position(&self) -> Position {
        self.0.position()
    }

    fn is_primary(&self) -> bool {
        matches!(self.0.role(), Role::Primary { .. })
    }

    fn staleness(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn reader(&self) -> Result<OfDataset, SqlError> {
        self.0.reader().map(OfDataset).map_err(|error| failed(&error))
    }

    async fn wait_for(&self, position: Position, longest: Duration) -> bool {
        self.0.wait_for(position, longest).await
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<(T, Position), SqlError> {
        let committed = self.0.write(job).await.map_err(write_failed)?;
        Ok((committed.value, committed.position))
    }

    async fn begin(&self, deadline: Instant) -> Result<Writing, SqlError> {
        self.0.begin(deadline).await.map(Writing).map_err(|error| failed(&error))
    }
}

impl HomeTransaction for Writing {
    async fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<T, SqlError> {
        self.0.run(job).await.map_err(write_failed)
    }

    async fn commit(self) -> Result<Position, SqlError> {
        Ok(self.0.commit().await.map_err(|error| failed(&error))?.position)
    }

    async fn rollback(self) -> Result<(), SqlError> {
        self.0.rollback().await.map_err(|error| failed(&error))
    }
}

fn write_failed(error: WriteError<SqlError>) -> SqlError {
    match error {
        WriteError::Job(error) => error,
        WriteError::Dataset(error) => failed(&error),
    }
}

fn failed(error: &Error) -> SqlError {
    let kind = match error {
        Error::TransactionEnded | Error::DeadlinePassed => ErrorKind::Deadline,
        Error::Overloaded { .. } => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    SqlError::new(kind, error.to_string())
}
