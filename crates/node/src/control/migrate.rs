//! Migrations of a database: which are recorded, and applying those that are not.

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use verge_dataset::rusqlite::Connection;
use verge_services::sql::{Home, migrate};
use verge_types::{Bookmark, DatasetId};

use super::Report;
use super::files::LONGEST;
use super::run::command_error;
use crate::error::Error;
use crate::node::Node;

/// A file of migrations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationFile {
    pub name: String,
    pub sql: String,
}

/// A migration that is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedMigration {
    pub name: String,
    /// UTC, as SQLite writes it.
    pub applied_at: String,
    /// Of its text when it was applied; `None` if another tool applied it.
    pub checksum: Option<String>,
}

/// What `Migrate` did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    pub applied: Vec<String>,
    /// The one that failed, and changed nothing; those after it were not tried.
    pub failed: Option<MigrationFailure>,
    pub bookmark: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationFailure {
    pub name: String,
    /// Begins with `line 3, column 8: ` where a statement is to blame.
    pub error: String,
}

impl Node {
    pub(super) async fn migrations(
        &self,
        id: &DatasetId,
        table: String,
    ) -> Result<Vec<AppliedMigration>, Error> {
        let database = self.existing(id).await?;
        let reading = spawn_blocking(move || {
            let reader = database.home().reader()?;
            migrate::applied(&reader, &table)
        });
        let applied = reading.await.map_err(|_| Error::ShuttingDown)?.map_err(command_error)?;
        let one = |one: migrate::Applied| AppliedMigration {
            name: one.name,
            applied_at: one.applied_at,
            checksum: one.checksum,
        };
        Ok(applied.into_iter().map(one).collect())
    }

    pub(super) async fn migrate(
        &self,
        id: &DatasetId,
        table: &str,
        migrations: Vec<MigrationFile>,
        report: &Report,
    ) -> Result<Migrated, Error> {
        let database = self.existing(id).await?;
        let mut done = Migrated::default();
        report.total(migrations.len() as u64);
        for (at, file) in migrations.into_iter().enumerate() {
            report.step(at as u64).map_err(command_error)?;
            let (name, table) = (file.name.clone(), table.to_owned());
            let migration = migrate::Migration { name: file.name, sql: file.sql };
            let job = move |conn: &Connection| migrate::apply(conn, &table, &migration);
            match database.home().write_long(LONGEST, job).await {
                Ok((true, _)) => done.applied.push(name),
                Ok((false, _)) => {}
                Err(error) => {
                    let own = format!("migration {name} failed and changed nothing: ");
                    let error = error.message.replacen(&own, "", 1);
                    done.failed = Some(MigrationFailure { name, error });
                    break;
                }
            }
        }
        done.bookmark = Bookmark::new(id, database.home().position()).to_string();
        Ok(done)
    }
}
