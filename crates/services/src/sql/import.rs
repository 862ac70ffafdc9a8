//! Takes a SQL dump, a CSV file or a SQLite file into a database, a piece at a time in memory. The
//! caller holds the transaction: an import happens as a whole or not at all.

use std::io::BufRead;

use verge_dataset::rusqlite::{Connection, ffi};

use super::csv::{Records, failed as csv_failed};
use super::error::{ErrorKind, SqlError};
use super::export::{self, quote_name};
use super::lexer;
use super::policy::Policy;
use super::raw;
use super::rules::is_reserved;
use super::run::{Query, Rules, query, run};
use super::script::one_piece;
use super::sink::Discard;
use super::statements::Statements;
use super::value::Value;

/// Hears how far an import is (bytes, or rows where that is the measure) and may end it.
pub type Step<'a> = &'a mut dyn FnMut(u64) -> Result<(), SqlError>;

fn rules() -> Rules<'static> {
    Rules { policy: Policy::import(), stop: None }
}

fn failed(what: impl Into<String>) -> SqlError {
    SqlError::new(ErrorKind::Migration, what)
}

/// What was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    pub statements: u64,
    pub rows: u64,
}

/// True if nothing of an app's is in the database.
pub fn is_empty(conn: &Connection) -> Result<bool, SqlError> {
    Ok(objects(conn, "1")?.is_empty())
}

/// Drops everything of an app's.
pub fn clear(conn: &Connection) -> Result<(), SqlError> {
    raw::enforce_foreign_keys(conn, false);
    let dropped = drop_all(conn);
    raw::enforce_foreign_keys(conn, true);
    dropped
}

fn drop_all(conn: &Connection) -> Result<(), SqlError> {
    for (kind, name) in objects(conn, "type = 'view'")? {
        conn.execute_batch(&format!("DROP {kind} {}", quote_name(&name)))?;
    }
    // Virtual tables first: what is behind them goes with them.
    for virtual_ones in [true, false] {
        let which = if virtual_ones { "sql LIKE 'create virtual%'" } else { "type = 'table'" };
        for (_, name) in objects(conn, which)? {
            conn.execute_batch(&format!("DROP TABLE {}", quote_name(&name)))?;
        }
    }
    let sums = "SELECT 1 FROM sqlite_schema WHERE name = '_verge_migrations'";
    if raw::simple(conn, sums)? == 1 {
        conn.execute_batch("DELETE FROM _verge_migrations")?;
    }
    Ok(())
}

/// Tables and views of an app, as kind and name.
fn objects(conn: &Connection, which: &str) -> Result<Vec<(String, String)>, SqlError> {
    let sql = format!(
        "SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view') \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND {which}"
    );
    let mut all = export::pairs(conn, &sql)?;
    all.retain(|(_, name)| !is_reserved(name));
    Ok(all)
}

/// A dump may fill a table before it makes the one it refers to, so its foreign keys are checked
/// when all is there.
fn checked_at_the_end<T>(
    conn: &Connection,
    work: impl FnOnce() -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    raw::enforce_foreign_keys(conn, false);
    let result = work();
    raw::enforce_foreign_keys(conn, true);
    let value = result?;
    let check = Query::new("PRAGMA foreign_key_check", vec![]);
    match query(conn, &rules(), &check)?.rows.values.first() {
        None => Ok(value),
        Some(table) => Err(SqlError {
            kind: ErrorKind::Migration,
            code: ffi::SQLITE_CONSTRAINT_FOREIGNKEY,
            message: format!("FOREIGN KEY constraint failed in table {}", name_of(table)),
        }),
    }
}

fn name_of(value: &Value) -> &str {
    match value {
        Value::Text(name) => name,
        _ => "?",
    }
}

/// Runs a dump. Its own transaction statements are passed over, as is the switch that would turn
/// foreign keys off: they are checked at the end instead. `step` hears of bytes. A failure names
/// the line and column.
pub fn sql(conn: &Connection, text: impl BufRead, step: Step<'_>) -> Result<Imported, SqlError> {
    let mut pieces = Statements::new(text);
    let mut done = Imported::default();
    checked_at_the_end(conn, || {
        while let Some(piece) = pieces.next_piece()? {
            step(pieces.position())?;
            if is_passed_over(&piece.sql) {
                continue;
            }
            let outcome = one_piece(conn, &rules(), &piece, false)?.unwrap_or_default();
            done.statements += 1;
            done.rows += outcome.stats.changes;
        }
        Ok(())
    })?;
    if done.statements == 0 {
        return Err(failed("there is no SQL statement in it"));
    }
    Ok(done)
}

fn is_passed_over(statement: &str) -> bool {
    let word = lexer::first_word(statement).unwrap_or_default().to_ascii_uppercase();
    match &*word {
        "BEGIN" | "COMMIT" | "END" => true,
        "PRAGMA" => lexer::any_name(statement, |name| name.eq_ignore_ascii_case("foreign_keys")),
        _ => false,
    }
}

