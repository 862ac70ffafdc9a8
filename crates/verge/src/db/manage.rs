//! `verge db create`, `list`, `info`, `delete`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};
use verge_node::{Command, DatasetStatus, Executed, Located, RoleName};
use verge_types::PopName;

use super::access::{Access, Make};
use super::args::{Create, Delete, One};
use super::confirm::confirm;
use super::migrations;
use super::project::{Context, Named, name_of};
use super::table;
use super::time;
use crate::failure::Failure;
use crate::terminal::Style;

pub async fn create(args: &Create, context: &Context) -> Result<(), Failure> {
    let named = context.database(Some(&args.database))?;
    let access = Access::open(context, Make::Yes).await?;
    let done = create_at(&named, context, &access).await;
    access.close().await;
    let primary = done?;
    if context.terminal.is_json() {
        context.terminal.result(&json!({
            "created": named.name,
            "data": context.data,
            "primary": primary.as_str(),
        }));
        return Ok(());
    }
    let at = if access.is_fleet() { format!(", its primary at {primary}") } else { String::new() };
    let made = context.terminal.paint(Style::Good, "made");
    context.terminal.note(&format!("{made} database {}{at}", named.name));
    if named.config.is_none() {
        let entry = json!([{ "binding": "DB", "database_name": named.name }]);
        context.terminal.note(&format!(
            "to give it to an app as `env.DB`, put this into the configuration:\n  \
             \"d1_databases\": {entry}"
        ));
    }
    Ok(())
}

async fn create_at(named: &Named, context: &Context, access: &Access) -> Result<PopName, Failure> {
    let dataset = named.dataset.to_string();
    for pop in access.pops() {
        let info = Command::Info { dataset: dataset.clone() };
        if access.ask::<DatasetStatus>(&pop, info).await.is_ok() {
            return Err(Failure::new("exists", format!("there is a database `{}`", named.name))
                .hint(format!("`verge db info {}` shows it", named.name)));
        }
    }
    let command = Command::Create { dataset: dataset.clone() };
    access.ask::<DatasetStatus>(access.default_pop(), command).await?;
    let primary = access.primary(context, named).await?;
    match access.asked() {
        Some(wanted) if *wanted != primary => {
            let to = wanted.as_str().to_owned();
            access.ask::<Json>(&primary, Command::MovePrimary { dataset, to }).await?;
            Ok(wanted.clone())
        }
        _ => Ok(primary),
    }
}

/// A database of the list.
struct Listed {
    name: String,
    bindings: Vec<String>,
    pops: BTreeSet<String>,
    status: Option<DatasetStatus>,
}

