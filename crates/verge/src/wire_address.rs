//! `verge db url` and `verge db token`: how `@libsql/client` reaches a database of `verge dev`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use verge_bundle::{database_dataset, nearest};
use verge_hrana::Access;
use verge_types::PopName;

use crate::failure::Failure;
use crate::running::{DATA, DatabaseAddresses, Order, Running};
use crate::terminal::Terminal;
use crate::tokens;

/// Print where a database of the running `verge dev` answers `@libsql/client`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db url DB                 http://localhost:8787/__verge/db/guestbook/
  verge db url DB --ws            the same for WebSocket: ws://...
  verge db url DB --pop nrt       at another point of presence
  verge db token DB               the token that goes with it
The slash at the end belongs to the URL.")]
pub struct Url {
    /// Its binding, its name, or nothing if the configuration has one database
    #[arg(value_name = "DB")]
    pub database: Option<String>,
    /// For WebSocket instead of HTTP
    #[arg(long)]
    ws: bool,
}

/// Print a database's token, or make a new one.
///
/// A database has two: one that may write, one that only reads. They are made when first asked
/// for and kept in the data folder. A rotated token is refused from the next request on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db token DB                        may read and write
  verge db token DB --read-only            may read
  verge db token DB --rotate               a new one; the old one is refused
  verge db token DB --read-only --rotate")]
pub struct Token {
    /// Its binding, its name, or nothing if the configuration has one database
    #[arg(value_name = "DB")]
    pub database: Option<String>,
    /// The token that only reads
    #[arg(long)]
    read_only: bool,
    /// Make a new one in its place
    #[arg(long)]
    rotate: bool,
}

/// `name` is a `database_name`.
pub fn url(
    args: &Url,
    name: &str,
    data: Option<&Path>,
    pop: Option<&PopName>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let name = plain(name)?;
    let mut running = Running::find(data)?;
    let known: Vec<DatabaseAddresses> = running.ask(&Order::Databases)?;
    let found = find(&known, &name)?;
    let at = match pop {
        None => found.at.first(),
        Some(pop) => found.at.iter().find(|at| at.pop == pop.as_str()),
    };
    let Some(at) = at else {
        let pops: Vec<_> = found.at.iter().map(|at| at.pop.as_str()).collect();
        let pop = pop.map_or("", PopName::as_str);
        return Err(unknown("point of presence", "unknown_pop", pop, &pops));
    };
    let socket = format!("ws{}", at.url.trim_start_matches("http"));
    if terminal.is_json() {
        terminal.result(&json!({
            "database": name, "pop": at.pop, "http": at.url, "ws": socket,
        }));
    } else {
        terminal.print(if args.ws { &socket } else { &at.url });
    }
    Ok(())
}

/// `data` is where the tokens lie; without it the running verge dev says, or the app here.
pub fn token(
    args: &Token,
    name: &str,
    data: Option<&Path>,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let name = plain(name)?;
    let data = match Running::find(data) {
        Ok(mut running) => {
            find(&running.ask::<Vec<DatabaseAddresses>>(&Order::Databases)?, &name)?;
            running.data
        }
        // Nobody who could say whether there is such a database.
        Err(failure) => data.map(Path::to_owned).or_else(above).ok_or(failure)?,
    };
    let access = if args.read_only { Access::ReadOnly } else { Access::Full };
    let tokens = if args.rotate {
        tokens::rotate(&data, &name, Some(access))?
    } else {
        tokens::get(&data, &name)?
    };
    let token = tokens.of(access);
    if terminal.is_json() {
        let access = if args.read_only { "read-only" } else { "full" };
        terminal.result(&json!({ "database": name, "access": access, "token": token }));
    } else {
        terminal.print(token);
    }
    Ok(())
}

fn find<'a>(known: &'a [DatabaseAddresses], name: &str) -> Result<&'a DatabaseAddresses, Failure> {
    known.iter().find(|database| database.name == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|database| database.name.as_str()).collect();
        unknown("database", "no_database", name, &names)
    })
}

/// The data folder of the app here or above.
fn above() -> Option<PathBuf> {
    let here = std::env::current_dir().ok()?;
    here.ancestors().map(|dir| dir.join(DATA)).find(|data| data.is_dir())
}

/// The name as datasets have it.
fn plain(name: &str) -> Result<String, Failure> {
    let dataset = database_dataset(name).ok_or_else(|| {
        Failure::new("usage", format!("`{name}` is no database name"))
            .hint("use letters, digits, `-`, `_` and `.`, at most 120")
    })?;
    Ok(dataset.as_str().trim_start_matches("sql/").to_owned())
}

fn unknown(what: &str, code: &'static str, name: &str, known: &[&str]) -> Failure {
    let failure = Failure::new(code, format!("the verge dev that runs has no {what} `{name}`"));
    match (nearest(name, known.iter().copied()), known) {
        (_, []) => failure.hint("its apps have no `d1_databases`"),
        (Some(near), _) => failure.hint(format!("did you mean `{near}`?")),
        (None, _) => failure.hint(format!("there are {}", known.join(", "))),
    }
}