/// Copies another database's tables, rows, indexes, views and triggers. `step` hears of rows.
pub fn sqlite(
    conn: &Connection,
    source: &Connection,
    step: Step<'_>,
) -> Result<Imported, SqlError> {
    let mut done = Imported::default();
    checked_at_the_end(conn, || {
        export::walk(source, |part| match part {
            export::Part::Statement(statement) => {
                done.statements += 1;
                query(conn, &rules(), &Query::new(statement, vec![])).map(drop)
            }
            export::Part::Row { table, columns, values } => {
                done.rows += 1;
                if done.rows.is_multiple_of(256) {
                    step(done.rows)?;
                }
                let marks = vec!["?"; values.len()].join(",");
                let insert = format!("INSERT INTO {table} ({columns}) VALUES ({marks})");
                let inserted = run(conn, &rules(), &insert, values, &mut Discard);
                inserted.map(drop).map_err(|error| SqlError {
                    message: format!(
                        "row {} of the file, for {table}: {}",
                        done.rows, error.message
                    ),
                    ..error
                })
            }
        })
    })?;
    Ok(done)
}

/// The types of a CSV file's columns: found by [`infer`], given to [`csv`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns(Vec<(String, &'static str)>);

/// Reads a CSV text through: its columns, and of each whether all of its values are integers or
/// numbers in the form in which SQLite would write them, so that nothing is lost by the type.
pub fn infer(text: impl BufRead, step: Step<'_>) -> Result<Columns, SqlError> {
    let mut records = Records::new(text);
    let names = header(&mut records)?;
    let mut kinds = vec![None; names.len()];
    while let Some(record) = next_record(&mut records, names.len())? {
        step(records.position())?;
        for (kind, field) in kinds.iter_mut().zip(&record) {
            if let Some(field) = field {
                *kind = (*kind).max(Some(Kind::of(field)));
            }
        }
    }
    let kinds = kinds.into_iter().map(|kind| match kind {
        Some(Kind::Integer) => "INTEGER",
        Some(Kind::Real) => "REAL",
        Some(Kind::Text) | None => "TEXT",
    });
    Ok(Columns(names.into_iter().zip(kinds).collect()))
}

/// From narrow to wide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Integer,
    Real,
    Text,
}

impl Kind {
    fn of(field: &str) -> Self {
        if field.parse::<i64>().is_ok_and(|value| value.to_string() == field) {
            return Self::Integer;
        }
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, rest) = field.trim_start_matches('-').split_once('.').unwrap_or((field, ""));
        let plain = !whole.is_empty() && !rest.is_empty() && digits(whole) && digits(rest);
        let same = || field.parse::<f64>().is_ok_and(|value| format!("{value:?}") == field);
        if plain && same() { Self::Real } else { Self::Text }
    }
}

fn header(records: &mut Records<impl BufRead>) -> Result<Vec<String>, SqlError> {
    let header = records.next_record()?.ok_or_else(|| failed("the CSV text is empty"))?;
    let mut names: Vec<String> = header.into_iter().map(Option::unwrap_or_default).collect();
    if let Some(first) = names.first_mut()
        && let Some(rest) = first.strip_prefix('\u{feff}')
    {
        *first = rest.trim_matches('"').to_owned();
    }
    if let Some(at) = names.iter().position(String::is_empty) {
        return Err(csv_failed(1, format!("column {} has no name", at + 1)));
    }
    Ok(names)
}

fn next_record(
    records: &mut Records<impl BufRead>,
    width: usize,
) -> Result<Option<Vec<Option<String>>>, SqlError> {
    loop {
        let line = records.line();
        let Some(record) = records.next_record()? else { return Ok(None) };
        // An empty line is no record, unless one column may be null.
        if width > 1 && matches!(record.as_slice(), [None]) {
            continue;
        }
        if record.len() != width {
            let have = record.len();
            return Err(csv_failed(line, format!("{have} fields, but the header has {width}")));
        }
        return Ok(Some(record));
    }
}

/// Takes the rows of a CSV text (RFC 4180) into a table; the first row names the columns. A table
/// that is not there is made, with the columns' types. An empty field without quotes is null.
/// `step` hears of bytes.
pub fn csv(
    conn: &Connection,
    table: &str,
    columns: &Columns,
    text: impl BufRead,
    step: Step<'_>,
) -> Result<Imported, SqlError> {
    let mut records = Records::new(text);
    let names = header(&mut records)?;
    let table = quote_name(table);
    let quoted: Vec<_> = names.iter().map(|name| quote_name(name)).collect();
    let typed: Vec<_> =
        columns.0.iter().map(|(name, kind)| format!("{} {kind}", quote_name(name))).collect();
    let create = format!("CREATE TABLE IF NOT EXISTS {table} ({})", typed.join(", "));
    query(conn, &rules(), &Query::new(create, vec![]))?;
    let marks = vec!["?"; names.len()].join(",");
    let insert = format!("INSERT INTO {table} ({}) VALUES ({marks})", quoted.join(","));
    let mut rows = 0;
    loop {
        let line = records.line();
        let Some(record) = next_record(&mut records, names.len())? else { break };
        step(records.position())?;
        let params: Vec<Value> =
            record.into_iter().map(|field| field.map_or(Value::Null, Value::Text)).collect();
        run(conn, &rules(), &insert, &params, &mut Discard).map_err(|error| SqlError {
            message: format!("line {line}: {}", error.message),
            ..error
        })?;
        rows += 1;
    }
    Ok(Imported { statements: 0, rows })
}
