//! `verge db migrations`: numbered files of SQL, as wrangler has them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use verge_bundle::DatabaseConfig;
use verge_node::{AppliedMigration, Command, Migrated, MigrationFile, Node, migration_checksum};
use verge_types::PopName;

use super::access::{Access, Make};
use super::args::{Database, MigrationsApply, MigrationsCreate, MigrationsList};
use super::problem::{self, Origin};
use super::progress::Bar;
use super::project::{Context, Named, shown};
use super::table;
use crate::failure::Failure;
use crate::terminal::{Style, Terminal};

/// Largest file of migrations, bytes.
const MAX_FILE: u64 = 16 << 20;
/// How long `verge dev` waits for what a database knows of its migrations.
const TELL_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// A file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MigrationPath {
    number: u64,
    name: String,
    path: PathBuf,
}

/// The files of a folder in their order: by number, then by name.
fn files(dir: &Path) -> Result<Vec<MigrationPath>, Failure> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io("read", dir, &error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Failure::io("read", dir, &error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            continue;
        };
        if !name.ends_with(".sql") || name.starts_with('.') || !path.is_file() {
            continue;
        }
        let digits = name.bytes().take_while(u8::is_ascii_digit).count();
        let Ok(number) = name[..digits].parse() else {
            let message = format!("{} has no number to be ordered by", shown(&path));
            return Err(Failure::new("migrations", message)
                .hint("name it like 0001_name.sql, or move it out of the folder"));
        };
        found.push(MigrationPath { number, name, path });
    }
    found.sort_by(|a, b| (a.number, &a.name).cmp(&(b.number, &b.name)));
    Ok(found)
}

fn read(path: &Path) -> Result<String, Failure> {
    let length = std::fs::metadata(path).map(|metadata| metadata.len());
    if length.is_ok_and(|length| length > MAX_FILE) {
        let message = format!("{} is longer than {}", shown(path), table::size(MAX_FILE));
        return Err(
            Failure::new("migrations", message).hint("`verge db import` takes data of any size")
        );
    }
    std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))
}

/// What ran, what did not yet, and what does not fit.
#[derive(Debug, Default)]
struct Standing {
    applied: Vec<AppliedMigration>,
    pending: Vec<MigrationPath>,
    warnings: Vec<String>,
}

fn compare(dir: &Path, applied: Vec<AppliedMigration>) -> Result<Standing, Failure> {
    let files = files(dir)?;
    let recorded: BTreeMap<&str, &AppliedMigration> =
        applied.iter().map(|one| (one.name.as_str(), one)).collect();
    let (mut pending, mut warnings) = (Vec::new(), Vec::new());
    let last = files
        .iter()
        .filter(|file| recorded.contains_key(file.name.as_str()))
        .map(|f| f.number)
        .max();
    for pair in files.windows(2).filter(|pair| pair[0].number == pair[1].number) {
        warnings.push(format!("{} and {} have the same number", pair[0].name, pair[1].name));
    }
    for file in &files {
        let Some(record) = recorded.get(file.name.as_str()) else {
            if last.is_some_and(|last| file.number < last) {
                let name = &file.name;
                warnings.push(format!("{name} is older than one that ran already; it runs now"));
            }
            pending.push(file.clone());
            continue;
        };
        let changed = record.checksum.as_ref().is_some_and(|sum| {
            std::fs::read_to_string(&file.path).is_ok_and(|text| migration_checksum(&text) != *sum)
        });
        if changed {
            warnings.push(format!(
                "{} was changed after it ran; what it says now does not run again",
                file.name
            ));
        }
    }
    for one in applied.iter().filter(|one| !files.iter().any(|file| file.name == one.name)) {
        warnings.push(format!("{} ran, but the file is gone", one.name));
    }
    Ok(Standing { applied, pending, warnings })
}

async fn standing(
    config: &DatabaseConfig,
    access: &Access,
    pop: &PopName,
) -> Result<Standing, Failure> {
    let command = Command::Migrations {
        dataset: config.dataset.to_string(),
        table: config.migrations_table.clone(),
    };
    compare(&config.migrations_dir, access.ask(pop, command).await?)
}

/// Names of those that did not run yet.
pub async fn pending(
    config: &DatabaseConfig,
    access: &Access,
    pop: &PopName,
) -> Result<Vec<String>, Failure> {
    let standing = standing(config, access, pop).await?;
    Ok(standing.pending.into_iter().map(|file| file.name).collect())
}

