//! `verge db`: the SQL databases of a project, from the command line.
//!
//! `project` finds which database is meant, `access` the nodes that have it (a running process,
//! or this one: `fleet`), and each command is a question to one of them. What commands do to data
//! is the node's business (`verge_node::Command`); here is only asking and showing.

mod access;
mod args;
mod confirm;
mod execute;
mod files;
mod fleet;
mod history;
mod line;
mod manage;
mod migrations;
mod problem;
mod progress;
mod project;
mod replicas;
mod shell;
mod table;
mod time;

pub use args::Db;
pub use migrations::tell_pending;

use args::{Command, MigrationsCommand};
use project::Context;

use crate::failure::Failure;
use crate::terminal::Terminal;
use crate::wire_address;

pub fn run(args: Db, terminal: &Terminal) -> Result<(), Failure> {
    let Db { command, place } = args;
    let (data, pop) = (place.data.as_deref(), place.pop.as_ref());
    match &command {
        Command::Url(args) => {
            let name = project::name_for_running(&place, terminal, args.database.as_deref())?;
            wire_address::url(args, &name, data, pop, terminal)
        }
        Command::Token(args) => {
            let name = project::name_for_running(&place, terminal, args.database.as_deref())?;
            wire_address::token(args, &name, data, terminal)
        }
        _ => ask(&command, place, terminal),
    }
}

/// What a node answers.
fn ask(command: &Command, place: args::Place, terminal: &Terminal) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("io", format!("cannot start the event loop: {error}")))?;
    let context = Context::new(place, *terminal)?;
    runtime.block_on(async {
        tokio::spawn(access::end_on_interrupt());
        match command {
            Command::Create(args) => manage::create(args, &context).await,
            Command::List(_) => manage::list(&context).await,
            Command::Info(args) => manage::info(args, &context).await,
            Command::Shell(args) => shell::run(args, &context).await,
            Command::Execute(args) => execute::run(args, &context).await,
            Command::Migrations(args) => match &args.command {
                MigrationsCommand::Create(args) => migrations::create(args, &context),
                MigrationsCommand::List(args) => migrations::list(args, &context).await,
                MigrationsCommand::Apply(args) => migrations::apply(args, &context).await,
            },
            Command::Import(args) => files::import(args, &context).await,
            Command::Export(args) => files::export(args, &context).await,
            Command::Branch(args) => history::branch(args, &context).await,
            Command::Restore(args) => history::restore(args, &context).await,
            Command::Lag(args) => replicas::lag(args, &context).await,
            Command::MovePrimary(args) => replicas::move_primary(args, &context).await,
            Command::Verify(args) => replicas::verify(args, &context).await,
            Command::Delete(args) => manage::delete(args, &context).await,
            // Needs no node: see `run`.
            Command::Url(_) | Command::Token(_) => Ok(()),
        }
    })
}
