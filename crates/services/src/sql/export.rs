//! A database as SQL text, and as the bytes of a SQLite file.

use rusqlite::{Connection, ffi};

use super::error::{ErrorKind, SqlError};
use super::raw::{self, Statement};
use super::rules;
use super::value::ValueRef;

/// The database's bytes as a file that any SQLite opens.
///
/// # Errors
/// [`ErrorKind::Dump`], also where it is larger than `max_bytes`: it is held in memory.
pub fn serialize(conn: &Connection, max_bytes: u64) -> Result<Vec<u8>, SqlError> {
    let failed = |text: String| SqlError::new(ErrorKind::Dump, text);
    let number = |sql| raw::simple(conn, sql).map_err(|error| failed(error.message));
    let size = number("PRAGMA page_count")? * number("PRAGMA page_size")?;
    if size.max(0) as u64 > max_bytes {
        return Err(failed(format!("the database has {size} bytes; dump gives {max_bytes}")));
    }
    let mut bytes = raw::serialize(conn).ok_or_else(|| failed("out of memory".to_owned()))?;
    // The file does not come with its -wal: mark it as one that needs none.
    if let Some(format) = bytes.get_mut(18..20) {
        format.fill(1);
    }
    Ok(bytes)
}

/// Hands out the statements that make the database anew: tables, rows, then indexes, views and
/// triggers. The caller holds a read transaction if others write. The platform's own tables are
/// left out.
pub fn statements(
    conn: &Connection,
    mut each: impl FnMut(&str) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    each("PRAGMA defer_foreign_keys=TRUE")?;
    let shadows = column(
        conn,
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'shadow'",
    )?;
    let left_out = |name: &str| rules::is_reserved(name) || shadows.iter().any(|s| s == name);
    let tables = pairs(
        conn,
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND sql IS NOT NULL \
         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid",
    )?;
    for (name, sql) in tables.iter().filter(|(name, _)| !left_out(name)) {
        each(sql)?;
        rows(conn, name, &mut each)?;
    }
    let counters = "SELECT name FROM sqlite_schema WHERE name = 'sqlite_sequence'";
    if !column(conn, counters)?.is_empty() {
        each("DELETE FROM sqlite_sequence")?;
        rows(conn, "sqlite_sequence", &mut each)?;
    }
    let rest = pairs(
        conn,
        "SELECT tbl_name, sql FROM sqlite_schema WHERE type IN ('index', 'view', 'trigger') \
         AND sql IS NOT NULL ORDER BY type = 'trigger', rowid",
    )?;
    for (_, sql) in rest.iter().filter(|(table, _)| !left_out(table)) {
        each(sql)?;
    }
    Ok(())
}

/// The same as one text.
pub fn to_sql(conn: &Connection) -> Result<String, SqlError> {
    let mut text = String::new();
    statements(conn, |sql| {
        text.push_str(sql);
        text.push_str(";\n");
        Ok(())
    })?;
    Ok(text)
}

fn rows(
    conn: &Connection,
    table: &str,
    each: &mut impl FnMut(&str) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let quoted = quote_name(table);
    // Generated columns are made, not written.
    let info =
        format!("SELECT name FROM pragma_table_xinfo({}) WHERE hidden = 0", quote_text(table));
    let columns: Vec<_> = column(conn, &info)?.iter().map(|name| quote_name(name)).collect();
    if columns.is_empty() {
        return Ok(());
    }
    let list = columns.join(",");
    let select = format!("SELECT {list} FROM {quoted}");
    let Some((mut statement, _)) = Statement::prepare(conn, &select, false)? else {
        return Ok(());
    };
    loop {
        match statement.step() {
            ffi::SQLITE_ROW => {
                let values: Vec<_> = (0..columns.len())
                    .map(|i| statement.value(i).map_or_else(hex, literal))
                    .collect();
                each(&format!("INSERT INTO {quoted} ({list}) VALUES ({})", values.join(",")))?;
            }
            ffi::SQLITE_DONE => return Ok(()),
            _ => return Err(raw::last_error(conn)),
        }
    }
}

fn column(conn: &Connection, sql: &str) -> Result<Vec<String>, SqlError> {
    Ok(pairs(conn, sql)?.into_iter().map(|(first, _)| first).collect())
}

/// The first two columns of each row, as text.
fn pairs(conn: &Connection, sql: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut all = Vec::new();
    let Some((mut statement, _)) = Statement::prepare(conn, sql, false)? else { return Ok(all) };
    let width = statement.column_count();
    loop {
        match statement.step() {
            ffi::SQLITE_ROW => {
                let text = |index| match statement.value(index) {
                    Ok(ValueRef::Text(text)) if index < width => text.to_owned(),
                    _ => String::new(),
                };
                all.push((text(0), if width > 1 { text(1) } else { String::new() }));
            }
            ffi::SQLITE_DONE => return Ok(all),
            _ => return Err(raw::last_error(conn)),
        }
    }
}

/// A name that stands for itself wherever it goes.
pub(crate) fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("CAST(x'{digits}' AS TEXT)")
}

/// A value as SQL that gives the same value back.
fn literal(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        // The lowest integer is no literal: its digits without the sign are too large.
        ValueRef::Integer(i64::MIN) => "(-9223372036854775807-1)".to_owned(),
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) if value == f64::INFINITY => "9e999".to_owned(),
        ValueRef::Real(value) if value == f64::NEG_INFINITY => "-9e999".to_owned(),
        ValueRef::Real(value) => format!("{value:e}"),
        // SQL text ends at a NUL.
        ValueRef::Text(text) if text.contains('\0') => hex(text.as_bytes()),
        ValueRef::Text(text) => quote_text(text),
        ValueRef::Blob(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{digits}'")
        }
    }
}