/// For `verge dev`: tells of migrations that did not run, in one line a database.
pub async fn tell_pending(
    node: &Node,
    databases: &[DatabaseConfig],
    terminal: &Terminal,
    app: &str,
) {
    for config in databases {
        let Ok(files) = files(&config.migrations_dir) else { continue };
        if files.is_empty() {
            continue;
        }
        let applied = tokio::time::timeout(TELL_WITHIN, applied_at(node, config)).await;
        let Ok(Some(applied)) = applied else { continue };
        let count = files.iter().filter(|f| !applied.iter().any(|a| a.name == f.name)).count();
        if count > 0 {
            let count = table::count(count as u64, "migration");
            terminal.warning(app, &format!(
                "{count} of {} did not run yet; `verge db migrations apply {}` runs what is pending",
                config.name, config.name
            ));
        }
    }
}

async fn applied_at(node: &Node, config: &DatabaseConfig) -> Option<Vec<AppliedMigration>> {
    let there = node.list().await.ok()?.contains(&config.dataset);
    if !there {
        return Some(Vec::new());
    }
    let dataset = config.dataset.to_string();
    let table = config.migrations_table.clone();
    let answer = node.run(Command::Migrations { dataset, table }).await.ok()?;
    serde_json::from_value(answer).ok()
}

/// Only what the configuration names has a folder of migrations.
fn configured(context: &Context, which: &Database) -> Result<(Named, DatabaseConfig), Failure> {
    let named = context.database(which.database.as_deref())?;
    match named.config.clone() {
        Some(config) => Ok((named, config)),
        None => Err(Failure::new(
            "no_database",
            format!("the configuration has no database `{}`", named.name),
        )
        .hint("add it to `d1_databases`, whose `migrations_dir` says where its migrations are")),
    }
}

