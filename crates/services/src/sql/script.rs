//! Runs several statements on one connection: a batch, a script.
//!
//! They know nothing of where a transaction lives: the caller picks the connection and opens the
//! transaction (`dataset.write`, or [`in_transaction`]).

use std::time::{Duration, Instant};

use verge_dataset::rusqlite::Connection;

use super::attach::{Attached, Scope};
use super::error::{ErrorKind, SqlError};
use super::lexer;
use super::policy::Policy;
use super::prepared::Prepared;
use super::raw;
use super::run::{Outcome, Query, Rules, Stats, drive, query, settle};
use super::sink::{Discard, Rows};
use super::statements::{Piece, Statements, placed};
use super::value::Value;

/// Runs statements in order. The caller holds a transaction around all of them and rolls it
/// back on an error, so that all happen or none.
pub fn batch(
    conn: &Connection,
    rules: &Rules<'_>,
    queries: &[Query],
) -> Result<Vec<Outcome>, SqlError> {
    if queries.is_empty() {
        return Err(SqlError::new(ErrorKind::Sqlite, "No SQL statements detected."));
    }
    if queries.len() > rules.policy.statements {
        let limit = rules.policy.statements;
        return Err(SqlError::new(
            ErrorKind::TooLarge,
            format!("a batch has at most {limit} statements"),
        ));
    }
    let mut left = (rules.policy.result_rows, rules.policy.result_bytes);
    let mut outcomes = Vec::with_capacity(queries.len().min(1024));
    for one in queries {
        let policy = Policy { result_rows: left.0, result_bytes: left.1, ..rules.policy };
        let outcome = query(conn, &Rules { policy, ..*rules }, one);
        let outcome = outcome.inspect_err(|_| settle(conn))?;
        left.0 = left.0.saturating_sub(outcome.rows.len() as u64);
        let bytes: usize = outcome.rows.values.iter().map(Value::size).sum();
        left.1 = left.1.saturating_sub(bytes as u64);
        outcomes.push(outcome);
    }
    settle(conn);
    Ok(outcomes)
}

/// What `exec` tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Executed {
    /// Statements run.
    pub count: u64,
    pub duration: Duration,
    pub changes: u64,
}

/// Runs a script: any number of statements, no parameters. A failure names the line on which
/// its statement begins. As for [`batch`], the caller holds the transaction.
pub fn exec(conn: &Connection, rules: &Rules<'_>, script: &str) -> Result<Executed, SqlError> {
    let own = Attached::of(conn);
    let scope = own.enter(conn, &rules.policy, rules.stop);
    let mut done = Executed::default();
    let mut at = 0;
    while !lexer::is_blank(&script[at..]) {
        let start = Instant::now();
        let result = next_statement(conn, own, &scope, rules, &script[at..], start);
        match result {
            Ok((used, stats)) => {
                at += used.max(1);
                done.count += 1;
                done.duration += stats.duration;
                done.changes += stats.changes;
            }
            Err(error) => {
                settle(conn);
                return Err(in_line(script, at, error));
            }
        }
        if done.count as usize > rules.policy.statements {
            settle(conn);
            let limit = rules.policy.statements;
            let message = format!("a script has at most {limit} statements");
            return Err(SqlError::new(ErrorKind::TooLarge, message));
        }
    }
    settle(conn);
    if done.count == 0 && lexer::is_blank(script) {
        return Err(SqlError::new(ErrorKind::Exec, "No SQL statements detected."));
    }
    Ok(done)
}

/// Runs a script and gives what each of its statements gave. With `readonly`, nothing runs on the
/// connection that would write: `None` then. A failure names its line and column. The caller holds
/// the transaction.
pub fn script(
    conn: &Connection,
    rules: &Rules<'_>,
    text: &str,
    readonly: bool,
) -> Result<Option<Vec<Outcome>>, SqlError> {
    let mut outcomes = Vec::new();
    let mut left = (rules.policy.result_rows, rules.policy.result_bytes);
    let mut pieces = Statements::new(text.as_bytes());
    while let Some(piece) = pieces.next_piece()? {
        if outcomes.len() >= rules.policy.statements {
            let limit = rules.policy.statements;
            let message = format!("a script has at most {limit} statements");
            return Err(SqlError::new(ErrorKind::TooLarge, message));
        }
        let policy = Policy { result_rows: left.0, result_bytes: left.1, ..rules.policy };
        let one = one_piece(conn, &Rules { policy, ..*rules }, &piece, readonly);
        let Some(outcome) = one.inspect_err(|_| settle(conn))? else {
            settle(conn);
            return Ok(None);
        };
        left.0 = left.0.saturating_sub(outcome.rows.len() as u64);
        let bytes: usize = outcome.rows.values.iter().map(Value::size).sum();
        left.1 = left.1.saturating_sub(bytes as u64);
        outcomes.push(outcome);
    }
    settle(conn);
    if outcomes.is_empty() {
        return Err(SqlError::new(ErrorKind::Exec, "No SQL statements detected."));
    }
    Ok(Some(outcomes))
}

