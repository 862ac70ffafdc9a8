//! `verge db shell`: statements and the shell's own commands, from a terminal or a pipe.

use std::io::{BufRead, IsTerminal};

use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};
use serde_json::Value as Json;
use verge_node::{Command, Executed, is_complete_sql};
use verge_types::PopName;

use super::access::{Access, Make};
use super::args::Shell;
use super::execute::{row_object, show};
use super::line::Line;
use super::problem::{self, Origin};
use super::project::{Context, Named};
use super::table;
use crate::failure::Failure;
use crate::terminal::Style;

/// Lines of history that are kept.
const HISTORY: usize = 2_000;

const HELP: &str = "\
Statements end with ; and may span lines. Several on one line are one transaction.

  .tables            tables and views
  .schema [TABLE]    the SQL that makes them
  .mode MODE         how rows are shown: table, json, csv, line
  .help              this
  .quit              leave (also Ctrl-D)

Ctrl-C drops what was typed; Tab completes names; Up brings back what was typed before.";

/// How rows are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Table,
    Json,
    Csv,
    Line,
}

/// What a line of input means.
enum Next {
    GoOn,
    Quit,
}

struct Session<'a> {
    context: &'a Context,
    access: &'a Access,
    named: &'a Named,
    pop: PopName,
    mode: Mode,
}

pub async fn run(args: &Shell, context: &Context) -> Result<(), Failure> {
    let named = context.database(args.which.database.as_deref())?;
    let make = if named.may_be_made() { Make::Yes } else { Make::No };
    let access = Access::open(context, make).await?;
    let done = async {
        let pop = access.reader(context, &named).await?;
        let mode = if context.terminal.is_json() { Mode::Json } else { Mode::Table };
        let session = Session { context, access: &access, named: &named, pop, mode };
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            session.converse().await
        } else {
            session.follow().await
        }
    };
    let done = done.await;
    access.close().await;
    done
}

