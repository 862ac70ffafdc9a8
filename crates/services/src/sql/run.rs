//! Runs one statement on one connection, and tells what it did.

use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};

use super::attach::{Attached, Scope, Stop};
use super::count::Shape;
use super::error::{ErrorKind, SqlError};
use super::lexer;
use super::policy::Policy;
use super::prepared::Prepared;
use super::raw;
use super::rules;
use super::sink::{RowSink, Rows, put};
use super::value::{Params, Value};

/// SQLite's counter 0 takes the cursor steps that are no full scan's.
const OTHER_STEPS: i32 = 0;

/// The rules one run is under.
#[derive(Clone, Copy, Default)]
pub struct Rules<'a> {
    pub policy: Policy,
    /// Asked every few thousand instructions; true ends the statement with
    /// [`ErrorKind::CpuLimit`].
    pub stop: Option<&'a Stop<'a>>,
}

/// What one statement did, as D1's `meta` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Time inside SQLite, compilation included.
    pub duration: Duration,
    /// See `docs/sql.md` for how these two are counted.
    pub rows_read: u64,
    pub rows_written: u64,
    /// Rows inserted, updated or deleted, by triggers and foreign keys too.
    pub changes: u64,
    /// The rowid of the last insert on this connection.
    pub last_row_id: i64,
    pub changed_db: bool,
    /// The database's size after the statement, in bytes.
    pub size_after: u64,
}

/// One statement with its parameters, owned: what batches and forwarding carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub sql: String,
    pub params: Vec<Value>,
}

impl Query {
    pub fn new(sql: impl Into<String>, params: Vec<Value>) -> Self {
        Self { sql: sql.into(), params }
    }
}

/// What one statement gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub rows: Rows,
    pub stats: Stats,
}

/// What a statement is, before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// It may run on a reader; otherwise it needs the primary's writer.
    pub readonly: bool,
    /// Each parameter's name, `None` for `?`.
    pub parameters: Vec<Option<String>>,
    /// Each column's name and declared type.
    pub columns: Vec<(String, Option<String>)>,
    /// An `EXPLAIN`.
    pub explain: bool,
}

/// Compiles a statement (or finds it compiled) and tells what it is.
pub fn describe(conn: &Connection, rules: &Rules<'_>, sql: &str) -> Result<Description, SqlError> {
    let own = Attached::of(conn);
    let scope = own.enter(conn, &rules.policy, rules.stop);
    let prepared = Prepared::get(conn, own, &scope, sql)?;
    let statement = &prepared.statement;
    let description = Description {
        readonly: prepared.readonly,
        parameters: (1..=prepared.parameters).map(|i| statement.parameter_name(i)).collect(),
        columns: (0..statement.column_count())
            .map(|i| (statement.column_name(i), statement.column_type(i)))
            .collect(),
        explain: lexer::first_word(sql).is_some_and(|w| w.eq_ignore_ascii_case("explain")),
    };
    own.put(prepared);
    Ok(description)
}

/// True if the statement may run on a reader. It is compiled and stays in the cache, so that
/// the run that follows pays nothing for it.
pub fn is_readonly(conn: &Connection, rules: &Rules<'_>, sql: &str) -> Result<bool, SqlError> {
    let own = Attached::of(conn);
    let scope = own.enter(conn, &rules.policy, rules.stop);
    let prepared = Prepared::get(conn, own, &scope, sql)?;
    let readonly = prepared.readonly;
    own.put(prepared);
    Ok(readonly)
}

/// Runs one statement into a sink. On a connection outside of a transaction, SQLite makes one
/// for it.
pub fn run(
    conn: &Connection,
    rules: &Rules<'_>,
    sql: &str,
    params: &(impl Params + ?Sized),
    sink: &mut (impl RowSink + ?Sized),
) -> Result<Stats, SqlError> {
    let own = Attached::of(conn);
    let scope = own.enter(conn, &rules.policy, rules.stop);
    let start = Instant::now();
    let prepared = Prepared::get(conn, own, &scope, sql)?;
    drive(conn, own, &scope, rules, prepared, start, params, sink, true)
}

