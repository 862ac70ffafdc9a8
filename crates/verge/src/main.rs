//! The `verge` command: reads its arguments, puts the crates together, tells what happened.
//!
//! Only composition lives here: building is `verge-bundle`'s, running `verge-runtime`'s,
//! listening `verge-gateway`'s. Exit codes: 0 done, 1 it could not be done (the app or its
//! configuration is wrong, a port is taken), 2 the command line is wrong.

mod check;
mod cli;
mod completion;
mod db;
mod dev;
mod diagnostics;
mod failure;
mod init;
mod link;
mod package;
mod pop;
mod printer;
mod private_file;
mod running;
mod terminal;
mod tokens;
mod wire_address;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use cli::{Cli, Command};
use terminal::Terminal;

/// How long the end of what was printed may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // SAFETY: no other thread has been started yet.
    unsafe { verge_runtime::prepare_process() };
    verge_runtime::be_prompt();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::refused(&error),
    };
    let terminal = Terminal::new(&cli.output);
    let done = match cli.command {
        Command::Dev(args) => {
            forget_proxies();
            terminal.detach();
            dev::run(args, &terminal)
        }
        Command::Init(args) => init::run(&args, &terminal),
        Command::Build(args) => package::run(&args, &terminal),
        Command::Check(args) => check::run(&args, &terminal),
        Command::Db(args) => db::run(args, &terminal),
        Command::Link(args) => link::run(args, &terminal),
        Command::Pop(args) => pop::run(args, &terminal),
        Command::Completion(args) => completion::run(&args, &terminal),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.failure(&failure);
            ExitCode::from(failure.exit)
        }
    };
    printer::settle(LAST_WORDS);
    code
}

/// Apps must not send what they fetch through a proxy of this machine.
fn forget_proxies() {
    for name in verge_runtime::PROXY_VARIABLES {
        // SAFETY: the process has one thread, which is here.
        unsafe { std::env::remove_var(name) };
    }
}
