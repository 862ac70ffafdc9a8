//! Between the protocol's values and errors and those of the SQL service.

use std::ops::ControlFlow;
use std::sync::Arc;

use verge_services::sql::{self, Columns, ErrorKind, RowSink, SqlError, Stats};
use verge_types::Blame;

use crate::{Col, Done, Error, Rows, Value, codes, sqlite_code};

pub fn to_sql(value: Value) -> sql::Value {
    match value {
        Value::Null => sql::Value::Null,
        Value::Integer(integer) => sql::Value::Integer(integer),
        Value::Float(float) => sql::Value::Real(float),
        Value::Text(text) => sql::Value::Text(text),
        Value::Blob(bytes) => sql::Value::Blob(bytes),
    }
}

pub fn done(stats: &Stats) -> Done {
    Done {
        affected_row_count: stats.changes,
        last_insert_rowid: Some(stats.last_row_id),
        rows_read: stats.rows_read,
        rows_written: stats.rows_written,
        duration_ms: stats.duration.as_secs_f64() * 1_000.0,
    }
}

/// The texts are SQLite's, with the prefix that libSQL's server gives them.
pub fn error(error: SqlError) -> Error {
    let code = match error.kind {
        _ if error.code != 0 => sqlite_code(error.code),
        ErrorKind::Sqlite => "SQLITE_ERROR",
        ErrorKind::Refused => "SQLITE_AUTH",
        ErrorKind::TooLarge => codes::RESPONSE_TOO_LARGE,
        ErrorKind::CpuLimit => codes::STATEMENT_TIMEOUT,
        ErrorKind::Deadline => codes::TRANSACTION_TIMEOUT,
        ErrorKind::Unavailable => "UNAVAILABLE",
        ErrorKind::OutcomeUnknown => "WRITE_OUTCOME_UNKNOWN",
        ErrorKind::HistoryLost => "HISTORY_LOST",
        _ => "INTERNAL",
    };
    let blame = match error.blame() {
        sql::Blame::App | sql::Blame::Caller => Blame::Caller,
        sql::Blame::Platform => Blame::Platform,
    };
    let retry = error.retryable();
    let message = if code.starts_with("SQLITE_") {
        format!("SQLite error: {}", error.message)
    } else {
        error.message
    };
    let told = Error::new(code, blame, message);
    if retry { told.retryable() } else { told }
}

/// Hands the service's rows to the protocol's.
pub struct Sink {
    rows: Rows,
    row: Vec<Value>,
    width: usize,
    decltypes: Vec<Option<String>>,
    failed: Option<Error>,
}

impl Sink {
    pub fn new(rows: Rows, decltypes: Vec<Option<String>>) -> Self {
        Self { rows, row: Vec::new(), width: 0, decltypes, failed: None }
    }

    /// Why the rows were not taken to their end.
    pub fn result(self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)
    }

    fn push(&mut self, value: impl FnOnce() -> Value) {
        if self.rows.wanted() {
            self.row.push(value());
        }
    }
}

impl RowSink for Sink {
    fn columns(&mut self, columns: &Arc<Columns>) {
        self.width = columns.names.len();
        let cols = columns.names.iter().enumerate().map(|(index, name)| Col {
            name: Some(name.to_string()),
            decltype: self.decltypes.get(index).cloned().flatten(),
        });
        self.failed = self.rows.columns(cols.collect()).err();
    }

    fn null(&mut self) {
        self.push(|| Value::Null);
    }

    fn integer(&mut self, value: i64) {
        self.push(|| Value::Integer(value));
    }

    fn real(&mut self, value: f64) {
        self.push(|| Value::Float(value));
    }

    fn text(&mut self, value: &str) {
        self.push(|| Value::Text(value.to_owned()));
    }

    fn blob(&mut self, value: &[u8]) {
        self.push(|| Value::Blob(value.to_vec()));
    }

    fn end_row(&mut self) -> ControlFlow<()> {
        let next = Vec::with_capacity(self.width);
        let row = std::mem::replace(&mut self.row, next);
        if self.failed.is_none() {
            self.failed = self.rows.row(row).err();
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