pub fn create(args: &MigrationsCreate, context: &Context) -> Result<(), Failure> {
    let which = Database { database: Some(args.database.clone()) };
    let (_, config) = configured(context, &which)?;
    let dir = &config.migrations_dir;
    let name: String = args
        .name
        .trim()
        .trim_end_matches(".sql")
        .chars()
        .map(|c| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' })
        .collect();
    if name.trim_matches(['_', '.', '-']).is_empty() {
        return Err(Failure::new("usage", "the migration needs a name")
            .hint("say in a few words what it does: add-users"));
    }
    let next = files(dir)?.last().map_or(1, |last| last.number + 1);
    let path = dir.join(format!("{next:04}_{name}.sql"));
    std::fs::create_dir_all(dir).map_err(|error| Failure::io("make", dir, &error))?;
    let now = super::time::rfc3339_now();
    let text = format!("-- Migration number: {next:04} \t {now}\n");
    let written = std::fs::File::create_new(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|error| Failure::io("write", &path, &error))?;
    if context.terminal.is_json() {
        context.terminal.result(&json!({ "created": path }));
    } else {
        context.terminal.print(&shown(&path));
        let next = format!("write SQL into it, then: verge db migrations apply {}", config.name);
        context.terminal.note(&context.terminal.paint(Style::Faint, &next));
    }
    Ok(())
}

pub async fn list(args: &MigrationsList, context: &Context) -> Result<(), Failure> {
    let (named, config) = configured(context, &args.which)?;
    let access = Access::open_if_there(context).await?;
    let found = match &access {
        None => compare(&config.migrations_dir, Vec::new()),
        Some(access) => {
            let done = async {
                // A look makes nothing.
                let named = Named { config: None, ..named.clone() };
                match access.reader(context, &named).await {
                    Ok(pop) => standing(&config, access, &pop).await,
                    Err(failure) if failure.code == "no_database" => {
                        compare(&config.migrations_dir, Vec::new())
                    }
                    Err(failure) => Err(failure),
                }
            };
            let done = done.await;
            access.close().await;
            done
        }
    };
    let Standing { applied, pending, warnings } = found?;
    let terminal = &context.terminal;
    if terminal.is_json() {
        terminal.result(&json!({
            "database": named.name,
            "applied": applied,
            "pending": pending.iter().map(|file| &file.name).collect::<Vec<_>>(),
            "warnings": warnings,
        }));
        return Ok(());
    }
    if applied.is_empty() && pending.is_empty() {
        terminal.note(&format!(
            "no migrations in {}; `verge db migrations create {} NAME` writes the first",
            shown(&config.migrations_dir),
            named.name
        ));
    } else {
        let ran =
            applied.iter().map(|one| vec![one.name.clone(), format!("{} UTC", one.applied_at)]);
        let waits = pending.iter().map(|file| vec![file.name.clone(), "pending".to_owned()]);
        let rows: Vec<_> = ran.chain(waits).collect();
        for line in table::list(&["MIGRATION", "APPLIED"], &rows, terminal) {
            terminal.print(&line);
        }
        if !pending.is_empty() {
            let next = format!("verge db migrations apply {} runs what is pending", named.name);
            terminal.note(&terminal.paint(Style::Faint, &next));
        }
    }
    for warning in &warnings {
        terminal.warning(&named.name, warning);
    }
    Ok(())
}

pub async fn apply(args: &MigrationsApply, context: &Context) -> Result<(), Failure> {
    let (named, config) = configured(context, &args.which)?;
    // Before anything is made.
    let any = !files(&config.migrations_dir)?.is_empty();
    if !any {
        let message = format!("there are no migrations in {}", shown(&config.migrations_dir));
        return Err(Failure::new("migrations", message)
            .hint(format!("`verge db migrations create {} NAME` writes the first", named.name)));
    }
    let access = Access::open(context, Make::Yes).await?;
    let done = apply_at(&named, &config, &access, context).await;
    access.close().await;
    let (standing, migrated) = done?;
    let terminal = &context.terminal;
    if !terminal.is_json() {
        for warning in &standing.warnings {
            terminal.warning(&named.name, warning);
        }
        for name in &migrated.applied {
            terminal.print(&format!("{} {name}", terminal.paint(Style::Good, "applied")));
        }
    }
    if let Some(failed) = &migrated.failed {
        let left = standing.pending.len() - migrated.applied.len() - 1;
        let mut summary = format!("{} failed and changed nothing", failed.name);
        if left > 0 {
            summary.push_str(&format!(
                "; {} after it did not run",
                table::count(left as u64, "migration")
            ));
        }
        let path = config.migrations_dir.join(&failed.name);
        let error = format!("D1_EXEC_ERROR: {}", failed.error);
        let failure = problem::of_node(&verge_node::Error::Command(error));
        return Err(problem::placed(failure, summary, &Origin::File(Path::new(&shown(&path)))));
    }
    if terminal.is_json() {
        terminal.result(&json!({
            "database": named.name,
            "applied": migrated.applied,
            "bookmark": migrated.bookmark,
            "warnings": standing.warnings,
        }));
    } else if migrated.applied.is_empty() {
        let count = table::count(standing.applied.len() as u64, "migration");
        terminal.note(&format!("nothing to do: {count} ran already"));
    }
    Ok(())
}

async fn apply_at(
    named: &Named,
    config: &DatabaseConfig,
    access: &Access,
    context: &Context,
) -> Result<(Standing, Migrated), Failure> {
    let pop = access.primary(context, named).await?;
    let standing = standing(config, access, &pop).await?;
    let mut migrations = Vec::new();
    for file in &standing.pending {
        migrations.push(MigrationFile { name: file.name.clone(), sql: read(&file.path)? });
    }
    if migrations.is_empty() {
        return Ok((standing, Migrated::default()));
    }
    let command = Command::Migrate {
        dataset: config.dataset.to_string(),
        table: config.migrations_table.clone(),
        migrations,
    };
    let mut bar = Bar::new(&context.terminal, "migrating");
    let migrated = access.ask_watched(&pop, command, |progress| bar.show(progress)).await?;
    Ok((standing, migrated))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(name: &str, text: Option<&str>) -> AppliedMigration {
        let checksum = text.map(migration_checksum);
        AppliedMigration { name: name.to_owned(), applied_at: String::new(), checksum }
    }

    #[test]
    fn files_are_ordered_by_number_and_compared_with_the_records() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["0010_ten.sql", "2_two.sql", "0001_one.sql", "notes.md", "0003_new.sql"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        let ran = vec![
            applied("0001_one.sql", Some("0001_one.sql")),
            applied("2_two.sql", Some("something else")),
            applied("0010_ten.sql", None),
            applied("0009_gone.sql", None),
        ];
        let standing = compare(dir.path(), ran).expect("compared");
        let pending: Vec<_> = standing.pending.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(pending, ["0003_new.sql"]);
        let warned = standing.warnings.join("\n");
        assert!(warned.contains("2_two.sql was changed"), "{warned}");
        assert!(warned.contains("0003_new.sql is older"), "{warned}");
        assert!(warned.contains("0009_gone.sql ran, but"), "{warned}");
        std::fs::write(dir.path().join("seed.sql"), "").expect("written");
        let failure = files(dir.path()).expect_err("a file without a number");
        assert!(failure.message.contains("seed.sql"), "{}", failure.message);
    }
}
