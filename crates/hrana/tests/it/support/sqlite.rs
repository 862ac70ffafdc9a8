//! A backend over plain SQLite: one file, one thread and connection for each stream.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::ValueRef;
use rusqlite::{Connection as Sqlite, TransactionState};
use tokio::sync::oneshot;
use verge_hrana::{
    Access, Answer, Backend, Col, Connection, Control, DescribeCol, DescribeResult, Done, Error,
    Interrupt, Rows, Statement, Transaction, Value, codes, sqlite_code,
};
use verge_types::Blame;

/// How long a statement waits for another connection's lock.
const BUSY: Duration = Duration::from_millis(500);

pub struct SqliteBackend {
    pub path: PathBuf,
}

impl Backend for SqliteBackend {
    fn open(&self, access: Access) -> Answer<'static, Box<dyn Connection>> {
        let path = self.path.clone();
        Box::pin(async move {
            let (opened, open) = oneshot::channel();
            let (jobs, wanted) = mpsc::channel::<Job>();
            std::thread::spawn(move || {
                let sqlite = match connect(&path, access) {
                    Ok(sqlite) => sqlite,
                    Err(error) => {
                        let _ = opened.send(Err(error));
                        return;
                    }
                };
                let _ = opened.send(Ok(sqlite.get_interrupt_handle()));
                while let Ok(job) = wanted.recv() {
                    job(&sqlite);
                    if sqlite.is_autocommit() && access == Access::Full {
                        // A read-only transaction has ended.
                        let _ = sqlite.pragma_update(None, "query_only", false);
                    }
                }
            });
            let handle = open.await.map_err(|_| gone())??;
            let interrupt: Interrupt = Arc::new(move || handle.interrupt());
            let connection: Box<dyn Connection> =
                Box::new(OnThread { jobs, interrupt, state: Arc::default() });
            Ok(connection)
        })
    }
}

fn connect(path: &std::path::Path, access: Access) -> Result<Sqlite, Error> {
    let sqlite = Sqlite::open(path).map_err(failed)?;
    sqlite.busy_timeout(BUSY).map_err(failed)?;
    sqlite.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    sqlite.pragma_update(None, "synchronous", "normal").map_err(failed)?;
    sqlite.pragma_update(None, "query_only", access == Access::ReadOnly).map_err(failed)?;
    Ok(sqlite)
}

type Job = Box<dyn FnOnce(&Sqlite) + Send>;

struct OnThread {
    jobs: mpsc::Sender<Job>,
    interrupt: Interrupt,
    state: Arc<Mutex<Transaction>>,
}

impl OnThread {
    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Sqlite) -> Result<T, Error> + Send + 'static,
    ) -> Answer<'static, T> {
        let (done, answer) = oneshot::channel();
        let state = Arc::clone(&self.state);
        let sent = self.jobs.send(Box::new(move |sqlite| {
            let result = job(sqlite);
            *state.lock() = state_of(sqlite);
            let _ = done.send(result);
        }));
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        })
    }
}

fn state_of(sqlite: &Sqlite) -> Transaction {
    match sqlite.transaction_state(None::<&str>) {
        _ if sqlite.is_autocommit() => Transaction::None,
        Ok(TransactionState::Write) => Transaction::Write,
        _ => Transaction::Read,
    }
}

impl Connection for OnThread {
    fn execute(&mut self, statement: Statement, rows: Rows) -> Answer<'_, Done> {
        self.run(move |sqlite| execute(sqlite, statement, rows))
    }

    fn sequence(&mut self, sql: Arc<str>) -> Answer<'_, ()> {
        self.run(move |sqlite| sqlite.execute_batch(&sql).map_err(failed))
    }

    fn describe(&mut self, sql: Arc<str>) -> Answer<'_, DescribeResult> {
        self.run(move |sqlite| {
            let statement = prepare(sqlite, &sql)?;
            Ok(DescribeResult {
                params: parameters(&statement),
                cols: statement
                    .columns()
                    .map(|col| DescribeCol {
                        name: col.name().to_owned(),
                        decltype: col.decl_type().map(str::to_owned),
                    })
                    .collect(),
                is_explain: statement.is_explain() != 0,
                is_readonly: statement.readonly(),
            })
        })
    }

    fn rollback(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let done = self.run(|sqlite| {
            if !sqlite.is_autocommit() {
                sqlite.execute_batch("ROLLBACK").map_err(failed)?;
            }
            Ok(())
        });
        Box::pin(async move {
            let _ = done.await;
        })
    }

    fn transaction(&self) -> Transaction {
        *self.state.lock()
    }

    fn interrupt(&self) -> Interrupt {
        Arc::clone(&self.interrupt)
    }
}

