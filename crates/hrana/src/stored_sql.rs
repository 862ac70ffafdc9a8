//! SQL texts that a client stored under ids, and the work that its requests become with them.
//!
//! The scope is a WebSocket, or one stream over HTTP.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::{Batch, BatchCond, Error, Limits, SqlRef, Statement, Stmt, codes};

/// The stored texts.
#[derive(Default)]
pub struct StoredSql {
    texts: FxHashMap<i32, Arc<str>>,
    bytes: usize,
}

/// A request for a stream, with all texts at hand.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Execute(Step),
    Batch(Vec<(Option<BatchCond>, Step)>),
    Sequence(Arc<str>),
    Describe(Arc<str>),
    GetAutocommit,
    Close,
}

/// A statement and whether its rows are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub statement: Statement,
    pub want_rows: bool,
}

impl StoredSql {
    /// Fails if the id is in use (a violation of the protocol) or a limit is reached.
    pub fn store(&mut self, sql_id: i32, sql: String, limits: &Limits) -> Result<(), StoreError> {
        if self.texts.contains_key(&sql_id) {
            return Err(StoreError::InUse);
        }
        if self.texts.len() >= limits.stored_sql_count
            || self.bytes + sql.len() > limits.stored_sql_bytes
        {
            return Err(StoreError::Full(Error::caller(
                codes::SQL_STORE_FULL,
                format!(
                    "too much SQL is stored: at most {} texts of {} bytes together",
                    limits.stored_sql_count, limits.stored_sql_bytes
                ),
            )));
        }
        self.bytes += sql.len();
        self.texts.insert(sql_id, sql.into());
        Ok(())
    }

    /// Closing an id that is not in use is no error.
    pub fn close(&mut self, sql_id: i32) {
        if let Some(text) = self.texts.remove(&sql_id) {
            self.bytes -= text.len();
        }
    }

    pub fn text(&self, sql: SqlRef) -> Result<Arc<str>, Error> {
        match (sql.sql, sql.sql_id) {
            (Some(text), None) => Ok(text.into()),
            (None, Some(sql_id)) => self.texts.get(&sql_id).cloned().ok_or_else(|| {
                Error::caller(codes::SQL_ID_UNKNOWN, format!("no SQL is stored under id {sql_id}"))
            }),
            (Some(_), Some(_)) => {
                Err(Error::caller(codes::SQL_AND_ID, "give `sql` or `sql_id`, not both"))
            }
            (None, None) => Err(Error::caller(codes::SQL_MISSING, "give `sql` or `sql_id`")),
        }
    }

    pub fn step(&self, stmt: Stmt) -> Result<Step, Error> {
        let sql = self.text(stmt.sql)?;
        let statement = Statement { sql, args: stmt.args, named_args: stmt.named_args };
        Ok(Step { statement, want_rows: stmt.want_rows })
    }

    pub fn steps(&self, batch: Batch) -> Result<Vec<(Option<BatchCond>, Step)>, Error> {
        batch.steps.into_iter().map(|step| Ok((step.condition, self.step(step.stmt)?))).collect()
    }
}

/// Why a text was not stored.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreError {
    InUse,
    Full(Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_id(sql_id: i32) -> SqlRef {
        SqlRef { sql: None, sql_id: Some(sql_id) }
    }

    #[test]
    fn texts_are_found_by_id_until_closed() {
        let (mut stored, limits) = (StoredSql::default(), Limits::default());
        stored.store(-1, "SELECT 1".into(), &limits).unwrap();
        assert_eq!(&*stored.text(by_id(-1)).unwrap(), "SELECT 1");
        assert_eq!(stored.store(-1, "SELECT 2".into(), &limits), Err(StoreError::InUse));
        stored.close(-1);
        stored.close(-1);
        assert_eq!(stored.text(by_id(-1)).unwrap_err().code, codes::SQL_ID_UNKNOWN);
        let both = SqlRef { sql: Some("x".into()), sql_id: Some(1) };
        assert_eq!(stored.text(both).unwrap_err().code, codes::SQL_AND_ID);
        assert_eq!(stored.text(SqlRef::default()).unwrap_err().code, codes::SQL_MISSING);
    }

    #[test]
    fn count_and_bytes_are_bounded_and_given_back() {
        let limits = Limits { stored_sql_count: 2, stored_sql_bytes: 10, ..Limits::default() };
        let mut stored = StoredSql::default();
        let full = |result| matches!(result, Err(StoreError::Full(_)));
        assert!(full(stored.store(0, "x".repeat(11), &limits)));
        stored.store(1, "x".repeat(9), &limits).unwrap();
        assert!(full(stored.store(2, "xx".into(), &limits)));
        stored.store(2, "x".into(), &limits).unwrap();
        assert!(full(stored.store(3, String::new(), &limits)));
        stored.close(1);
        stored.store(3, "x".repeat(9), &limits).unwrap();
    }
}
