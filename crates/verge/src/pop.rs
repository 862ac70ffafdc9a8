//! `verge pop`: the points of presence of a `verge dev` that runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use verge_node::RoleName;

use crate::failure::Failure;
use crate::running::{Order, PopState, Running};
use crate::terminal::{Style, Terminal};

/// List, kill and start the points of presence of a running `verge dev --pops`.
///
/// Acts on the verge dev of the app in this folder, or of the only one that runs; --data names
/// another. Killing is a crash: connections break off, nothing is said to anyone, the data stays
/// where it is. If the place was a database's primary, another takes over when its lease has
/// run out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge pop list          which are up, and where each database stands
  verge pop kill fra      as if its machine had lost its power
  verge pop start fra     on the data it had; it catches up")]
pub struct Pop {
    #[command(subcommand)]
    command: PopCommand,
    /// Data folder of the verge dev that is meant
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum PopCommand {
    /// Show every point of presence and its databases
    List,
    /// End one as a crash would
    Kill {
        #[arg(value_name = "POP")]
        pop: String,
    },
    /// Start one that was killed
    Start {
        #[arg(value_name = "POP")]
        pop: String,
    },
}

pub fn run(args: Pop, terminal: &Terminal) -> Result<(), Failure> {
    let mut running = Running::find(args.data.as_deref())?;
    let (pop, order, done, not) = match args.command {
        PopCommand::List => {
            let pops: Vec<PopState> = running.ask(&Order::Pops)?;
            if terminal.is_json() {
                terminal.result(&json!({ "pops": pops }));
            } else {
                for pop in &pops {
                    show(pop, terminal);
                }
            }
            return Ok(());
        }
        PopCommand::Kill { pop } => {
            (pop.clone(), Order::Kill { pop }, "is down", "was down already")
        }
        PopCommand::Start { pop } => (pop.clone(), Order::Start { pop }, "is up", "was up already"),
    };
    let changed: bool = running.ask(&order)?;
    if terminal.is_json() {
        terminal.result(&json!({ "pop": pop, "changed": changed }));
    } else {
        terminal.print(&format!("{pop} {}", if changed { done } else { not }));
    }
    Ok(())
}

fn show(pop: &PopState, terminal: &Terminal) {
    let state =
        if pop.up { terminal.paint(Style::Good, "up") } else { terminal.paint(Style::Bad, "down") };
    terminal.print(&format!("{}  {state}  {}", pop.pop, terminal.paint(Style::Faint, &pop.url)));
    for status in &pop.databases {
        let role = match status.role {
            RoleName::Primary => "primary".to_owned(),
            RoleName::Asleep => "asleep".to_owned(),
            RoleName::Replica => match status.lag_ms {
                Some(lag) => format!("replica, {lag} ms behind at most"),
                None => "replica, never heard its primary".to_owned(),
            },
        };
        let relay = status.relay.as_ref().filter(|_| status.role == RoleName::Replica);
        let by_way = relay.map(|relay| format!(", by way of {relay}")).unwrap_or_default();
        let name = status.dataset.trim_start_matches("sql/");
        let waiting = match status.waiting {
            0 => String::new(),
            waiting => terminal.paint(Style::Warn, &format!(", writes that wait: {waiting}")),
        };
        let at = format!("{}/{}", status.epoch, status.txid);
        terminal.print(&format!("     {name}  {at}  {role}{by_way}{waiting}"));
    }
}