fn prepare<'s>(sqlite: &'s Sqlite, sql: &str) -> Result<rusqlite::Statement<'s>, Error> {
    let mut batch = rusqlite::Batch::new(sqlite, sql);
    let first = batch.next().map_err(failed)?;
    let statement = first.ok_or_else(|| {
        Error::caller(codes::SQL_NO_STATEMENT, "SQL string does not contain any statement")
    })?;
    if batch.next().map_err(failed)?.is_some() {
        return Err(Error::caller(
            codes::SQL_MANY_STATEMENTS,
            "SQL string contains more than one statement",
        ));
    }
    Ok(statement)
}

fn parameters(statement: &rusqlite::Statement<'_>) -> Vec<Option<String>> {
    let count = statement.parameter_count();
    (1..=count).map(|index| statement.parameter_name(index).map(str::to_owned)).collect()
}

fn execute(sqlite: &Sqlite, statement: Statement, mut rows: Rows) -> Result<Done, Error> {
    let began = Instant::now();
    if Control::of(&statement.sql) == Some(Control::BeginReadOnly) {
        sqlite.execute_batch("BEGIN; PRAGMA query_only = on").map_err(failed)?;
        return Ok(Done::default());
    }
    let mut prepared = prepare(sqlite, &statement.sql)?;
    let values = statement.arrange(&parameters(&prepared))?;
    for (index, value) in values.into_iter().enumerate() {
        let bound = match value {
            Value::Null => prepared.raw_bind_parameter(index + 1, rusqlite::types::Null),
            Value::Integer(integer) => prepared.raw_bind_parameter(index + 1, integer),
            Value::Float(float) => prepared.raw_bind_parameter(index + 1, float),
            Value::Text(text) => prepared.raw_bind_parameter(index + 1, text),
            Value::Blob(bytes) => prepared.raw_bind_parameter(index + 1, bytes),
        };
        bound.map_err(failed)?;
    }
    let cols = prepared.columns().map(|col| Col {
        name: Some(col.name().to_owned()),
        decltype: col.decl_type().map(str::to_owned),
    });
    rows.columns(cols.collect())?;
    let (width, reads) = (prepared.column_count(), prepared.readonly());
    let before = sqlite.total_changes();
    let mut count = 0;
    {
        let mut stepping = prepared.raw_query();
        while let Some(row) = stepping.next().map_err(failed)? {
            count += 1;
            let values = (0..width).map(|at| row.get_ref(at).map(owned).map_err(failed));
            rows.row(values.collect::<Result<_, _>>()?)?;
        }
    }
    let changed = sqlite.total_changes() - before;
    Ok(Done {
        affected_row_count: if reads { 0 } else { sqlite.changes().min(changed) },
        last_insert_rowid: Some(sqlite.last_insert_rowid()),
        rows_read: count,
        rows_written: changed,
        duration_ms: began.elapsed().as_secs_f64() * 1_000.0,
    })
}

fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::Integer(integer),
        ValueRef::Real(float) => Value::Float(float),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

fn failed(error: rusqlite::Error) -> Error {
    let (code, message) = match &error {
        rusqlite::Error::SqliteFailure(code, message) => {
            let message = message.clone().unwrap_or_else(|| code.to_string());
            (sqlite_code(code.extended_code), message)
        }
        rusqlite::Error::SqlInputError { error, msg, .. } => {
            (sqlite_code(error.extended_code), msg.clone())
        }
        other => ("SQLITE_UNKNOWN", other.to_string()),
    };
    let error = Error::new(code, Blame::Caller, format!("SQLite error: {message}"));
    if code == "SQLITE_BUSY" { error.retryable() } else { error }
}

fn gone() -> Error {
    Error::platform("INTERNAL", "the connection's thread has ended")
}
