//! One stream's connection: a task that holds the transaction, on whichever connection of the
//! database that is.
//!
//! Outside of a transaction a statement runs on a reader, or at the primary if it writes. A
//! deferred transaction holds a reader's snapshot until its first write; then it becomes a write
//! transaction if nothing was committed since, as with SQLite itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use verge_services::sql::{self, Home, Local, Query, Rules, SharedStop};
use verge_types::{Coverage, Position};

use super::Shared;
use super::convert::{self, Sink};
use crate::sql_text::{parameters, statements};
use crate::{
    Access, Answer, Connection, Control, DescribeCol, DescribeResult, Done, Error, Interrupt, Rows,
    Statement, Transaction, codes,
};

/// What a stream holds of its connection.
pub struct Handle {
    jobs: mpsc::UnboundedSender<Job>,
    state: Arc<Mutex<Transaction>>,
    stop: Arc<AtomicBool>,
    far: Arc<dyn Fn() -> bool + Send + Sync>,
}

enum Job {
    Execute(Statement, Rows, oneshot::Sender<Result<Done, Error>>),
    Sequence(Arc<str>, oneshot::Sender<Result<(), Error>>),
    Together(Vec<Statement>, oneshot::Sender<Result<Option<Vec<Done>>, Error>>),
    Describe(Arc<str>, oneshot::Sender<Result<DescribeResult, Error>>),
    Rollback(oneshot::Sender<Result<(), Error>>),
}

impl Handle {
    pub fn open<H: Home>(shared: Arc<Shared<H>>, access: Access) -> Self
    where
        H::Reader: 'static,
    {
        let (jobs, wanted) = mpsc::unbounded_channel();
        let (state, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let database = Arc::clone(&shared.database);
        let far = Arc::new(move || !database.home().is_primary());
        tokio::spawn(serve(shared, access, wanted, Arc::clone(&state), Arc::clone(&stop)));
        Self { jobs, state, stop, far }
    }

    fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job,
    ) -> Answer<'static, T> {
        self.stop.store(false, SeqCst);
        let (done, answer) = oneshot::channel();
        let sent = self.jobs.send(job(done));
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}

fn gone() -> Error {
    Error::platform("INTERNAL", "the connection has ended")
}

impl Connection for Handle {
    fn execute(&mut self, statement: Statement, rows: Rows) -> Answer<'_, Done> {
        self.ask(|done| Job::Execute(statement, rows, done))
    }

    fn sequence(&mut self, sql: Arc<str>) -> Answer<'_, ()> {
        self.ask(|done| Job::Sequence(sql, done))
    }

    fn is_far(&self) -> bool {
        (self.far)()
    }

    fn together(&mut self, statements: Vec<Statement>) -> Answer<'_, Option<Vec<Done>>> {
        self.ask(|done| Job::Together(statements, done))
    }

    fn describe(&mut self, sql: Arc<str>) -> Answer<'_, DescribeResult> {
        self.ask(|done| Job::Describe(sql, done))
    }

    fn rollback(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let done = self.ask(Job::Rollback);
        Box::pin(async move {
            let _ = done.await;
        })
    }

    fn transaction(&self) -> Transaction {
        *self.state.lock()
    }

    fn interrupt(&self) -> Interrupt {
        let stop = Arc::clone(&self.stop);
        Arc::new(move || stop.store(true, SeqCst))
    }
}

async fn serve<H: Home>(
    shared: Arc<Shared<H>>,
    access: Access,
    mut jobs: mpsc::UnboundedReceiver<Job>,
    state: Arc<Mutex<Transaction>>,
    stop: Arc<AtomicBool>,
) where
    H::Reader: 'static,
{
    let mut open = Open { shared: &shared, access, stop, held: Held::Nothing, keys_off: false };
    while let Some(job) = jobs.recv().await {
        // The state is told before the answer: the stream looks at it right after.
        match job {
            Job::Execute(statement, rows, done) => {
                let result = open.execute(statement, rows).await;
                *state.lock() = open.state();
                let _ = done.send(result);
            }
            Job::Sequence(sql, done) => {
                let result = open.sequence(&sql).await;
                *state.lock() = open.state();
                let _ = done.send(result);
            }
            Job::Together(statements, done) => {
                let result = open.together(statements).await;
                let _ = done.send(result);
            }
            Job::Describe(sql, done) => {
                let result = open.describe(sql).await;
                let _ = done.send(result);
            }
            Job::Rollback(done) => {
                open.end(false).await.ok();
                *state.lock() = open.state();
                let _ = done.send(Ok(()));
            }
        }
    }
    // The stream is gone: a reader goes back outside of a transaction, the writer at once.
    open.end(false).await.ok();
}

