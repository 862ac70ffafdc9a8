//! Takes a SQL dump, a CSV file or a SQLite file into a database. The caller holds the
//! transaction: an import happens as a whole or not at all.

use rusqlite::Connection;

use super::error::{ErrorKind, SqlError};
use super::export;
use super::lexer;
use super::policy::Policy;
use super::run::{Query, Rules, query};
use super::script::{self, Executed};
use super::value::Value;

fn rules() -> Rules<'static> {
    Rules { policy: Policy::import(), stop: None }
}

fn failed(what: impl Into<String>) -> SqlError {
    SqlError::new(ErrorKind::Migration, what)
}

/// Runs a dump. Its own transaction statements are passed over, as is the switch that would turn
/// foreign keys off: they are checked at the end instead.
pub fn sql(conn: &Connection, text: &str) -> Result<Executed, SqlError> {
    script::exec_filtered(conn, &rules(), text, |statement| {
        let word = lexer::first_word(statement).unwrap_or_default().to_ascii_uppercase();
        match &*word {
            "BEGIN" | "COMMIT" | "END" => false,
            "PRAGMA" => {
                !lexer::any_name(statement, |name| name.eq_ignore_ascii_case("foreign_keys"))
            }
            _ => true,
        }
    })
}

/// Copies another database's tables, rows, indexes, views and triggers.
pub fn sqlite(conn: &Connection, source: &Connection) -> Result<u64, SqlError> {
    let mut count = 0;
    export::statements(source, |statement| {
        count += 1;
        query(conn, &rules(), &Query::new(statement, vec![])).map(|_| ())
    })?;
    Ok(count)
}

/// Takes the rows of a CSV text (RFC 4180) into a table; the first row names the columns. A
/// table that is not there is made, its columns without a type. An empty field without quotes is
/// null. Gives the rows inserted.
pub fn csv(conn: &Connection, table: &str, text: &str) -> Result<u64, SqlError> {
    let mut records = Records { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let header = records.next_record()?.ok_or_else(|| failed("the CSV text is empty"))?;
    let names: Vec<_> = header
        .iter()
        .map(|field| export::quote_name(field.as_deref().unwrap_or_default()))
        .collect();
    let (table, list) = (export::quote_name(table), names.join(","));
    let create = format!("CREATE TABLE IF NOT EXISTS {table} ({list})");
    query(conn, &rules(), &Query::new(create, vec![]))?;
    let marks = vec!["?"; names.len()].join(",");
    let insert = format!("INSERT INTO {table} ({list}) VALUES ({marks})");
    let mut count = 0;
    loop {
        let line = records.line;
        let Some(record) = records.next_record()? else { return Ok(count) };
        if record.len() != names.len() {
            let (have, want) = (record.len(), names.len());
            return Err(failed(format!("line {line} has {have} fields, the header {want}")));
        }
        let params =
            record.into_iter().map(|field| field.map_or(Value::Null, Value::Text)).collect();
        query(conn, &rules(), &Query::new(insert.clone(), params))?;
        count += 1;
    }
}

struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl Records<'_> {
    /// The fields of the next record, `None` for an empty one without quotes.
    fn next_record(&mut self) -> Result<Option<Vec<Option<String>>>, SqlError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let mut fields = Vec::new();
        loop {
            let field = match self.rest.strip_prefix('"') {
                Some(rest) => {
                    self.rest = rest;
                    Some(self.quoted()?)
                }
                None => {
                    let end = self.rest.find([',', '\n', '\r']).unwrap_or(self.rest.len());
                    let (field, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    (!field.is_empty()).then(|| field.to_owned())
                }
            };
            fields.push(field);
            if let Some(rest) = self.rest.strip_prefix(',') {
                self.rest = rest;
                continue;
            }
            let ends = ["\r\n", "\n", "\r"];
            match ends.iter().find_map(|end| self.rest.strip_prefix(end)) {
                Some(rest) => self.rest = rest,
                None if self.rest.is_empty() => {}
                None => return Err(failed(format!("line {}: text after a quote", self.line))),
            }
            self.line += 1;
            return Ok(Some(fields));
        }
    }

    fn quoted(&mut self) -> Result<String, SqlError> {
        let mut field = String::new();
        loop {
            let end = self
                .rest
                .find('"')
                .ok_or_else(|| failed(format!("line {}: a quote is not closed", self.line)))?;
            field.push_str(&self.rest[..end]);
            self.line += self.rest[..end].matches('\n').count();
            self.rest = &self.rest[end + 1..];
            match self.rest.strip_prefix('"') {
                Some(rest) => {
                    field.push('"');
                    self.rest = rest;
                }
                None => return Ok(field),
            }
        }
    }
}
