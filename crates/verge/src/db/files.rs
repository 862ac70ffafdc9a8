//! `verge db import` and `export`: databases from files and into files. The node does the work;
//! what is piped passes through a file of the temporary folder.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value as Json, json};
use verge_node::{Command, Form as NodeForm};

use super::access::{Access, Make};
use super::args::{Export, Form, Import};
use super::problem::{self, Origin};
use super::progress::Bar;
use super::project::{Context, shown};
use super::table;
use super::time::took;
use crate::failure::Failure;
use crate::terminal::Style;

const SQLITE: &[u8] = b"SQLite format 3\0";

impl Form {
    fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "sql" => Some(Self::Sql),
            "sqlite" | "sqlite3" | "db" => Some(Self::Sqlite),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    fn for_node(self) -> NodeForm {
        match self {
            Self::Sql => NodeForm::Sql,
            Self::Sqlite => NodeForm::Sqlite,
            Self::Csv => NodeForm::Csv,
        }
    }
}

fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::io("find", path, &error))
}

fn temporary() -> Result<tempfile::TempDir, Failure> {
    let made = tempfile::Builder::new().prefix("verge-db-").tempdir();
    made.map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), &error))
}

pub async fn import(args: &Import, context: &Context) -> Result<(), Failure> {
    let named = context.database(Some(&args.database))?;
    let mut spool = None;
    let path = if is_stream(&args.file) {
        let dir = temporary()?;
        let path = dir.path().join("stdin");
        let copied = File::create_new(&path)
            .and_then(|mut file| std::io::copy(&mut std::io::stdin().lock(), &mut file));
        copied.map_err(|error| Failure::io("keep standard input in", &path, &error))?;
        spool = Some(dir);
        path
    } else {
        absolute(&args.file)?
    };
    let mut head = Vec::new();
    let opened = File::open(&path).and_then(|file| file.take(16).read_to_end(&mut head));
    opened.map_err(|error| Failure::io("read", &args.file, &error))?;
    let form = match args.format {
        Some(form) => form,
        None if head == SQLITE => Form::Sqlite,
        None if args.table.is_some() => Form::Csv,
        None => match Form::of_name(&args.file) {
            Some(Form::Sqlite) => {
                let message = format!("{} is no SQLite file", args.file.display());
                return Err(Failure::new("usage", message)
                    .hint("--format says what it is: sql, sqlite or csv"));
            }
            form => form.unwrap_or(Form::Sql),
        },
    };
    let table = match (form, &args.table) {
        (Form::Csv, Some(table)) => Some(table.clone()),
        (Form::Csv, None) => {
            let stem = args.file.file_stem().and_then(|stem| stem.to_str());
            let stem = stem.filter(|_| spool.is_none()).map(str::to_owned);
            Some(stem.ok_or_else(|| {
                Failure::new("usage", "into which table?").hint("name it with --table")
            })?)
        }
        (_, Some(_)) => {
            return Err(Failure::new("usage", "--table is for CSV files")
                .hint("a dump and a SQLite file name their tables themselves"));
        }
        (_, None) => None,
    };
    let make = if named.may_be_made() { Make::Yes } else { Make::No };
    let access = Access::open(context, make).await?;
    let began = Instant::now();
    let done = async {
        let pop = access.primary(context, &named).await?;
        let command = Command::Import {
            dataset: named.dataset.to_string(),
            path: path.clone(),
            form: form.for_node(),
            table: table.clone(),
            replace: args.replace,
        };
        let mut bar = Bar::new(&context.terminal, "importing");
        let done: Result<Json, _> =
            access.ask_watched(&pop, command, |progress| bar.show(progress)).await;
        drop(bar);
        done.map_err(|failure| {
            let summary = format!("{} was not imported; nothing was changed", args.file.display());
            let name = if spool.is_some() { &path } else { &args.file };
            problem::placed(failure, summary, &Origin::File(name))
        })
    };
    let done = done.await;
    access.close().await;
    let answer = done?;
    if context.terminal.is_json() {
        context.terminal.result(&json!({
            "database": named.name,
            "format": form.word(),
            "table": table,
            "rows": answer["rows"],
            "statements": answer["statements"],
            "bookmark": answer["bookmark"],
        }));
        return Ok(());
    }
    let rows = table::count(answer["rows"].as_u64().unwrap_or(0), "row");
    let into = table.map_or_else(|| named.name.clone(), |table| format!("{}.{table}", named.name));
    let word = context.terminal.paint(Style::Good, "imported");
    context.terminal.note(&format!("{word} {rows} into {into} ({})", took(began.elapsed())));
    Ok(())
}

impl Form {
    fn word(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::Sqlite => "sqlite",
            Self::Csv => "csv",
        }
    }
}

pub async fn export(args: &Export, context: &Context) -> Result<(), Failure> {
    let named = context.database(Some(&args.database))?;
    let guessed = if args.table.is_some() { Form::Csv } else { Form::Sql };
    let form = args.format.or_else(|| Form::of_name(&args.file)).unwrap_or(guessed);
    match (form, &args.table) {
        (Form::Csv, None) => {
            return Err(Failure::new("usage", "a CSV file is of one table: which?")
                .hint("name it with --table; a whole database is written as .sql or .sqlite"));
        }
        (Form::Sql | Form::Sqlite, Some(_)) => {
            return Err(Failure::new("usage", "--table is for CSV files")
                .hint("add --format csv, or leave --table out"));
        }
        _ => {}
    }
    let stream = is_stream(&args.file);
    if stream && context.terminal.is_json() {
        return Err(Failure::new("usage", "standard output is either the export or JSON")
            .hint("name a file"));
    }
    if !stream && !args.force && args.file.exists() {
        let message = format!("{} is there already", args.file.display());
        return Err(Failure::new("exists", message).hint("--force replaces it"));
    }
    let spool = if stream { Some(temporary()?) } else { None };
    let path = match &spool {
        Some(dir) => dir.path().join("export"),
        None => absolute(&args.file)?,
    };
    let access = Access::open(context, Make::No).await.map_err(|failure| {
        if failure.code == "no_data" { context.missing(&named) } else { failure }
    })?;
    let began = Instant::now();
    let done = async {
        // An export makes nothing.
        let known = super::project::Named { config: None, ..named.clone() };
        let pop = access.reader(context, &known).await?;
        let command = Command::Export {
            dataset: named.dataset.to_string(),
            path: path.clone(),
            form: form.for_node(),
            table: args.table.clone(),
        };
        let mut bar = Bar::new(&context.terminal, "exporting");
        let done: Json = access.ask_watched(&pop, command, |progress| bar.show(progress)).await?;
        Ok::<_, Failure>(done["bytes"].as_u64().unwrap_or(0))
    };
    let done = done.await;
    access.close().await;
    let bytes = done?;
    if stream {
        let copied = File::open(&path).and_then(|mut file| {
            let mut out = std::io::stdout().lock();
            std::io::copy(&mut file, &mut out).and_then(|_| out.flush())
        });
        return match copied {
            // Nobody reads on.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(|error| Failure::io("write", &args.file, &error)),
        };
    }
    if context.terminal.is_json() {
        context.terminal.result(&json!({
            "database": named.name,
            "file": path,
            "format": form.word(),
            "bytes": bytes,
        }));
        return Ok(());
    }
    let word = context.terminal.paint(Style::Good, "exported");
    context.terminal.note(&format!(
        "{word} {} to {} ({}, {})",
        args.table.as_ref().map_or_else(|| named.name.clone(), |t| format!("{}.{t}", named.name)),
        shown(&path),
        table::size(bytes),
        took(began.elapsed())
    ));
    Ok(())
}