/// The transaction a stream is in.
enum Held<H: Home> {
    Nothing,
    /// Only reads so far; the snapshot begins with the first one.
    Read {
        read_only: bool,
        snapshot: Option<(H::Reader, Position)>,
    },
    Write(sql::Transaction<H>),
}

struct Open<'d, H: Home> {
    shared: &'d Arc<Shared<H>>,
    access: Access,
    stop: Arc<AtomicBool>,
    held: Held<H>,
    /// The client has turned foreign keys off, as `migrate()` does.
    keys_off: bool,
}

impl<'d, H: Home> Open<'d, H>
where
    H::Reader: 'static,
{
    fn state(&self) -> Transaction {
        match self.held {
            Held::Nothing => Transaction::None,
            Held::Read { .. } => Transaction::Read,
            Held::Write(_) => Transaction::Write,
        }
    }

    fn stop(&self) -> SharedStop {
        let stop = Arc::clone(&self.stop);
        Arc::new(move || stop.load(SeqCst))
    }

    async fn execute(&mut self, statement: Statement, rows: Rows) -> Result<Done, Error> {
        if let Some(control) = Control::of(&statement.sql) {
            return self.control(control).await;
        }
        one(&statement.sql)?;
        if let Some(off) = foreign_keys(&statement.sql)
            && matches!(self.held, Held::Nothing)
        {
            self.keys_off = off;
            return Ok(Done::default());
        }
        let sql = Arc::clone(&statement.sql);
        let most = usize::try_from(self.shared.database.policy().variables).unwrap_or(0);
        let values = statement.arrange(&parameters(&sql, most))?;
        let params: Vec<sql::Value> = values.into_iter().map(convert::to_sql).collect();
        let held = std::mem::replace(&mut self.held, Held::Nothing);
        match held {
            Held::Nothing => self.alone(sql, params, rows).await,
            Held::Read { read_only, snapshot } => {
                self.in_read(read_only, snapshot, sql, params, rows).await
            }
            Held::Write(transaction) => {
                self.held = Held::Write(transaction);
                self.in_write(sql, params, rows).await
            }
        }
    }

    async fn control(&mut self, control: Control) -> Result<Done, Error> {
        match (control, &self.held) {
            (Control::Commit, Held::Nothing) => {
                Err(refused("cannot commit - no transaction is active"))
            }
            (Control::Rollback, Held::Nothing) => {
                Err(refused("cannot rollback - no transaction is active"))
            }
            (Control::Commit, _) => self.end(true).await,
            (Control::Rollback, _) => self.end(false).await,
            (_, Held::Read { .. } | Held::Write(_)) => {
                Err(refused("cannot start a transaction within a transaction"))
            }
            (Control::BeginWrite, Held::Nothing) => self.begin_write().await,
            (Control::BeginDeferred | Control::BeginReadOnly, Held::Nothing) => {
                let read_only =
                    control == Control::BeginReadOnly || self.access == Access::ReadOnly;
                self.held = Held::Read { read_only, snapshot: None };
                Ok(Done::default())
            }
        }
    }

    async fn begin_write(&mut self) -> Result<Done, Error> {
        self.may_write()?;
        if self.keys_off {
            self.keys_without_actions().await?;
        }
        let longest = self.shared.write_transaction;
        let seen = self.shared.freshness().at_least;
        let begun = self.shared.database.begin(seen, longest).await;
        let mut transaction = begun.map_err(|error| self.shared.failed(error, seen))?;
        if self.keys_off {
            let defer = vec![Query::new("PRAGMA defer_foreign_keys=on", vec![])];
            transaction.run(defer, None).await.map_err(convert::error)?;
        }
        self.held = Held::Write(transaction);
        Ok(Done::default())
    }

    async fn end(&mut self, commit: bool) -> Result<Done, Error> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Read { snapshot, .. } => {
                if let Some((reader, _)) = snapshot {
                    // A reader goes back to its pool outside of a transaction.
                    reader.execute_batch("ROLLBACK").map_err(|_| gone())?;
                }
            }
            Held::Write(transaction) if commit => {
                let position = transaction.commit().await.map_err(convert::error)?;
                self.shared.wrote(position);
            }
            Held::Write(transaction) => {
                transaction.rollback().await.map_err(convert::error)?;
            }
        }
        Ok(Done::default())
    }

    fn may_write(&self) -> Result<(), Error> {
        match self.access {
            Access::Full => Ok(()),
            Access::ReadOnly => {
                Err(Error::caller(codes::READ_ONLY, "the token allows to read only"))
            }
        }
    }

    /// A statement outside of a transaction.
    async fn alone(
        &mut self,
        sql: Arc<str>,
        params: Vec<sql::Value>,
        rows: Rows,
    ) -> Result<Done, Error> {
        let freshness = self.shared.freshness();
        let database = Arc::clone(&self.shared.database);
        let stop = self.stop();
        let text = Arc::clone(&sql);
        let (local, sink, params) = blocking(move || {
            let rules = Rules { policy: *database.policy(), stop: Some(&*stop) };
            let reader = database.home().reader().map_err(convert::error)?;
            let mut sink = Sink::new(rows, decltypes(sql::describe(&reader, &rules, &text)));
            drop(reader);
            let local = database.read(&freshness, &text, &params, Some(&*stop), &mut sink);
            Ok((local, sink, params))
        })
        .await?;
        match local.map_err(|error| self.shared.failed(error, freshness.at_least))? {
            Local::Done { stats, .. } => {
                sink.result()?;
                return Ok(convert::done(&stats));
            }
            Local::Writes => self.may_write()?,
            Local::Stale if self.access == Access::ReadOnly => {
                // What goes to the primary could write there.
                let database = Arc::clone(&self.shared.database);
                let text = Arc::clone(&sql);
                let reads = blocking(move || {
                    let reader = database.home().reader().map_err(convert::error)?;
                    let rules = Rules { policy: *database.policy(), stop: None };
                    sql::is_readonly(&reader, &rules, &text).map_err(convert::error)
                });
                if !reads.await? {
                    self.may_write()?;
                }
            }
            Local::Stale => {}
        }
        if self.keys_off {
            self.keys_without_actions().await?;
        }
        let query = Query { sql: sql.to_string(), params };
        let answer = self.shared.database.query(&freshness, query, Some(self.stop())).await;
        let answer = answer.map_err(|error| self.shared.failed(error, freshness.at_least))?;
        self.shared.wrote(answer.position);
        replay(answer.value, sink).await
    }

    /// Statements that write and give no rows, in one transaction at the primary.
    async fn together(&mut self, statements: Vec<Statement>) -> Result<Option<Vec<Done>>, Error> {
        if !matches!(self.held, Held::Nothing) || self.keys_off || self.access != Access::Full {
            return Ok(None);
        }
        let database = Arc::clone(&self.shared.database);
        let queries = blocking(move || {
            let reader = database.home().reader().map_err(convert::error)?;
            let rules = Rules { policy: *database.policy(), stop: None };
            let describe = |sql: &str| sql::describe(&reader, &rules, sql).ok();
            Ok(statements.into_iter().map(|one| quiet(describe, one)).collect())
        });
        let queries: Option<Vec<Query>> = queries.await?;
        let Some(queries) = queries else { return Ok(None) };
        let stop = Some(self.stop());
        match self.shared.database.batch(&sql::Freshness::default(), queries, stop).await {
            Ok(answer) => {
                self.shared.wrote(answer.position);
                let done = answer.value.iter().map(|outcome| convert::done(&outcome.stats));
                Ok(Some(done.collect()))
            }
            // A statement's own error: all was undone.
            Err(error) if error.blame() == sql::Blame::App => Ok(None),
            Err(error) => Err(convert::error(error)),
        }
    }

    async fn in_read(
        &mut self,
        read_only: bool,
        snapshot: Option<(H::Reader, Position)>,
        sql: Arc<str>,
        params: Vec<sql::Value>,
        rows: Rows,
    ) -> Result<Done, Error> {
        // An error of a statement leaves the transaction open.
        let snapshot = match snapshot {
            Some(snapshot) => Ok(snapshot),
            None => self.snapshot().await,
        };
        let (reader, position) = snapshot.inspect_err(|_| {
            self.held = Held::Read { read_only, snapshot: None };
        })?;
        let policy = *self.shared.database.policy();
        let stop = self.stop();
        let text = Arc::clone(&sql);
        let (reader, ran, params) = blocking(move || {
            let rules = Rules { policy, stop: Some(&*stop) };
            let mut sink = Sink::new(rows, decltypes(sql::describe(&reader, &rules, &text)));
            let ran = sql::run_readonly(&reader, &rules, &text, &params, &mut sink);
            Ok((reader, ran.map(|stats| (stats, sink)), params))
        })
        .await?;
        match ran {
            Ok((None, sink)) => {
                if read_only {
                    self.held = Held::Read { read_only, snapshot: Some((reader, position)) };
                    self.may_write()?;
                    return Err(Error::caller(
                        "SQLITE_READONLY",
                        "SQLite error: attempt to write in a read-only transaction",
                    ));
                }
                reader.execute_batch("ROLLBACK").map_err(|_| gone())?;
                drop(reader);
                self.upgrade(position).await?;
                self.write_into(sql, params, sink).await
            }
            Ok((Some(stats), sink)) => {
                self.held = Held::Read { read_only, snapshot: Some((reader, position)) };
                sink.result()?;
                Ok(convert::done(&stats))
            }
            Err(error) => {
                self.held = Held::Read { read_only, snapshot: Some((reader, position)) };
                Err(convert::error(error))
            }
        }
    }

    /// A reader whose snapshot covers what this service has written.
    async fn snapshot(&mut self) -> Result<(H::Reader, Position), Error> {
        let database = &self.shared.database;
        let freshness = self.shared.freshness();
        if let Some(at_least) = freshness.at_least
            && !database.home().wait_for(at_least, freshness.wait).await
        {
            return Err(match database.home().coverage(at_least) {
                Coverage::Lost => {
                    self.shared.failed(sql::SqlError::history_lost(at_least), Some(at_least))
                }
                _ => Error::platform("UNAVAILABLE", "the replica is not up to date").retryable(),
            });
        }
        let database = Arc::clone(database);
        blocking(move || {
            // At least this is seen: what `upgrade` compares must not be later than the snapshot.
            let position = database.home().position();
            let reader = database.home().reader().map_err(convert::error)?;
            reader
                .execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1")
                .map_err(|_| gone())?;
            database.home().settle(&reader).map_err(convert::error)?;
            Ok((reader, position))
        })
        .await
    }

    /// From a snapshot to a write transaction that sees the same.
    async fn upgrade(&mut self, seen: Position) -> Result<(), Error> {
        self.begin_write().await?;
        let Held::Write(transaction) = &mut self.held else { return Err(gone()) };
        let probe = transaction.run(vec![Query::new("SELECT 1", vec![])], None).await;
        let position = probe.map_err(convert::error)?.position;
        if position != seen {
            self.end(false).await?;
            let message = "SQLite error: database is locked: it has changed since this transaction \
                           read it";
            return Err(Error::caller("SQLITE_BUSY", message).retryable());
        }
        Ok(())
    }

    async fn in_write(
        &mut self,
        sql: Arc<str>,
        params: Vec<sql::Value>,
        rows: Rows,
    ) -> Result<Done, Error> {
        self.write_into(sql, params, Sink::new(rows, Vec::new())).await
    }

    async fn write_into(
        &mut self,
        sql: Arc<str>,
        params: Vec<sql::Value>,
        sink: Sink,
    ) -> Result<Done, Error> {
        let stop = self.stop();
        let Held::Write(transaction) = &mut self.held else { return Err(gone()) };
        let query = Query { sql: sql.to_string(), params };
        let answer = transaction.run(vec![query], Some(stop)).await.map_err(convert::error)?;
        let mut outcomes = answer.value;
        replay(outcomes.pop().ok_or_else(gone)?, sink).await
    }

    async fn sequence(&mut self, sql: &str) -> Result<(), Error> {
        for one in statements(sql) {
            let statement = Statement { sql: one.into(), args: vec![], named_args: vec![] };
            self.execute(statement, Rows::ignored()).await?;
        }
        Ok(())
    }

    async fn describe(&mut self, sql: Arc<str>) -> Result<DescribeResult, Error> {
        one(&sql)?;
        let database = Arc::clone(&self.shared.database);
        blocking(move || {
            let reader = database.home().reader().map_err(convert::error)?;
            let rules = Rules { policy: *database.policy(), stop: None };
            let told = sql::describe(&reader, &rules, &sql).map_err(convert::error)?;
            let cols = told.columns.into_iter();
            Ok(DescribeResult {
                params: told.parameters,
                cols: cols.map(|(name, decltype)| DescribeCol { name, decltype }).collect(),
                is_explain: told.explain,
                is_readonly: told.readonly,
            })
        })
        .await
    }

    /// Turning foreign keys off is deferring them here: the writer is everybody's. That is the
    /// same only where no key has an action, which would run (and delete rows) all the same.
    async fn keys_without_actions(&mut self) -> Result<(), Error> {
        const SOME: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema AS t, \
            pragma_foreign_key_list(t.name) AS k WHERE t.type = 'table' \
            AND (k.on_delete <> 'NO ACTION' OR k.on_update <> 'NO ACTION'))";
        let database = Arc::clone(&self.shared.database);
        let some = blocking(move || {
            let reader = database.home().reader().map_err(convert::error)?;
            reader.query_row(SOME, [], |row| row.get::<_, bool>(0)).map_err(|_| gone())
        });
        if some.await? {
            return Err(Error::caller(
                codes::FOREIGN_KEYS_OFF,
                "foreign keys cannot be turned off here, and this database has some with actions, \
                 which would run: take the actions away first, or migrate with `verge db migrations`",
            ));
        }
        Ok(())
    }
}

