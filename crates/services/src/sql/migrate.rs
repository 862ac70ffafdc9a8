//! Migrations: files in order, each in a transaction, recorded where wrangler records them, in a
//! table of wrangler's shape. What a file was when it was applied (a checksum) is kept beside, in
//! a table of the platform's.

use verge_dataset::rusqlite::{Connection, OptionalExtension, params};

use super::database::{Answer, Database};
use super::error::{ErrorKind, SqlError};
use super::export::quote_name;
use super::home::Home;
use super::policy::Policy;
use super::run::{Query, Rules, query};
use super::script;
use super::value::Value;

/// Wrangler's default name.
pub const MIGRATIONS_TABLE: &str = "d1_migrations";

const CHECKSUMS: &str = "CREATE TABLE IF NOT EXISTS _verge_migrations(\
    migrations_table TEXT NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL, \
    PRIMARY KEY (migrations_table, name)) WITHOUT ROWID";

/// One file: its name orders it, its text is a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    pub name: String,
    pub sql: String,
}

/// A migration that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub name: String,
    /// UTC, as SQLite writes it.
    pub applied_at: String,
    /// [`checksum`] of its text; `None` if another tool applied it.
    pub checksum: Option<String>,
}

/// Tells one text of a migration from another (FNV-1a; no secret).
pub fn checksum(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// The number a file's name begins with: what orders migrations.
pub fn number(name: &str) -> Option<u64> {
    let digits = name.bytes().take_while(u8::is_ascii_digit).count();
    name[..digits].parse().ok()
}

fn rules() -> Rules<'static> {
    Rules { policy: Policy::import(), stop: None }
}

fn has_table(conn: &Connection, name: &str) -> Result<bool, SqlError> {
    let known = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    Ok(conn.query_row(known, [name], |_| Ok(())).optional()?.is_some())
}

/// What is recorded, in the order in which it was applied.
pub fn applied(conn: &Connection, table: &str) -> Result<Vec<Applied>, SqlError> {
    if !has_table(conn, table)? {
        return Ok(Vec::new());
    }
    let sums = has_table(conn, "_verge_migrations")?;
    let checksum = if sums {
        "(SELECT checksum FROM _verge_migrations AS s \
          WHERE s.migrations_table = ?1 AND s.name = m.name)"
    } else {
        "NULL"
    };
    let sql = format!(
        "SELECT m.name, CAST(m.applied_at AS TEXT), {checksum} FROM {} AS m \
         WHERE ?1 IS NOT NULL ORDER BY m.id",
        quote_name(table)
    );
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map([table], |row| {
        let applied_at: Option<String> = row.get(1)?;
        let applied_at = applied_at.unwrap_or_default();
        Ok(Applied { name: row.get(0)?, applied_at, checksum: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Applies one if it is not recorded yet; true if it was applied. The caller holds the
/// transaction, so that a failure leaves neither its changes nor its record.
pub fn apply(conn: &Connection, table: &str, migration: &Migration) -> Result<bool, SqlError> {
    let failed = |error: SqlError| SqlError {
        kind: ErrorKind::Migration,
        code: error.code,
        message: format!(
            "migration {} failed and changed nothing: {}",
            migration.name, error.message
        ),
    };
    let quoted = quote_name(table);
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {quoted}(id INTEGER PRIMARY KEY AUTOINCREMENT, \
         name TEXT UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)"
    );
    query(conn, &rules(), &Query::new(create, vec![])).map_err(failed)?;
    let name = vec![Value::Text(migration.name.clone())];
    let known = Query::new(format!("SELECT 1 FROM {quoted} WHERE name = ?"), name.clone());
    if !query(conn, &rules(), &known).map_err(failed)?.rows.is_empty() {
        return Ok(false);
    }
    if !super::lexer::is_blank(&migration.sql) {
        script::script(conn, &rules(), &migration.sql, false).map_err(failed)?;
    }
    let record = Query::new(format!("INSERT INTO {quoted} (name) VALUES (?)"), name);
    query(conn, &rules(), &record).map_err(failed)?;
    // The platform's own, which no policy is asked about.
    conn.execute_batch(CHECKSUMS)?;
    conn.execute(
        "INSERT OR REPLACE INTO _verge_migrations VALUES (?1, ?2, ?3)",
        params![table, migration.name, checksum(&migration.sql)],
    )?;
    Ok(true)
}

impl<H: Home> Database<H> {
    /// Applies those that are not recorded, in the order of their numbers, each in a transaction
    /// of its own; stops at the first that fails. Gives the names applied. Runs at the primary.
    pub async fn migrate(
        &self,
        mut migrations: Vec<Migration>,
    ) -> Result<Answer<Vec<String>>, SqlError> {
        migrations.sort_by(|a, b| (number(&a.name), &a.name).cmp(&(number(&b.name), &b.name)));
        let mut done = Vec::new();
        let mut last = self.home().position();
        for migration in migrations {
            let name = migration.name.clone();
            let apply = move |conn: &Connection| apply(conn, MIGRATIONS_TABLE, &migration);
            let (applied, position) = self.home().write(None, apply).await?;
            last = position;
            if applied {
                done.push(name);
            }
        }
        Ok(self.here(done, last))
    }
}
