//! `verge db execute`: a script, and what its statements gave.

use std::io::Read;
use std::path::Path;

use serde_json::{Value as Json, json};
use verge_node::{Command, Executed};

use super::access::{Access, Make};
use super::args::Execute;
use super::problem::{self, Origin};
use super::project::Context;
use super::table;
use super::time::took;
use crate::failure::Failure;
use crate::terminal::{Style, Terminal};

/// Largest script: all of its results are held in memory. An import has no such limit.
const MAX_SCRIPT: u64 = 8 << 20;

pub async fn run(args: &Execute, context: &Context) -> Result<(), Failure> {
    let named = context.database(args.which.database.as_deref())?;
    let (sql, origin) = match (&args.command, &args.file) {
        (Some(sql), _) => (sql.clone(), None),
        (None, Some(file)) => (read(file)?, Some(file.as_path())),
        (None, None) => return Err(Failure::new("usage", "--command or --file is needed")),
    };
    let make = if named.may_be_made() { Make::Yes } else { Make::No };
    let access = Access::open(context, make).await?;
    let done = async {
        let pop = access.reader(context, &named).await?;
        let command = Command::Script { dataset: named.dataset.to_string(), sql: sql.clone() };
        let results: Result<Vec<Executed>, _> = access.ask(&pop, command).await;
        results.map_err(|failure| {
            let origin = origin.map_or(Origin::Text(&sql), Origin::File);
            problem::placed(failure, "the SQL failed; nothing was changed", &origin)
        })
    };
    let done = done.await;
    access.close().await;
    let results = done?;
    if context.terminal.is_json() {
        context.terminal.result(&to_json(&named.name, &results));
        return Ok(());
    }
    let with_rows = results.iter().filter(|result| !result.columns.is_empty());
    if args.csv {
        let texts: Vec<_> = with_rows.map(|one| table::csv(&one.columns, &one.rows)).collect();
        if !texts.is_empty() {
            context.terminal.print(&texts.join("\n\n"));
        }
        return Ok(());
    }
    for (at, result) in results.iter().enumerate() {
        if at > 0 && !result.columns.is_empty() {
            context.terminal.print("");
        }
        show(result, &context.terminal);
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let from: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| Failure::io("read", file, &error))?)
    };
    let read = from.take(MAX_SCRIPT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::io("read", file, &error))?;
    if bytes.len() as u64 > MAX_SCRIPT {
        let message = format!("{} is longer than {}", file.display(), table::size(MAX_SCRIPT));
        return Err(Failure::new("too_large", message)
            .hint("`verge db import DB FILE` takes SQL of any length, also in one transaction"));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new("io", format!("{} is not UTF-8 text", file.display()))
            .hint("`verge db import` takes SQLite files")
    })
}

/// One statement's result, for people.
pub fn show(result: &Executed, terminal: &Terminal) {
    let time = took(std::time::Duration::from_micros(result.duration_us));
    if result.columns.is_empty() {
        let what = if result.changes > 0 {
            format!("{} changed", table::count(result.changes, "row"))
        } else {
            "done".to_owned()
        };
        terminal.note(&terminal.paint(Style::Faint, &format!("{what} ({time})")));
        return;
    }
    if !result.rows.is_empty() {
        for line in table::lines(&result.columns, &result.rows, terminal) {
            terminal.print(&line);
        }
    }
    let count = table::count(result.rows.len() as u64, "row");
    terminal.note(&terminal.paint(Style::Faint, &format!("{count} ({time})")));
}

/// One row as an object; of two columns with one name, the later is seen, as in JavaScript.
pub fn row_object(columns: &[String], row: &[Json]) -> Json {
    columns.iter().cloned().zip(row.iter().cloned()).collect::<serde_json::Map<_, _>>().into()
}

fn to_json(database: &str, results: &[Executed]) -> Json {
    let last = results.last();
    let list: Vec<_> = results
        .iter()
        .map(|one| {
            let rows: Vec<_> = one.rows.iter().map(|row| row_object(&one.columns, row)).collect();
            json!({
                "columns": one.columns,
                "rows": rows,
                "changes": one.changes,
                "rows_read": one.rows_read,
                "rows_written": one.rows_written,
                "duration_ms": one.duration_us as f64 / 1e3,
            })
        })
        .collect();
    json!({
        "database": database,
        "results": list,
        "bookmark": last.map(|one| &one.bookmark),
        "served_by": last.map(|one| &one.region),
        "served_by_primary": last.map(|one| one.served_by_primary),
    })
}