pub async fn list(context: &Context) -> Result<(), Failure> {
    let mut all: BTreeMap<String, Listed> = BTreeMap::new();
    for config in context.databases() {
        let listed = all.entry(config.dataset.to_string()).or_insert_with(|| Listed {
            name: config.name.clone(),
            bindings: Vec::new(),
            pops: BTreeSet::new(),
            status: None,
        });
        listed.bindings.push(config.binding.clone());
    }
    let access = Access::open_if_there(context).await?;
    if let Some(access) = &access {
        let done = find_all(access, &mut all).await;
        access.close().await;
        done?;
    }
    let fleet = access.as_ref().is_some_and(Access::is_fleet);
    if context.terminal.is_json() {
        let list: Vec<_> = all
            .values()
            .map(|one| {
                json!({
                    "name": one.name,
                    "bindings": one.bindings,
                    "exists": one.status.is_some(),
                    "bytes": one.status.as_ref().map(|status| status.bytes),
                    "bookmark": one.status.as_ref().map(|status| &status.bookmark),
                    "primary": one.status.as_ref().and_then(|status| status.primary_pop.clone()),
                    "pops": one.pops,
                })
            })
            .collect();
        context.terminal.result(&json!({ "data": context.data, "databases": list }));
        return Ok(());
    }
    if all.is_empty() {
        context.terminal.note("no databases yet; `verge db create NAME` makes one");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .values()
        .map(|one| {
            let dash = || "-".to_owned();
            let binding = one.bindings.join(", ");
            let binding = if binding.is_empty() { dash() } else { binding };
            let size = one
                .status
                .as_ref()
                .map_or_else(|| "not made yet".to_owned(), |status| table::size(status.bytes));
            let mut row = vec![one.name.clone(), binding, size];
            if fleet {
                let primary = one.status.as_ref().and_then(|status| status.primary_pop.clone());
                row.push(primary.unwrap_or_else(dash));
                row.push(one.pops.iter().cloned().collect::<Vec<_>>().join(", "));
            }
            row
        })
        .collect();
    let columns: &[&str] = if fleet {
        &["NAME", "BINDING", "SIZE", "PRIMARY", "COPIES"]
    } else {
        &["NAME", "BINDING", "SIZE"]
    };
    for line in table::list(columns, &rows, &context.terminal) {
        context.terminal.print(&line);
    }
    Ok(())
}

/// Asks every place what it has.
async fn find_all(access: &Access, all: &mut BTreeMap<String, Listed>) -> Result<(), Failure> {
    for pop in access.pops() {
        let found: Json = access.ask(&pop, Command::List).await?;
        for one in found["datasets"].as_array().into_iter().flatten() {
            let Some(dataset) = one["dataset"].as_str() else { continue };
            let Some(name) = name_of(dataset) else { continue };
            let command = Command::Info { dataset: dataset.to_owned() };
            let Ok(status) = access.ask::<DatasetStatus>(&pop, command).await else { continue };
            let listed = all.entry(dataset.to_owned()).or_insert_with(|| Listed {
                name: name.to_owned(),
                bindings: Vec::new(),
                pops: BTreeSet::new(),
                status: None,
            });
            listed.pops.insert(pop.as_str().to_owned());
            let better = status.role == RoleName::Primary
                || listed.status.as_ref().is_none_or(|known| known.txid < status.txid);
            if better {
                listed.status = Some(status);
            }
        }
    }
    Ok(())
}

pub async fn info(args: &One, context: &Context) -> Result<(), Failure> {
    let named = context.database(args.which.database.as_deref())?;
    let access = Access::open(context, Make::No).await.map_err(|failure| {
        if failure.code == "no_data" { context.missing(&named) } else { failure }
    })?;
    let done = look(&named, context, &access).await;
    access.close().await;
    let found = done?;
    let terminal = &context.terminal;
    let Found { status, tables, rows_of, history, pending } = &found;
    if terminal.is_json() {
        terminal.result(&json!({
            "name": named.name,
            "binding": named.config.as_ref().map(|config| &config.binding),
            "bytes": status.bytes,
            "tables": tables.iter().zip(rows_of).map(|(name, rows)| {
                json!({ "name": name, "rows": rows })
            }).collect::<Vec<_>>(),
            "pop": status.pop,
            "role": status.role,
            "health": status.health,
            "primary": status.primary_pop,
            "bookmark": status.bookmark,
            "txid": status.txid,
            "changed_at": (status.committed_ms > 0).then(|| time::rfc3339(status.committed_ms)),
            "restorable_since": history.as_ref()
                .map(|history| (history.oldest.time_ms > 0).then(|| time::rfc3339(history.oldest.time_ms))),
            "restorable_from": history.as_ref().map(|history| &history.oldest.bookmark),
            "pending_migrations": pending,
            "set_aside": status.set_aside,
            "data": context.data,
        }));
        return Ok(());
    }
    let line = |name: &str, value: String| {
        let name = terminal.paint(Style::Accent, &format!("{name:<14}"));
        terminal.print(&format!("{name} {value}"));
    };
    line("database", named.name.clone());
    if let Some(config) = &named.config {
        line("binding", format!("env.{}", config.binding));
    }
    line("size", table::size(status.bytes));
    let list: Vec<_> = tables
        .iter()
        .zip(rows_of)
        .map(|(name, rows)| format!("{name} ({})", table::count(*rows, "row")))
        .collect();
    line("tables", if list.is_empty() { "none".to_owned() } else { list.join(", ") });
    if access.is_fleet() {
        line("primary", status.primary_pop.clone().unwrap_or_else(|| "unknown".to_owned()));
    }
    if status.committed_ms > 0 {
        line("last change", time::shown(status.committed_ms));
    }
    line("bookmark", status.bookmark.clone());
    if let Some(history) = history {
        let since = match history.oldest.time_ms {
            0 => "every state since it was made".to_owned(),
            ms => format!("every state since {}", time::shown(ms)),
        };
        line("can restore", since);
    }
    if !pending.is_empty() {
        let count = table::count(pending.len() as u64, "migration");
        line("pending", format!("{count}: `verge db migrations apply {}`", named.name));
    }
    if status.set_aside > 0 {
        let tails = table::count(status.set_aside, "tail");
        line(
            "set aside",
            format!("{tails} of a history that was lost (quarantine/ in its folder)"),
        );
    }
    line("data", context.data.display().to_string());
    Ok(())
}

struct Found {
    status: DatasetStatus,
    tables: Vec<String>,
    rows_of: Vec<u64>,
    history: Option<Located>,
    pending: Vec<String>,
}

async fn look(named: &Named, context: &Context, access: &Access) -> Result<Found, Failure> {
    // A look makes nothing.
    let named = Named { config: None, ..named.clone() };
    let pop = access.reader(context, &named).await?;
    let dataset = named.dataset.to_string();
    let status: DatasetStatus =
        access.ask(&pop, Command::Info { dataset: dataset.clone() }).await?;
    let script = |sql: String| Command::Script { dataset: dataset.clone(), sql };
    let names: Vec<Executed> = access.ask(&pop, script(TABLES.to_owned())).await?;
    let tables: Vec<String> = names
        .iter()
        .flat_map(|one| &one.rows)
        .filter_map(|row| row.first()?.as_str().map(str::to_owned))
        .collect();
    let mut rows_of = Vec::new();
    if !tables.is_empty() {
        let counts: Vec<_> = tables
            .iter()
            .map(|name| format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\"")))
            .collect();
        let counted: Vec<Executed> = access.ask(&pop, script(counts.join(";\n"))).await?;
        let count = |one: &Executed| one.rows.first()?.first()?.as_u64();
        rows_of.extend(counted.iter().map(|one| count(one).unwrap_or_default()));
    }
    let locate = Command::Locate { dataset, bookmark: None, time_ms: None };
    let history = access.ask(&pop, locate).await.ok();
    let config = context.databases().iter().find(|one| one.dataset == named.dataset);
    let pending = match config {
        Some(config) => migrations::pending(config, access, &pop).await?,
        None => Vec::new(),
    };
    Ok(Found { status, tables, rows_of, history, pending })
}

