//! Connections and short ways to run SQL.

use rusqlite::Connection;
use verge_services::sql::{self, Outcome, Query, Rules, SqlError, Value};

pub fn memory() -> Connection {
    Connection::open_in_memory().unwrap()
}

pub fn query(conn: &Connection, sql: &str, params: Vec<Value>) -> Result<Outcome, SqlError> {
    sql::query(conn, &Rules::default(), &Query::new(sql, params))
}

pub fn run(conn: &Connection, sql: &str) -> Outcome {
    query(conn, sql, vec![]).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn fails(conn: &Connection, sql: &str) -> SqlError {
    query(conn, sql, vec![]).err().unwrap_or_else(|| panic!("{sql}: no error"))
}

pub fn integer(conn: &Connection, sql: &str) -> i64 {
    match run(conn, sql).rows.values.first() {
        Some(Value::Integer(value)) => *value,
        other => panic!("{sql}: {other:?}"),
    }
}
