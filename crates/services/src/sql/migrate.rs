//! Migrations: files in order, each in a transaction, recorded where wrangler records them.

use verge_dataset::rusqlite::Connection;

use super::database::{Answer, Database};
use super::error::{ErrorKind, SqlError};
use super::home::Home;
use super::policy::Policy;
use super::run::{Query, Rules, query};
use super::script;
use super::value::Value;

/// Wrangler's default name.
pub const MIGRATIONS_TABLE: &str = "d1_migrations";

const CREATE: &str = "CREATE TABLE IF NOT EXISTS d1_migrations(\
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, \
    applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)";

/// One file: its name orders it, its text is a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    pub name: String,
    pub sql: String,
}

fn rules() -> Rules<'static> {
    Rules { policy: Policy::import(), stop: None }
}

/// The names that are recorded, in the order they were applied.
pub fn applied(conn: &Connection) -> Result<Vec<String>, SqlError> {
    let known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'd1_migrations'";
    if query(conn, &rules(), &Query::new(known, vec![]))?.rows.is_empty() {
        return Ok(Vec::new());
    }
    let names = Query::new("SELECT name FROM d1_migrations ORDER BY id", vec![]);
    let rows = query(conn, &rules(), &names)?.rows;
    Ok(rows
        .values
        .into_iter()
        .filter_map(|value| match value {
            Value::Text(name) => Some(name),
            _ => None,
        })
        .collect())
}

/// Applies one if it is not recorded yet; true if it was applied. The caller holds the
/// transaction, so that a failure leaves neither its changes nor its record.
pub fn apply(conn: &Connection, migration: &Migration) -> Result<bool, SqlError> {
    let failed = |error: SqlError| SqlError {
        kind: ErrorKind::Migration,
        code: error.code,
        message: format!(
            "migration {} failed and changed nothing: {}",
            migration.name, error.message
        ),
    };
    query(conn, &rules(), &Query::new(CREATE, vec![])).map_err(failed)?;
    let name = vec![Value::Text(migration.name.clone())];
    let known = Query::new("SELECT 1 FROM d1_migrations WHERE name = ?", name.clone());
    if !query(conn, &rules(), &known).map_err(failed)?.rows.is_empty() {
        return Ok(false);
    }
    if !super::lexer::is_blank(&migration.sql) {
        script::exec(conn, &rules(), &migration.sql).map_err(failed)?;
    }
    let record = Query::new("INSERT INTO d1_migrations (name) VALUES (?)", name);
    query(conn, &rules(), &record).map_err(failed)?;
    Ok(true)
}

impl<H: Home> Database<H> {
    /// Applies those that are not recorded, in the order of their names, each in a transaction
    /// of its own; stops at the first that fails. Gives the names applied. Runs at the primary.
    pub async fn migrate(
        &self,
        mut migrations: Vec<Migration>,
    ) -> Result<Answer<Vec<String>>, SqlError> {
        migrations.sort_by(|a, b| a.name.cmp(&b.name));
        let mut done = Vec::new();
        let mut last = self.home().position();
        for migration in migrations {
            let name = migration.name.clone();
            let (applied, position) =
                self.home().write(None, move |conn| apply(conn, &migration)).await?;
            last = position;
            if applied {
                done.push(name);
            }
        }
        Ok(self.here(done, last))
    }
}
