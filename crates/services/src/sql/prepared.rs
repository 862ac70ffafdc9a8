//! A statement ready to run: compiled under tenants' rules, with what is known of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::attach::{Attached, Notes, Scope};
use super::count::Shape;
use super::error::{ErrorKind, SqlError};
use super::lexer;
use super::raw::Statement;
use super::rules;

/// What D1 says to `BEGIN`, `COMMIT`, `ROLLBACK`, `SAVEPOINT` and `RELEASE`.
pub const NO_TRANSACTIONS: &str = "To execute a transaction, please use the \
    state.storage.transaction() or state.storage.transactionSync() APIs instead of the SQL BEGIN \
    TRANSACTION or SAVEPOINT statements. The JavaScript API is safer because it will \
    automatically roll back on exceptions, and because it interacts correctly with Durable \
    Objects' automatic atomic write coalescing.";

/// The names of a result's columns.
#[derive(Debug, PartialEq, Eq)]
pub struct Columns {
    /// Differs for each list of names in this process, so that an engine can keep an object
    /// shape by it.
    pub id: u64,
    pub names: Vec<Box<str>>,
}

impl Columns {
    pub(crate) fn new(names: Vec<Box<str>>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), names })
    }

    fn of(statement: &Statement) -> Arc<Self> {
        let names = (0..statement.column_count()).map(|i| statement.column_name(i).into());
        Self::new(names.collect())
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Where the last column of that name is: of two with one name, JavaScript sees the later.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().rposition(|known| **known == *name)
    }
}

pub(crate) struct Prepared {
    pub(crate) statement: Statement,
    pub(crate) columns: Arc<Columns>,
    pub(crate) readonly: bool,
    pub(crate) parameters: usize,
    pub(crate) notes: Notes,
    /// What its counters mean; found at the first run that wants them.
    pub(crate) shape: Option<Shape>,
    /// The text, while it is not the cache's key.
    pub(crate) key: Box<str>,
    pub(crate) used: u64,
}

impl Prepared {
    /// From the cache, or compiled. A scope must be open.
    pub(crate) fn get(
        conn: &Connection,
        own: &Attached,
        _scope: &Scope<'_>,
        sql: &str,
    ) -> Result<Box<Self>, SqlError> {
        if let Some(known) = own.take(sql) {
            return Ok(known);
        }
        let Some((mut prepared, used)) = Self::compile(conn, own, sql, true)? else {
            return Err(SqlError::new(ErrorKind::Sqlite, "No SQL statements detected."));
        };
        if !lexer::is_blank(&sql[used..]) {
            return Err(SqlError::new(
                ErrorKind::Sqlite,
                "A prepared SQL statement must contain only one statement.",
            ));
        }
        prepared.key = sql.into();
        Ok(prepared)
    }

    /// Compiles the first statement of a text; also how many bytes it took.
    pub(crate) fn compile(
        conn: &Connection,
        own: &Attached,
        sql: &str,
        keep: bool,
    ) -> Result<Option<(Box<Self>, usize)>, SqlError> {
        // It copies the whole file and can name another one; SQLite asks no authorizer.
        if lexer::first_word(sql).is_some_and(|word| word.eq_ignore_ascii_case("vacuum")) {
            return Err(SqlError::refused("not authorized: SQLITE_AUTH"));
        }
        own.notes.set(Notes::default());
        let compiled = Statement::prepare(conn, sql, keep);
        let notes = own.notes.get();
        let (statement, used) = match compiled {
            Ok(Some(compiled)) => compiled,
            Ok(None) => return Ok(None),
            Err(_) if notes.transaction => {
                return Err(SqlError::refused(format!("{NO_TRANSACTIONS}: SQLITE_AUTH")));
            }
            Err(error) => return Err(error),
        };
        // SQLite does not tell the authorizer a table's new name.
        if notes.alter && lexer::any_name(&sql[..used], rules::is_reserved) {
            return Err(SqlError::refused("not authorized: SQLITE_AUTH"));
        }
        let prepared = Self {
            columns: Columns::of(&statement),
            readonly: statement.readonly(),
            parameters: statement.parameters(),
            statement,
            notes,
            shape: None,
            key: sql[..used].into(),
            used: 0,
        };
        Ok(Some((Box::new(prepared), used)))
    }

    /// Takes up the columns again after SQLite compiled the statement anew.
    pub(crate) fn refresh(&mut self) {
        self.columns = Columns::of(&self.statement);
        self.shape = None;
    }
}