/// One statement of a larger text, in which an error names its place. `None` if it writes and must
/// not.
pub(crate) fn one_piece(
    conn: &Connection,
    rules: &Rules<'_>,
    piece: &Piece,
    readonly: bool,
) -> Result<Option<Outcome>, SqlError> {
    let own = Attached::of(conn);
    let scope = own.enter(conn, &rules.policy, rules.stop);
    let start = Instant::now();
    let run = || {
        let compiled = Prepared::compile(conn, own, &piece.sql, false)?;
        let Some((prepared, used)) = compiled else { return Ok(Some(Outcome::default())) };
        if !lexer::is_blank(&piece.sql[used..]) {
            // The text was cut by other rules than SQLite's.
            let message = "a statement could not be told apart";
            return Err(SqlError::new(ErrorKind::Internal, message));
        }
        if readonly && !prepared.readonly {
            return Ok(None);
        }
        let mut rows = Rows::default();
        let stats = drive(conn, own, &scope, rules, prepared, start, &(), &mut rows, false)?;
        Ok(Some(Outcome { rows, stats }))
    };
    run().map_err(|error| placed(piece, error))
}

fn next_statement(
    conn: &Connection,
    own: &Attached,
    scope: &Scope<'_>,
    rules: &Rules<'_>,
    rest: &str,
    start: Instant,
) -> Result<(usize, Stats), SqlError> {
    let (prepared, used) = Prepared::compile(conn, own, rest, false)?
        .ok_or_else(|| SqlError::new(ErrorKind::Sqlite, "No SQL statements detected."))?;
    let stats = drive(conn, own, scope, rules, prepared, start, &(), &mut Discard, false)?;
    Ok((used, stats))
}

/// D1's words for a failure in a script.
fn in_line(script: &str, at: usize, error: SqlError) -> SqlError {
    let rest = &script[at..];
    let mut tokens = lexer::Tokens::new(rest);
    let mut begin = 0;
    // Where the statement's first token begins: the last blank before it is skipped.
    if let Some(token) = tokens.next() {
        let length = match token {
            lexer::Token::Word(word) => word.len(),
            lexer::Token::Quoted(text) => text.len() + 2,
            lexer::Token::Punctuation(_) => 1,
        };
        begin = tokens.offset().saturating_sub(length);
    }
    let line = script[..at + begin].matches('\n').count() + 1;
    let text = rest.get(begin..).unwrap_or(rest).lines().next().unwrap_or_default();
    SqlError {
        kind: ErrorKind::Exec,
        code: error.code,
        message: format!("Error in line {line}: {text}: {}", error.message),
    }
}

/// Runs `work` on one state of the database, which nobody changes meanwhile.
pub(crate) fn in_read_transaction<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    raw::simple(conn, "BEGIN")?;
    let result = work(conn);
    raw::simple(conn, "COMMIT")?;
    settle(conn);
    result
}

/// Runs `work` in a transaction of its own on this connection; for connections that no dataset
/// holds (tests, imports into a fresh file).
pub fn in_transaction<T>(
    conn: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    raw::simple(conn, "BEGIN IMMEDIATE")?;
    let result = work(conn);
    settle(conn);
    match result {
        Ok(value) => match raw::simple(conn, "COMMIT") {
            Ok(_) => Ok(value),
            Err(error) => {
                let _ = raw::simple(conn, "ROLLBACK");
                Err(error)
            }
        },
        Err(error) => {
            if !raw::is_autocommit(conn) {
                raw::simple(conn, "ROLLBACK")?;
            }
            Err(error)
        }
    }
}