impl Session<'_> {
    /// With somebody at a terminal: an error ends nothing.
    async fn converse(mut self) -> Result<(), Failure> {
        let terminal = self.context.terminal;
        let failed = |error: ReadlineError| {
            Failure::new("io", format!("the terminal cannot be read: {error}"))
        };
        let config = Config::builder().max_history_size(HISTORY).map_err(failed)?;
        let config = config.history_ignore_space(true).build();
        let mut editor: Editor<Line, FileHistory> = Editor::with_config(config).map_err(failed)?;
        editor.set_helper(Some(Line::new(self.names().await)));
        let history = crate::private_file::state_dir().map(|dir| dir.join("sql_history"));
        if let Some(path) = &history {
            // The first time there is none.
            let _ = editor.load_history(path);
        }
        let at = if self.access.is_fleet() { format!("@{}", self.pop) } else { String::new() };
        terminal.note(&format!(
            "{}{at}; .help lists commands, .quit leaves",
            terminal.paint(Style::Strong, &self.named.name)
        ));
        let plain = format!("{}{at}> ", self.named.name);
        let painted = terminal.paint(Style::Accent, &plain);
        loop {
            let prompt = (plain.clone(), painted.clone());
            let read = tokio::task::block_in_place(|| editor.readline(&prompt));
            let text = match read {
                Ok(text) => text,
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(failed(error)),
            };
            if text.trim().is_empty() {
                continue;
            }
            // A history that cannot be kept is no reason to stop.
            let _ = editor.add_history_entry(text.trim_end());
            match self.take(&text, 1, None).await {
                Ok(Next::Quit) => break,
                Ok(Next::GoOn) => {
                    if changes_names(&text)
                        && let Some(line) = editor.helper_mut()
                    {
                        line.learn(self.names().await);
                    }
                }
                Err(failure) => terminal.failure(&failure),
            }
        }
        if let Some(path) = &history {
            let _ = path.parent().map(std::fs::create_dir_all);
            let _ = editor.save_history(path);
        }
        Ok(())
    }

    /// From a pipe: statement by statement, up to the first error.
    async fn follow(mut self) -> Result<(), Failure> {
        let mut pending = String::new();
        let mut first_line = 1;
        let mut number = 0;
        // In whole lines, which come as fast as they are taken.
        let mut lines = std::io::stdin().lock().lines();
        while let Some(line) = tokio::task::block_in_place(|| lines.next()) {
            let line = line.map_err(|error| {
                Failure::new("io", format!("cannot read standard input: {error}"))
            })?;
            number += 1;
            if pending.trim().is_empty() {
                pending.clear();
                first_line = number;
            }
            let own = pending.is_empty() && line.trim_start().starts_with('.');
            pending.push_str(&line);
            pending.push('\n');
            if own || (line.contains(';') && is_complete_sql(&pending)) {
                let text = std::mem::take(&mut pending);
                if matches!(self.take(&text, first_line, Some(number)).await?, Next::Quit) {
                    return Ok(());
                }
            }
        }
        if !pending.trim().is_empty() {
            self.take(&pending, first_line, Some(number)).await?;
        }
        Ok(())
    }

    /// One statement or command.
    async fn take(
        &mut self,
        text: &str,
        first_line: usize,
        piped: Option<usize>,
    ) -> Result<Next, Failure> {
        let trimmed = text.trim();
        if let Some(command) = trimmed.strip_prefix('.') {
            return self.command(command).await;
        }
        let results = self.script(trimmed.to_owned()).await.map_err(|failure| {
            let summary = match piped {
                Some(_) if first_line > 1 => format!("the statement of line {first_line} failed"),
                _ => "the statement failed".to_owned(),
            };
            problem::placed(failure, summary, &Origin::Text(trimmed))
        })?;
        for result in &results {
            self.show(result);
        }
        Ok(Next::GoOn)
    }

    async fn command(&mut self, command: &str) -> Result<Next, Failure> {
        let mut words = command.split_whitespace();
        let terminal = &self.context.terminal;
        let word = words.next().unwrap_or_default();
        match (word, words.next()) {
            ("quit" | "exit" | "q", _) => return Ok(Next::Quit),
            ("help" | "h", _) => terminal.print(HELP),
            ("tables", _) => {
                let names = self.names().await.join("\n");
                terminal.print(if names.is_empty() { "no tables yet" } else { &names });
            }
            ("schema", table) => self.schema(table).await?,
            ("mode", Some(mode)) => {
                self.mode = match mode {
                    "table" => Mode::Table,
                    "json" => Mode::Json,
                    "csv" => Mode::Csv,
                    "line" => Mode::Line,
                    other => {
                        return Err(Failure::new("usage", format!("`{other}` is no mode"))
                            .hint("table, json, csv or line"));
                    }
                }
            }
            ("mode", None) => terminal.print(&format!("{:?}", self.mode).to_lowercase()),
            (other, _) => {
                return Err(Failure::new("usage", format!("there is no command `.{other}`"))
                    .hint(".help lists the commands"));
            }
        }
        Ok(Next::GoOn)
    }

    async fn schema(&self, table: Option<&str>) -> Result<(), Failure> {
        let name = table
            .map(|table| format!(" AND tbl_name = '{}' COLLATE NOCASE", table.replace('\'', "''")));
        let sql = format!(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL{}{} ORDER BY rowid",
            name.unwrap_or_default(),
            own("tbl_name")
        );
        let results = self.script(sql).await?;
        let rows = results.iter().flat_map(|one| &one.rows);
        let found: Vec<_> =
            rows.filter_map(|row| Some(format!("{};", row.first()?.as_str()?))).collect();
        match (found.is_empty(), table) {
            (true, Some(table)) => {
                return Err(Failure::new("usage", format!("there is no table `{table}`"))
                    .hint(".tables lists them"));
            }
            (true, None) => self.context.terminal.print("no tables yet"),
            (false, _) => self.context.terminal.print(&found.join("\n")),
        }
        Ok(())
    }

    async fn script(&self, sql: String) -> Result<Vec<Executed>, Failure> {
        let command = Command::Script { dataset: self.named.dataset.to_string(), sql };
        self.access.ask(&self.pop, command).await
    }

    /// Tables and views, also for completion.
    async fn names(&self) -> Vec<String> {
        let sql = format!(
            "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view'){} ORDER BY name",
            own("name")
        );
        let results = self.script(sql).await.unwrap_or_default();
        let rows = results.iter().flat_map(|one| &one.rows);
        rows.filter_map(|row| row.first()?.as_str().map(str::to_owned)).collect()
    }

    fn show(&self, result: &Executed) {
        let terminal = &self.context.terminal;
        let Executed { columns, rows, .. } = result;
        match self.mode {
            Mode::Table => show(result, terminal),
            _ if columns.is_empty() => {}
            Mode::Json => {
                let rows: Vec<Json> = rows.iter().map(|row| row_object(columns, row)).collect();
                terminal.print(&Json::from(rows).to_string());
            }
            Mode::Csv => terminal.print(&table::csv(columns, rows)),
            Mode::Line => {
                let width = columns.iter().map(|name| name.chars().count()).max().unwrap_or(0);
                for (at, row) in rows.iter().enumerate() {
                    if at > 0 {
                        terminal.print("");
                    }
                    for (name, value) in columns.iter().zip(row) {
                        let value = crate::diagnostics::printable(&table::cell(value));
                        terminal.print(&format!("{name:>width$} = {value}"));
                    }
                }
            }
        }
    }
}

/// Leaves out what is the platform's and SQLite's.
fn own(name: &str) -> String {
    ["sqlite\\_%", "\\_verge\\_%", "\\_cf\\_%"]
        .iter()
        .map(|pattern| format!(" AND {name} NOT LIKE '{pattern}' ESCAPE '\\'"))
        .collect()
}

fn changes_names(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    ["CREATE", "DROP", "ALTER"].iter().any(|word| text.contains(word))
}