/// The query of one statement that writes and gives no rows; `None` for all others and for what
/// does not compile here.
fn quiet(
    describe: impl Fn(&str) -> Option<sql::Description>,
    statement: Statement,
) -> Option<Query> {
    one(&statement.sql).ok()?;
    let told = describe(&statement.sql)?;
    if told.readonly || !told.columns.is_empty() || foreign_keys(&statement.sql).is_some() {
        return None;
    }
    let sql = statement.sql.to_string();
    let values = statement.arrange(&told.parameters).ok()?;
    Some(Query { sql, params: values.into_iter().map(convert::to_sql).collect() })
}

/// Runs what may take long, or wait for a cursor's reader, where that hinders nobody.
async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(job).await.map_err(|_| gone())?
}

async fn replay(outcome: sql::Outcome, sink: Sink) -> Result<Done, Error> {
    blocking(move || {
        let mut sink = sink;
        outcome.rows.replay(&mut sink);
        sink.result()?;
        Ok(convert::done(&outcome.stats))
    })
    .await
}

/// The columns' declared types; none if the statement does not compile here.
fn decltypes(described: Result<sql::Description, sql::SqlError>) -> Vec<Option<String>> {
    described.map_or_else(|_| Vec::new(), |told| told.columns.into_iter().map(|c| c.1).collect())
}

/// `PRAGMA foreign_keys` with a value: true if it turns them off.
fn foreign_keys(sql: &str) -> Option<bool> {
    let text: String = sql.chars().filter(|c| !c.is_whitespace()).collect();
    let text = text.trim_end_matches(';').to_ascii_lowercase();
    let value = text.strip_prefix("pragmaforeign_keys")?;
    match value.trim_start_matches(['=', '(']).trim_end_matches(')') {
        "off" | "0" | "false" | "no" => Some(true),
        "on" | "1" | "true" | "yes" => Some(false),
        _ => None,
    }
}

/// Fails unless the text is exactly one statement.
fn one(sql: &str) -> Result<(), Error> {
    match statements(sql).len() {
        1 => Ok(()),
        0 => {
            let message = "SQL string does not contain any statement";
            Err(Error::caller(codes::SQL_NO_STATEMENT, message))
        }
        _ => {
            let message = "SQL string contains more than one statement";
            Err(Error::caller(codes::SQL_MANY_STATEMENTS, message))
        }
    }
}

fn refused(message: &str) -> Error {
    Error::caller("SQLITE_ERROR", format!("SQLite error: {message}"))
}