/// An app's own tables.
const TABLES: &str = "SELECT name FROM pragma_table_list WHERE schema = 'main' \
    AND type IN ('table', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
    AND name NOT LIKE '\\_verge\\_%' ESCAPE '\\' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' \
    ORDER BY name LIMIT 200";

pub async fn delete(args: &Delete, context: &Context) -> Result<(), Failure> {
    let named = context.database(Some(&args.database))?;
    let known = Named { config: None, ..named.clone() };
    let access = Access::open(context, Make::No).await.map_err(|failure| {
        if failure.code == "no_data" { context.missing(&named) } else { failure }
    })?;
    let done = async {
        let pop = access.primary(context, &known).await?;
        let dataset = named.dataset.to_string();
        let status: DatasetStatus =
            access.ask(&pop, Command::Info { dataset: dataset.clone() }).await?;
        let question = format!(
            "delete the database {} ({}) and all of its history for good",
            named.name,
            table::size(status.bytes)
        );
        confirm(&context.terminal, &question, args.yes)?;
        access.ask::<Json>(&pop, Command::DeleteEverywhere { dataset }).await
    };
    let done = done.await;
    access.close().await;
    let answer = done?;
    if context.terminal.is_json() {
        context.terminal.result(&json!({ "deleted": named.name, "nodes": answer["nodes"] }));
        return Ok(());
    }
    let word = context.terminal.paint(Style::Good, "deleted");
    context.terminal.note(&format!("{word} {}", named.name));
    if access.is_running() && named.may_be_made() {
        context.terminal.note("restart `verge dev`: the app holds what was there");
    }
    Ok(())
}