/// Runs one statement if it may run on a reader; `None` if it needs the writer.
pub fn run_readonly(
    conn: &Connection,
    rules: &Rules<'_>,
    sql: &str,
    params: &(impl Params + ?Sized),
    sink: &mut (impl RowSink + ?Sized),
) -> Result<Option<Stats>, SqlError> {
    let own = Attached::of(conn);
    let scope = own.enter(conn, &rules.policy, rules.stop);
    let start = Instant::now();
    let prepared = Prepared::get(conn, own, &scope, sql)?;
    if !prepared.readonly {
        own.put(prepared);
        return Ok(None);
    }
    drive(conn, own, &scope, rules, prepared, start, params, sink, true).map(Some)
}

/// Runs one statement into owned rows.
pub fn query(conn: &Connection, rules: &Rules<'_>, query: &Query) -> Result<Outcome, SqlError> {
    let mut rows = Rows::default();
    let stats = run(conn, rules, &query.sql, &query.params, &mut rows)?;
    Ok(Outcome { rows, stats })
}

/// Undoes what tenants' pragmas left on the connection. Called at the end of each run that is
/// not part of a larger one.
pub(crate) fn settle(conn: &Connection) {
    let own = Attached::of(conn);
    if own.dirty.replace(false) {
        own.suspended(|| {
            let mut rest = rules::RESET_SWITCHES;
            while let Ok(Some((mut statement, used))) = raw::Statement::prepare(conn, rest, false) {
                statement.step();
                rest = &rest[used..];
            }
        });
    }
}

pub(crate) fn bind(
    prepared: &mut Prepared,
    params: &(impl Params + ?Sized),
) -> Result<(), SqlError> {
    if params.count() != prepared.parameters {
        return Err(SqlError::new(
            ErrorKind::Sqlite,
            "Wrong number of parameter bindings for SQL query.",
        ));
    }
    for index in 0..prepared.parameters {
        let code = prepared.statement.bind(index + 1, params.get(index));
        if code != ffi::SQLITE_OK {
            let text = if code == ffi::SQLITE_TOOBIG { "string or blob too big" } else { "bind" };
            prepared.statement.reset();
            return Err(raw::error_of(code, text, -1));
        }
    }
    Ok(())
}

/// Hands the current row to a sink; the bytes of its texts and blobs.
pub(crate) fn hand_row(prepared: &Prepared, sink: &mut (impl RowSink + ?Sized)) -> u64 {
    let mut bytes = 0;
    sink.begin_row();
    for index in 0..prepared.columns.len() {
        match prepared.statement.value(index) {
            Ok(value) => {
                bytes += value.size() as u64;
                put(sink, value);
            }
            // Text that is not UTF-8 reads as D1's does: with replacement characters.
            Err(text) => {
                bytes += text.len() as u64;
                sink.text(&String::from_utf8_lossy(text));
            }
        }
    }
    bytes
}

/// Takes a bound statement to its end. It goes back to the cache, if `keep`.
#[expect(clippy::too_many_arguments, reason = "few calls, and no state worth a type")]
pub(crate) fn drive(
    conn: &Connection,
    own: &Attached,
    _scope: &Scope<'_>,
    rules: &Rules<'_>,
    mut prepared: Box<Prepared>,
    start: Instant,
    params: &(impl Params + ?Sized),
    sink: &mut (impl RowSink + ?Sized),
    keep: bool,
) -> Result<Stats, SqlError> {
    if let Err(error) = bind(&mut prepared, params) {
        if keep {
            own.put(prepared);
        }
        return Err(error);
    }
    // Once a table is made, the text that makes it no longer compiles.
    if prepared.notes.schema && prepared.shape.is_none() {
        prepared.shape = Some(Shape::of(conn, &prepared.key));
    }
    let alone = raw::is_autocommit(conn);
    let changes_before = raw::total_changes(conn);
    let schema_before =
        if prepared.notes.schema { pragma_number(conn, "PRAGMA schema_version") } else { 0 };
    let result = step_all(conn, rules, &mut prepared, sink);
    if prepared.notes.switch {
        own.dirty.set(true);
    }
    if let Err(error) = result {
        prepared.statement.reset();
        if keep {
            own.put(prepared);
        }
        if alone {
            settle(conn);
        }
        return Err(error);
    }
    let mut stats = finish(conn, own, &mut prepared, changes_before);
    stats.changed_db = !prepared.readonly
        && (stats.changes > 0
            || (prepared.notes.schema
                && pragma_number(conn, "PRAGMA schema_version") != schema_before));
    stats.duration = start.elapsed();
    if keep {
        own.put(prepared);
    }
    if alone {
        settle(conn);
    }
    Ok(stats)
}

