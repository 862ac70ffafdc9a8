//! `verge completion`.

use clap::CommandFactory;
use clap_complete::{Shell as Generator, generate};

use crate::cli::{Cli, Completion, Shell};
use crate::failure::Failure;
use crate::terminal::Terminal;

pub fn run(args: &Completion, terminal: &Terminal) -> Result<(), Failure> {
    let shell = match args.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
        Shell::Powershell => Generator::PowerShell,
    };
    let mut script = Vec::new();
    generate(shell, &mut Cli::command(), "verge", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if terminal.is_json() {
        terminal.result(&serde_json::json!({ "script": script }));
    } else {
        terminal.print(script.trim_end());
    }
    Ok(())
}
