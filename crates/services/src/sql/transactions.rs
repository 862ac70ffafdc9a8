//! Interactive transactions: those of this node's callers, and those it holds for other PoPs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustc_hash::FxHashMap;
use tokio::sync::Mutex;
use verge_types::Position;

use super::database::{Answer, Database, Node, SharedStop, ended, rules};
use super::error::{ErrorKind, SqlError};
use super::home::{self, Home};
use super::message::{Done, Request};
use super::run::{Outcome, Query};
use super::script;

/// Transactions held for other PoPs at a time; each waits for the one writer.
const MAX_OPEN: usize = 256;

type Held<T> = Arc<Mutex<Option<T>>>;

/// The transactions a primary holds for other PoPs, by number.
pub(super) struct Open<T> {
    next: AtomicU64,
    by_number: std::sync::Mutex<FxHashMap<u64, (Instant, Held<T>)>>,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), by_number: std::sync::Mutex::default() }
    }
}

impl<T> Open<T> {
    fn map(&self) -> std::sync::MutexGuard<'_, FxHashMap<u64, (Instant, Held<T>)>> {
        self.by_number.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn keep(&self, transaction: T, deadline: Instant) -> Result<u64, SqlError> {
        let now = Instant::now();
        let mut map = self.map();
        // Whoever lost its caller has rolled back at its deadline; here it is forgotten.
        map.retain(|_, (deadline, _)| *deadline > now);
        if map.len() >= MAX_OPEN {
            let message = format!("more than {MAX_OPEN} transactions are open");
            return Err(SqlError::new(ErrorKind::Unavailable, message));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        map.insert(number, (deadline, Arc::new(Mutex::new(Some(transaction)))));
        Ok(number)
    }

    pub(super) fn get(&self, number: u64) -> Result<Held<T>, SqlError> {
        self.map().get(&number).map(|(_, held)| held.clone()).ok_or_else(ended)
    }

    pub(super) fn remove(&self, number: u64) -> Result<Held<T>, SqlError> {
        self.map().remove(&number).map(|(_, held)| held).ok_or_else(ended)
    }
}

enum Where<T> {
    Here(T),
    Away(u64),
}

/// An interactive transaction of a caller here. Dropped, it rolls back: at once where the primary
/// is here, at its deadline otherwise.
pub struct Transaction<'d, H: Home> {
    database: &'d Database<H>,
    place: Where<H::Transaction>,
}

impl<'d, H: Home> Transaction<'d, H> {
    pub(super) fn here(database: &'d Database<H>, transaction: H::Transaction) -> Self {
        Self { database, place: Where::Here(transaction) }
    }

    pub(super) fn away(database: &'d Database<H>, number: u64) -> Self {
        Self { database, place: Where::Away(number) }
    }

    /// Runs statements inside. A statement's own error leaves the transaction open.
    pub async fn run(
        &mut self,
        queries: Vec<Query>,
        stop: Option<SharedStop>,
    ) -> Result<Answer<Vec<Outcome>>, SqlError> {
        match &mut self.place {
            Where::Here(transaction) => {
                let policy = *self.database.policy();
                let job = move |conn: &rusqlite::Connection| {
                    script::batch(conn, &rules(policy, &stop), &queries)
                };
                let value = home::Transaction::run(transaction, job).await?;
                Ok(self.database.here(value, self.database.home().position()))
            }
            Where::Away(number) => {
                let request = Request::Step { transaction: *number, queries };
                let reply = self.database.ask_primary(&request).await?;
                let Done::Outcomes(value) = reply.done else {
                    return Err(SqlError::malformed("another reply than was asked for"));
                };
                let node = Node { served_by: reply.served_by, region: reply.served_by_region };
                Ok(Answer { value, position: reply.position, node, served_by_primary: true })
            }
        }
    }

    /// Commits; resolves once durable, with the position that the session's bookmark takes.
    pub async fn commit(self) -> Result<Position, SqlError> {
        match self.place {
            Where::Here(transaction) => home::Transaction::commit(transaction).await,
            Where::Away(transaction) => {
                Ok(self.database.ask_primary(&Request::Commit { transaction }).await?.position)
            }
        }
    }

    pub async fn rollback(self) -> Result<(), SqlError> {
        match self.place {
            Where::Here(transaction) => home::Transaction::rollback(transaction).await,
            Where::Away(transaction) => {
                self.database.ask_primary(&Request::Rollback { transaction }).await.map(|_| ())
            }
        }
    }
}