fn step_all(
    conn: &Connection,
    rules: &Rules<'_>,
    prepared: &mut Prepared,
    sink: &mut (impl RowSink + ?Sized),
) -> Result<(), SqlError> {
    let (mut rows, mut bytes) = (0u64, 0u64);
    let mut code = prepared.statement.step();
    if prepared.statement.take_status(ffi::SQLITE_STMTSTATUS_REPREPARE) > 0 {
        prepared.refresh();
    }
    if code == ffi::SQLITE_ROW || code == ffi::SQLITE_DONE {
        sink.columns(&prepared.columns);
    }
    loop {
        match code {
            ffi::SQLITE_ROW => {
                rows += 1;
                bytes += hand_row(prepared, sink);
                if rows > rules.policy.result_rows || bytes > rules.policy.result_bytes {
                    return Err(too_large(&rules.policy));
                }
                if sink.end_row().is_break() {
                    return Ok(());
                }
            }
            ffi::SQLITE_DONE => return Ok(()),
            _ => return Err(raw::last_error(conn)),
        }
        code = prepared.statement.step();
    }
}

fn too_large(policy: &Policy) -> SqlError {
    SqlError::new(
        ErrorKind::TooLarge,
        format!(
            "the result is larger than {} rows or {} bytes; use LIMIT or iterate()",
            policy.result_rows, policy.result_bytes
        ),
    )
}

/// Resets the statement and tells what it did, but for what only the caller knows.
pub(crate) fn finish(
    conn: &Connection,
    own: &Attached,
    prepared: &mut Prepared,
    changes_before: u64,
) -> Stats {
    let total = raw::total_changes(conn) - changes_before;
    let direct = if total == 0 { 0 } else { raw::changes(conn).min(total) };
    prepared.statement.reset();
    let steps = prepared.statement.take_status(OTHER_STEPS)
        + prepared.statement.take_status(ffi::SQLITE_STMTSTATUS_FULLSCAN_STEP);
    let shape = match prepared.shape {
        Some(shape) => shape,
        None => {
            let shape = Shape::of(conn, &prepared.key);
            prepared.shape = Some(shape);
            shape
        }
    };
    Stats {
        duration: Duration::ZERO,
        rows_read: shape.rows_read(steps),
        rows_written: if prepared.readonly { 0 } else { shape.rows_written(direct, total) },
        changes: total,
        last_row_id: conn.last_insert_rowid(),
        changed_db: false,
        size_after: size(conn, own, prepared.readonly),
    }
}

/// The database's size in bytes; asked of SQLite when its content has moved.
fn size(conn: &Connection, own: &Attached, readonly: bool) -> u64 {
    let version = raw::data_version(conn);
    if let Some((known, size)) = own.size.get()
        && known == version
        && readonly
    {
        return size;
    }
    let size = pragma_number(conn, "PRAGMA page_count") * pragma_number(conn, "PRAGMA page_size");
    own.size.set(Some((raw::data_version(conn), size)));
    size
}

/// A pragma of the platform's own that gives one number.
fn pragma_number(conn: &Connection, sql: &str) -> u64 {
    Attached::of(conn).suspended(|| raw::simple(conn, sql)).map_or(0, |number| number.max(0) as u64)
}
