//! A database as one PoP serves it: reads here, on the caller's thread; writes at the primary,
//! here or forwarded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use verge_types::{Bookmark, Coverage, Position};

use super::error::{ErrorKind, SqlError};
use super::home::{Boxed, Forward, Home, Transaction as _};
use super::message::{Done, Reply, Request, decode_reply, encode_reply};
use super::policy::Policy;
use super::prepared::Columns;
use super::run::{self, Outcome, Query, Rules, Stats};
use super::script::{self, Executed};
use super::sink::RowSink;
use super::transactions::{Open, Transaction};
use super::value::Params;

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
    home: H,
    forward: Option<Arc<dyn Forward>>,
    node: Node,
    policy: Policy,
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

    /// True if a read that must be so fresh can be answered here now.
    pub fn is_fresh(&self, freshness: &Freshness) -> bool {
        // A number alone does not tell: after a failover the lost 1/9 is less than 2/8.
        let covers = |at_least| self.home.coverage(at_least) == Coverage::Covered;
        let covered = freshness.at_least.is_none_or(covers);
        if self.home.is_primary() {
            return covered;
        }
        covered
            && self.home.is_readable()
            && !freshness.strong
            && freshness
                .max_staleness
                .is_none_or(|longest| self.home.staleness().is_some_and(|age| age <= longest))
    }

    /// The fast path: one statement, here, on this thread, if it only reads, the state here is
    /// fresh enough, and the answer need not wait for the disk. `Writes` and `Stale` come before
    /// the sink has heard anything.
    pub fn read(
        &self,
        freshness: &Freshness,
        sql: &str,
        params: &(impl Params + ?Sized),
        stop: Option<&super::Stop<'_>>,
        sink: &mut (impl RowSink + ?Sized),
    ) -> Result<Local, SqlError> {
        let primary = self.home.is_primary();
        if freshness.strong || !self.is_fresh(freshness) || (primary && self.home.is_settling()) {
            return Ok(Local::Stale);
        }
        let reader = self.home.reader()?;
        let rules = Rules { policy: self.policy, stop };
        match run::run_readonly(&reader, &rules, sql, params, sink) {
            Ok(Some(stats)) => {
                // Waits only for a commit that came while it was read.
                let position = self.home.settle(&reader)?;
                Ok(Local::Done { stats, position, primary })
            }
            Ok(None) => Ok(Local::Writes),
            // A replica may not have a table yet that the primary has: the primary knows.
            Err(error) if !primary && is_unknown_here(&error) => Ok(Local::Stale),
            Err(error) => Err(error),
        }
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
        if let Some(at_least) = freshness.at_least
            && !freshness.strong
            && self.home.coverage(at_least) == Coverage::NotYet
        {
            self.home.wait_for(at_least, freshness.wait).await;
        }
        if self.is_fresh(freshness)
            && let Some(answer) = self.read_batch(&queries, stop.as_ref(), freshness.strong).await?
        {
            return Ok(answer);
        }
        if self.home.is_primary() {
            if let Some(at_least) = freshness.at_least {
                covers(&self.home, at_least)?;
            }
            let policy = self.policy;
            let job = move |conn: &verge_dataset::rusqlite::Connection| {
                script::batch(conn, &rules(policy, &stop), &queries)
            };
            let (value, position) = self.home.write(freshness.at_least, job).await?;
            return Ok(self.here(value, position));
        }
        let mut request = match (one, queries) {
            (true, mut queries) if queries.len() == 1 => Request::Query(queries.remove(0)),
            (_, queries) => Request::Batch(queries),
        };
        if freshness.strong || freshness.at_least.is_some() {
            let (seen, strong) = (freshness.at_least, freshness.strong);
            request = Request::Fresh { seen, strong, request: Box::new(request) };
        }
        let reply = self.ask_primary(&request).await.map_err(|error| {
            if error.kind == ErrorKind::OutcomeUnknown && self.only_reads(&request) {
                // There is no doubt about what a read has changed.
                return SqlError::new(ErrorKind::Unavailable, "the primary did not answer in time");
            }
            error
        })?;
        match reply.done {
            Done::Outcomes(value) => Ok(Answer {
                value,
                position: reply.position,
                node: Node { served_by: reply.served_by, region: reply.served_by_region },
                served_by_primary: true,
            }),
            _ => Err(SqlError::malformed("another reply than was asked for")),
        }
    }

    /// Runs statements that all only read on one reader, in one read transaction, and waits until
    /// the disk has what they saw; `None` if one of them writes, or compiles only after another
    /// has run, or if a strong read's primary lost its office meanwhile.
    async fn read_batch(
        &self,
        queries: &[Query],
        stop: Option<&SharedStop>,
        strong: bool,
    ) -> Result<Option<Answer<Vec<Outcome>>>, SqlError> {
        let Some((outcomes, settled)) = self.read_all(queries, stop, strong)? else {
            return Ok(None);
        };
        let position = settled.await?;
        if strong && !self.home.is_primary() {
            return Ok(None);
        }
        Ok(Some(self.here(outcomes, position)))
    }

    /// As far as the copy here can tell.
    fn only_reads(&self, request: &Request) -> bool {
        let queries = match request {
            Request::Query(query) => std::slice::from_ref(query),
            Request::Batch(queries) => queries,
            Request::Fresh { request, .. } => return self.only_reads(request),
            _ => return false,
        };
        let Ok(reader) = self.home.reader() else { return false };
        let rules = Rules { policy: self.policy, stop: None };
        queries
            .iter()
            .all(|query| matches!(run::is_readonly(&reader, &rules, &query.sql), Ok(true)))
    }

    fn read_all(
        &self,
        queries: &[Query],
        stop: Option<&SharedStop>,
        strong: bool,
    ) -> Result<Option<Unsettled>, SqlError> {
        let reader = self.home.reader()?;
        let owned = stop.cloned();
        let rules = rules(self.policy, &owned);
        for query in queries {
            match run::is_readonly(&reader, &rules, &query.sql) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // A replica may not have a table yet that the primary has: the primary knows.
                Err(error) if queries.len() == 1 && self.home.is_primary() => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        let outcomes = if let [query] = queries {
            vec![run::query(&reader, &rules, query)?]
        } else {
            script::in_read_transaction(&reader, |conn| script::batch(conn, &rules, queries))?
        };
        Ok(Some((outcomes, self.home.settled(&reader, strong))))
    }

    /// A reader that holds one state, which the disk has, and a position that covers it.
    pub async fn snapshot(&self) -> Result<(H::Reader, Position), SqlError> {
        let reader = self.home.reader()?;
        reader.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1")?;
        let settled = self.home.settled(&reader, false);
        Ok((reader, settled.await?))
    }

    /// A script, in one transaction at the primary.
    pub async fn exec(
        &self,
        text: String,
        stop: Option<SharedStop>,
    ) -> Result<Answer<Executed>, SqlError> {
        if self.home.is_primary() {
            let policy = self.policy;
            let job = move |conn: &verge_dataset::rusqlite::Connection| {
                script::exec(conn, &rules(policy, &stop), &text)
            };
            let (value, position) = self.home.write(None, job).await?;
            return Ok(self.here(value, position));
        }
        let reply = self.ask_primary(&Request::Exec(text)).await?;
        match reply.done {
            Done::Executed(value) => Ok(Answer {
                value,
                position: reply.position,
                node: Node { served_by: reply.served_by, region: reply.served_by_region },
                served_by_primary: true,
            }),
            _ => Err(SqlError::malformed("another reply than was asked for")),
        }
    }

    /// An interactive transaction. It rolls back by itself after `longest`.
    pub async fn begin(self: &Arc<Self>, longest: Duration) -> Result<Transaction<H>, SqlError> {
        if self.home.is_primary() {
            let transaction = self.home.begin(Instant::now() + longest).await?;
            return Ok(Transaction::here(self.clone(), transaction));
        }
        let deadline_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        match self.ask_primary(&Request::Begin { deadline_ms }).await?.done {
            Done::Began { transaction } => Ok(Transaction::away(self.clone(), transaction)),
            _ => Err(SqlError::malformed("another reply than was asked for")),
        }
    }

    /// The serialized database, as `dump` gives it; at most `max_bytes`.
    pub fn dump(&self, max_bytes: u64) -> Result<Vec<u8>, SqlError> {
        let reader = self.home.reader()?;
        let bytes = super::export::serialize(&reader, max_bytes)?;
        self.home.settle(&reader)?;
        Ok(bytes)
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
                let answer = self.exec(text, stop).await?;
                (Done::Executed(answer.value), answer.position)
            }
            Request::Begin { deadline_ms } => {
                let deadline = Instant::now() + Duration::from_millis(deadline_ms.min(3_600_000));
                let transaction = self.home.begin(deadline).await?;
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

pub(super) fn rules(policy: Policy, stop: &Option<SharedStop>) -> Rules<'_> {
    Rules { policy, stop: stop.as_deref().map(|stop| stop as &super::Stop<'_>) }
}

pub(super) fn ended() -> SqlError {
    SqlError::new(ErrorKind::Deadline, "the transaction is over: it was ended, or its time was up")
}

/// Statements that do not compile here give this, before anything reached the sink.
fn is_unknown_here(error: &SqlError) -> bool {
    error.kind == ErrorKind::Sqlite && error.code == verge_dataset::rusqlite::ffi::SQLITE_ERROR
}

/// At the primary: what a session has seen is in the history, or there is no answer for it.
pub fn covers(home: &impl Home, seen: Position) -> Result<(), SqlError> {
    match home.coverage(seen) {
        Coverage::Covered => Ok(()),
        Coverage::Lost => Err(SqlError::history_lost(seen)),
        Coverage::NotYet => Err(SqlError::new(
            ErrorKind::Unavailable,
            format!("the session has seen {seen}, which the database has not reached"),
        )),
    }
}

/// What was read, and its wait for the disk.
type Unsettled = (Vec<Outcome>, Boxed<'static, Result<Position, SqlError>>);

/// Where a session stands: D1's `withSession`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    freshness: Freshness,
    seen: Option<Position>,
}

impl Session {
    /// `first-primary`, `first-unconstrained` (also for an empty text), or a bookmark.
    ///
    /// # Errors
    /// [`ErrorKind::Session`].
    pub fn new<H: Home>(
        database: &Database<H>,
        constraint: &str,
        wait: Duration,
    ) -> Result<Self, SqlError> {
        let mut freshness = Freshness { wait, ..Freshness::default() };
        let mut seen = None;
        match constraint.trim() {
            "" | "first-unconstrained" => {}
            "first-primary" => freshness.strong = true,
            bookmark => {
                seen = Some(database.position_of(bookmark)?);
                freshness.at_least = seen;
            }
        }
        Ok(Self { freshness, seen })
    }

    /// What the next statement asks for.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Takes note of an answer: later reads never show older state.
    pub fn saw(&mut self, position: Position) {
        self.seen = self.seen.max(Some(position));
        self.freshness.at_least = self.seen;
        self.freshness.strong = false;
    }

    /// D1's `getBookmark`: of what was seen, or null before the first answer.
    pub fn bookmark<H: Home>(&self, database: &Database<H>) -> Option<Bookmark> {
        self.seen.map(|position| Bookmark::new(database.home().id(), position))
    }
}

/// So that sinks can name what they are given without another import.
pub type SharedColumns = Arc<Columns>;
