//! A database as SQL text, and as the bytes of a SQLite file.

use verge_dataset::rusqlite::{Connection, ffi};

use super::csv;
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
    stands_alone(&mut bytes);
    Ok(bytes)
}

/// What a database is made of, in the order in which it can be made anew.
pub(crate) enum Part<'a> {
    Statement(&'a str),
    /// `table` and `columns` are quoted.
    Row {
        table: &'a str,
        columns: &'a str,
        values: &'a [ValueRef<'a>],
    },
}

/// Hands out tables, rows, then indexes, views and triggers. The caller holds a read transaction
/// if others write. The platform's own tables are left out.
pub(crate) fn walk(
    conn: &Connection,
    mut each: impl FnMut(Part<'_>) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    each(Part::Statement("PRAGMA defer_foreign_keys=TRUE"))?;
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
        each(Part::Statement(sql))?;
        rows(conn, name, &mut each)?;
    }
    let counters = "SELECT name FROM sqlite_schema WHERE name = 'sqlite_sequence'";
    if !column(conn, counters)?.is_empty() {
        each(Part::Statement("DELETE FROM sqlite_sequence"))?;
        rows(conn, "sqlite_sequence", &mut each)?;
    }
    let rest = pairs(
        conn,
        "SELECT tbl_name, sql FROM sqlite_schema WHERE type IN ('index', 'view', 'trigger') \
         AND sql IS NOT NULL ORDER BY type = 'trigger', rowid",
    )?;
    for (_, sql) in rest.iter().filter(|(table, _)| !left_out(table)) {
        each(Part::Statement(sql))?;
    }
    Ok(())
}

/// Hands out the statements that make the database anew.
pub fn statements(
    conn: &Connection,
    mut each: impl FnMut(&str) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    walk(conn, |part| match part {
        Part::Statement(sql) => each(sql),
        Part::Row { table, columns, values } => {
            let values: Vec<_> = values.iter().map(|value| literal(*value)).collect();
            each(&format!("INSERT INTO {table} ({columns}) VALUES ({})", values.join(",")))
        }
    })
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

/// How many rows [`statements`] or [`to_csv`] will hand out, of all tables or of one.
pub fn count_rows(conn: &Connection, table: Option<&str>) -> Result<u64, SqlError> {
    let mut count = 0;
    let tables = "SELECT name FROM pragma_table_list WHERE schema = 'main' \
                  AND type IN ('table', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    for name in column(conn, tables)? {
        if !rules::is_reserved(&name) && table.is_none_or(|table| table == name) {
            let rows = raw::simple(conn, &format!("SELECT count(*) FROM {}", quote_name(&name)))?;
            count += rows.max(0) as u64;
        }
    }
    Ok(count)
}

/// Hands out the pages of the database as the bytes of a SQLite file, in order. The caller holds a
/// read transaction. Bounded memory, unlike [`serialize`].
pub fn pages(
    conn: &Connection,
    mut each: impl FnMut(&[u8]) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    // The page that holds the bytes which SQLite locks has no content.
    let size = raw::simple(conn, "PRAGMA page_size")?.max(512);
    let (count, lock) = (raw::simple(conn, "PRAGMA page_count")?, (1 << 30) / size + 1);
    let select = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
    let Some((mut statement, _)) = Statement::prepare(conn, select, false)? else { return Ok(()) };
    for number in 1..=count {
        if number == lock {
            each(&vec![0; usize::try_from(size).unwrap_or_default()])?;
            continue;
        }
        statement.bind(1, ValueRef::Integer(number));
        if statement.step() != ffi::SQLITE_ROW {
            return Err(raw::last_error(conn));
        }
        let Ok(ValueRef::Blob(page)) = statement.value(0) else {
            return Err(SqlError::new(ErrorKind::Dump, format!("page {number} cannot be read")));
        };
        if number == 1 {
            let mut page = page.to_vec();
            stands_alone(&mut page);
            each(&page)?;
        } else {
            each(page)?;
        }
        statement.reset();
    }
    Ok(())
}

/// The file does not come with its -wal: marks it as one that needs none.
fn stands_alone(first_page: &mut [u8]) {
    if let Some(format) = first_page.get_mut(18..20) {
        format.fill(1);
    }
}

/// Hands out a table or view as CSV (RFC 4180), its header first: null is an empty field, an empty
/// text is `""`, a blob is hexadecimal.
pub fn to_csv(
    conn: &Connection,
    table: &str,
    mut each: impl FnMut(&str) -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    let known = format!(
        "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') \
         AND name = {} COLLATE NOCASE",
        quote_text(table)
    );
    let name = column(conn, &known)?.pop().filter(|name| !rules::is_reserved(name));
    let Some(name) = name else {
        return Err(SqlError::new(ErrorKind::Dump, format!("there is no table `{table}`")));
    };
    let select = format!("SELECT * FROM {}", quote_name(&name));
    let Some((mut statement, _)) = Statement::prepare(conn, &select, false)? else {
        return Ok(());
    };
    let width = statement.column_count();
    let mut line = String::new();
    let names = (0..width).map(|index| csv::quote(&statement.column_name(index)).into_owned());
    each(&(names.collect::<Vec<_>>().join(",") + "\n"))?;
    loop {
        match statement.step() {
            ffi::SQLITE_ROW => {
                line.clear();
                for index in 0..width {
                    if index > 0 {
                        line.push(',');
                    }
                    match statement.value(index) {
                        Ok(ValueRef::Null) => {}
                        Ok(ValueRef::Integer(value)) => line.push_str(&value.to_string()),
                        Ok(ValueRef::Real(value)) => line.push_str(&format!("{value:?}")),
                        Ok(ValueRef::Text(text)) => line.push_str(&csv::quote(text)),
                        Ok(ValueRef::Blob(bytes)) => {
                            bytes.iter().for_each(|byte| line.push_str(&format!("{byte:02x}")));
                        }
                        Err(text) => line.push_str(&csv::quote(&String::from_utf8_lossy(text))),
                    }
                }
                line.push('\n');
                each(&line)?;
            }
            ffi::SQLITE_DONE => return Ok(()),
            _ => return Err(raw::last_error(conn)),
        }
    }
}

fn rows(
    conn: &Connection,
    table: &str,
    each: &mut impl FnMut(Part<'_>) -> Result<(), SqlError>,
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
                let values: Result<Vec<_>, _> =
                    (0..columns.len()).map(|index| statement.value(index)).collect();
                if let Ok(values) = values {
                    each(Part::Row { table: &quoted, columns: &list, values: &values })?;
                    continue;
                }
                // A text that is not UTF-8 cannot travel as a value.
                let values: Vec<_> = (0..columns.len())
                    .map(|i| statement.value(i).map_or_else(hex, literal))
                    .collect();
                let values = values.join(",");
                each(Part::Statement(&format!("INSERT INTO {quoted} ({list}) VALUES ({values})")))?;
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
pub(crate) fn pairs(conn: &Connection, sql: &str) -> Result<Vec<(String, String)>, SqlError> {
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
