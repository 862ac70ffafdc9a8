//! A database as one PoP serves it: reads here, on the caller's thread; writes at the primary,
//! here or forwarded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use verge_types::{Bookmark, Coverage, Position};

use super::error::{ErrorKind, SqlError};
use super::home::{Forward, Home, Transaction as _};
use super::message::{Done, Reply, Request, decode_reply, encode_reply};
use super::policy::Policy;
use super::prepared::Columns;
use super::reads::covers;
use super::run::{Outcome, Query, Rules, Stats};
use super::script::{self, Executed};
use super::transactions::{Open, Transaction};

/// Ends a statement from any thread; see [`Rules::stop`].
pub type SharedStop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Where and how answers are made; part of `meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub served_by: String,
    pub region: String,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The session's bookmark: older state is never shown.
    pub at_least: Option<Position>,
    /// Only the primary's state will do (`first-primary` before its first query; `strong`).
    pub strong: bool,
    /// State here may be so old at most.
    pub max_staleness: Option<Duration>,
    /// How long to wait here for `at_least` before the primary is asked.
    pub wait: Duration,
}

/// An answer with all of D1's `meta`.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    pub value: T,
    /// The session's next bookmark is of this position.
    pub position: Position,
    pub node: Node,
    pub served_by_primary: bool,
}

/// What a read on the caller's thread came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Local {
    Done {
        stats: Stats,
        position: Position,
        primary: bool,
    },
    /// It writes: call [`Database::query`].
    Writes,
    /// State here is too old: call [`Database::query`], which waits or asks the primary.
    Stale,
}

/// One database on this node.
pub struct Database<H: Home> {
    pub(super) home: H,
    forward: Option<Arc<dyn Forward>>,
    node: Node,
    pub(super) policy: Policy,
    pub(super) open: Open<H::Transaction>,
}

impl<H: Home> Database<H> {
    /// Without `forward`, what only the primary can do fails elsewhere.
    pub fn new(home: H, forward: Option<Arc<dyn Forward>>, node: Node, policy: Policy) -> Self {
        Self { home, forward, node, policy, open: Open::default() }
    }

    pub fn home(&self) -> &H {
        &self.home
    }

    /// What `meta` says of this node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What a session begins with, here.
    pub fn bookmark(&self) -> Bookmark {
        Bookmark::new(self.home.id(), self.home.position())
    }

    /// Reads a session's bookmark.
    ///
    /// # Errors
    /// [`ErrorKind::Session`] for text that is none and for another database's.
    pub fn position_of(&self, bookmark: &str) -> Result<Position, SqlError> {
        bookmark
            .parse::<Bookmark>()
            .ok()
            .and_then(|bookmark| bookmark.position_in(self.home.id()))
            .ok_or_else(|| SqlError::new(ErrorKind::Session, "invalid bookmark or constraint"))
    }

    /// One statement, wherever it must run.
    pub async fn query(
        &self,
        freshness: &Freshness,
        query: Query,
        stop: Option<SharedStop>,
    ) -> Result<Answer<Outcome>, SqlError> {
        let answer = self.batch_or_one(freshness, vec![query], stop, true).await?;
        let Answer { mut value, position, node, served_by_primary } = answer;
        let value = value.pop().ok_or_else(|| SqlError::malformed("no outcome"))?;
        Ok(Answer { value, position, node, served_by_primary })
    }

    /// Statements in one transaction, all or none.
    pub async fn batch(
        &self,
        freshness: &Freshness,
        queries: Vec<Query>,
        stop: Option<SharedStop>,
    ) -> Result<Answer<Vec<Outcome>>, SqlError> {
        self.batch_or_one(freshness, queries, stop, false).await
    }

    async fn batch_or_one(
        &self,
        freshness: &Freshness,
        queries: Vec<Query>,
        stop: Option<SharedStop>,
        one: bool,
    ) -> Result<Answer<Vec<Outcome>>, SqlError> {
        // A write does not wait for what the session has seen: the primary has it.
        if let Some(at_least) = freshness.at_least
            && !freshness.strong
            && self.home.coverage(at_least) == Coverage::NotYet
            && (self.home.is_primary() || !self.one_writes(&queries))
        {
            self.home.wait_for(at_least, freshness.wait).await;
        }
        if self.is_fresh(freshness)
            && let Some(answer) = self.read_batch(&queries, stop.as_ref(), freshness.strong).await?
        {
            return Ok(answer);
        }
        if self.home.is_primary() {
            self.has(freshness.at_least)?;
            let policy = self.policy;
            let job = move |conn: &verge_dataset::rusqlite::Connection| {
                script::batch(conn, &rules(policy, &stop), &queries)
            };
            let (value, position) = self.home.write(freshness.at_least, job).await?;
            return Ok(self.here(value, position));
        }
        let request = match (one, queries) {
            (true, mut queries) if queries.len() == 1 => Request::Query(queries.remove(0)),
            (_, queries) => Request::Batch(queries),
        };
        let request = request.fresh(freshness.at_least, freshness.strong);
        let reply = self.ask_primary(&request).await.map_err(|error| {
            if error.kind == ErrorKind::OutcomeUnknown && self.only_reads(&request) {
                // There is no doubt about what a read has changed.
                return SqlError::new(ErrorKind::Unavailable, "the primary did not answer in time");
            }
            error
        })?;
        reply.answer(|done| match done {
            Done::Outcomes(value) => Some(value),
            _ => None,
        })
    }

    /// A script, in one transaction at the primary, for a session that has seen so much.
    pub async fn exec(
        &self,
        seen: Option<Position>,
        text: String,
        stop: Option<SharedStop>,
    ) -> Result<Answer<Executed>, SqlError> {
        if self.home.is_primary() {
            let policy = self.policy;
            let job = move |conn: &verge_dataset::rusqlite::Connection| {
                script::exec(conn, &rules(policy, &stop), &text)
            };
            self.has(seen)?;
            let (value, position) = self.home.write(seen, job).await?;
            return Ok(self.here(value, position));
        }
        let reply = self.ask_primary(&Request::Exec(text).fresh(seen, false)).await?;
        reply.answer(|done| match done {
            Done::Executed(value) => Some(value),
            _ => None,
        })
    }

    /// An interactive transaction of a session that has seen so much. It rolls back by itself
    /// after `longest`.
    pub async fn begin(
        self: &Arc<Self>,
        seen: Option<Position>,
        longest: Duration,
    ) -> Result<Transaction<H>, SqlError> {
        if self.home.is_primary() {
            let transaction = self.begin_here(seen, Instant::now() + longest).await?;
            return Ok(Transaction::here(self.clone(), transaction));
        }
        let deadline_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Begin { deadline_ms }.fresh(seen, false);
        match self.ask_primary(&request).await?.done {
            Done::Began { transaction } => Ok(Transaction::away(self.clone(), transaction)),
            _ => Err(SqlError::malformed("another reply than was asked for")),
        }
    }

    async fn begin_here(
        &self,
        seen: Option<Position>,
        deadline: Instant,
    ) -> Result<H::Transaction, SqlError> {
        self.has(seen)?;
        let transaction = self.home.begin(deadline).await?;
        // It may have waited for its turn while the history changed.
        if let Err(error) = self.has(seen) {
            transaction.rollback().await?;
            return Err(error);
        }
        Ok(transaction)
    }

    fn has(&self, seen: Option<Position>) -> Result<(), SqlError> {
        seen.map_or(Ok(()), |seen| covers(&self.home, seen))
    }

    /// Answers another PoP's [`Forward`]. Never forwards again: a node that is no longer the
    /// primary says so.
    pub async fn serve(&self, request: &[u8], stop: Option<SharedStop>) -> Vec<u8> {
        encode_reply(&self.serve_decoded(request, stop).await)
    }

    async fn serve_decoded(
        &self,
        request: &[u8],
        stop: Option<SharedStop>,
    ) -> Result<Reply, SqlError> {
        let request = Request::decode(request)?;
        if !self.home.is_primary() {
            return Err(SqlError::new(ErrorKind::Unavailable, "the primary is elsewhere"));
        }
        let (freshness, request) = match request {
            Request::Fresh { seen, strong, request } => {
                (Freshness { at_least: seen, strong, ..Freshness::default() }, *request)
            }
            plain => (Freshness::default(), plain),
        };
        let (done, position) = match request {
            Request::Fresh { .. } => return Err(SqlError::malformed("a request within another")),
            Request::Query(query) => {
                let answer = self.batch_or_one(&freshness, vec![query], stop, true).await?;
                (Done::Outcomes(answer.value), answer.position)
            }
            Request::Batch(queries) => {
                let answer = self.batch_or_one(&freshness, queries, stop, false).await?;
                (Done::Outcomes(answer.value), answer.position)
            }
            Request::Exec(text) => {
                let answer = self.exec(freshness.at_least, text, stop).await?;
                (Done::Executed(answer.value), answer.position)
            }
            Request::Script(text) => {
                let answer = Box::pin(self.script(text, stop)).await?;
                (Done::Outcomes(answer.value), answer.position)
            }
            Request::Begin { deadline_ms } => {
                let deadline = Instant::now() + Duration::from_millis(deadline_ms.min(3_600_000));
                let transaction = self.begin_here(freshness.at_least, deadline).await?;
                let transaction = self.open.keep(transaction, deadline)?;
                (Done::Began { transaction }, self.home.position())
            }
            Request::Step { transaction, queries } => {
                let held = self.open.get(transaction)?;
                let mut slot = held.lock().await;
                let open = slot.as_mut().ok_or_else(ended)?;
                let policy = self.policy;
                let job = move |conn: &verge_dataset::rusqlite::Connection| {
                    script::batch(conn, &rules(policy, &stop), &queries)
                };
                (Done::Outcomes(open.run(job).await?), self.home.position())
            }
            Request::Commit { transaction } => {
                let open = self.open.remove(transaction)?.lock().await.take().ok_or_else(ended)?;
                (Done::Ended, open.commit().await?)
            }
            Request::Rollback { transaction } => {
                let open = self.open.remove(transaction)?.lock().await.take().ok_or_else(ended)?;
                open.rollback().await?;
                (Done::Ended, self.home.position())
            }
        };
        let Node { served_by, region } = self.node.clone();
        Ok(Reply { position, served_by, served_by_region: region, done })
    }

    pub(super) fn here<T>(&self, value: T, position: Position) -> Answer<T> {
        let served_by_primary = self.home.is_primary();
        Answer { value, position, node: self.node.clone(), served_by_primary }
    }

    pub(super) async fn ask_primary(&self, request: &Request) -> Result<Reply, SqlError> {
        let forward = self.forward.as_ref().ok_or_else(|| {
            SqlError::new(ErrorKind::Unavailable, "the primary cannot be reached from here")
        })?;
        decode_reply(&forward.forward(self.home.id(), request.encode()).await?)
    }
}

impl Reply {
    /// The primary's answer, if it is of the kind that was asked for.
    pub(super) fn answer<T>(
        self,
        of: impl FnOnce(Done) -> Option<T>,
    ) -> Result<Answer<T>, SqlError> {
        let value =
            of(self.done).ok_or_else(|| SqlError::malformed("another reply than was asked for"))?;
        Ok(Answer {
            value,
            position: self.position,
            node: Node { served_by: self.served_by, region: self.served_by_region },
            served_by_primary: true,
        })
    }
}

pub(super) fn rules(policy: Policy, stop: &Option<SharedStop>) -> Rules<'_> {
    Rules { policy, stop: stop.as_deref().map(|stop| stop as &super::Stop<'_>) }
}

pub(super) fn ended() -> SqlError {
    SqlError::new(ErrorKind::Deadline, "the transaction is over: it was ended, or its time was up")
}

/// So that sinks can name what they are given without another import.
pub type SharedColumns = Arc<Columns>;
