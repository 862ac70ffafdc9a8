//! The backend over a replicated database: reads at this PoP, writes at the primary.
//!
//! Every stream sees what any stream of this service has written before: the latest position
//! that a write here was acknowledged at is what a read has to cover.

mod connection;
mod convert;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use verge_services::sql::{Database, ErrorKind, Freshness, Home, SqlError};
use verge_types::Position;

use crate::{Access, Answer, Backend, Connection, Error};

/// How long a read waits for the replica before it goes to the primary, in default.
const WAIT: Duration = Duration::from_millis(500);

/// Opens streams to one database.
pub struct DatabaseBackend<H: Home> {
    shared: Arc<Shared<H>>,
}

struct Shared<H: Home> {
    database: Arc<Database<H>>,
    /// How long a transaction may hold the writer.
    write_transaction: Duration,
    written: Mutex<Option<Position>>,
}

impl<H: Home> DatabaseBackend<H> {
    /// `write_transaction` should be [`crate::Limits::write_transaction`]: the dataset ends the
    /// transaction then, also if this node's stream should not.
    pub fn new(database: Arc<Database<H>>, write_transaction: Duration) -> Self {
        Self { shared: Arc::new(Shared { database, write_transaction, written: Mutex::default() }) }
    }
}

impl<H: Home> Shared<H> {
    fn freshness(&self) -> Freshness {
        Freshness { at_least: *self.written.lock(), wait: WAIT, ..Freshness::default() }
    }

    fn wrote(&self, position: Position) {
        let mut written = self.written.lock();
        *written = (*written).max(Some(position));
    }

    /// What the client is told of a request that asked for `seen`. Once one was told that what was
    /// written here is gone (by a restore, by a failover), the others begin anew; what was written
    /// since stays.
    fn failed(&self, error: SqlError, seen: Option<Position>) -> Error {
        if error.kind == ErrorKind::HistoryLost {
            self.written.lock().take_if(|written| Some(*written) == seen);
        }
        convert::error(error)
    }
}

impl<H: Home> Backend for DatabaseBackend<H>
where
    H::Reader: 'static,
{
    fn open(&self, access: Access) -> Answer<'static, Box<dyn Connection>> {
        let connection: Box<dyn Connection> =
            Box::new(connection::Handle::open(Arc::clone(&self.shared), access));
        Box::pin(std::future::ready(Ok(connection)))
    }
}
