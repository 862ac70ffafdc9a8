//! The command line: every command, flag and example, as `--help` shows them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Run edge apps: Workers, assets and everything between, in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "verge",
    version = version(),
    styles = STYLES,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  verge init my-api --template hono    start a project
  verge dev my-api                     serve it, rebuild on every change
  verge check my-api                   is everything right? serves nothing
  verge build my-api --out out         make a deployment folder
  verge db migrations apply            change a project's database

Exit codes: 0 done; 1 it could not be done (the app or its configuration is wrong);
2 the command line is wrong."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub output: Output,
}

/// How the command talks. Every command has these.
#[derive(Debug, Default, Args)]
pub struct Output {
    /// Print JSON for scripts: one object, or for `dev` one object a line; errors too
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Print only what was asked for, warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Output")]
    pub quiet: bool,
    /// Print more: every request, what was guessed, how long each step took
    #[arg(long, short, global = true, help_heading = "Output")]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Dev(Dev),
    Init(Init),
    Build(Build),
    Check(Check),
    Db(crate::db::Db),
    Link(crate::link::Link),
    Pop(crate::pop::Pop),
    Completion(Completion),
}

/// Serve apps on this machine and follow every change.
///
/// Rebuilds when a file is saved and swaps the new version in without dropping a request. A
/// build that fails leaves the last good version running; the error is in the terminal and
/// in the browser.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge dev                        the app in this folder
  verge dev api web --port 3000    two apps: http://localhost:3000 is api,
                                   http://web.localhost:3000 is web
  verge dev --host                 also for other machines of the network
  verge dev --https                with a certificate that is made once and kept
  verge dev --allow-net localhost:5432
                                   apps may reach a database on this machine
  verge dev --env staging          `env.staging` of the configuration, .dev.vars.staging
  verge dev --pops iad,fra,nrt --rtt fra-nrt=300ms
                                   three points of presence with a copy of the data each

While it runs:
  keys of the terminal (h for help), or from another one:
  verge link cut fra nrt               nothing passes between the two; slow, heal, list
  verge pop kill fra                   a crash; start brings it back
  verge db url [DB], verge db token [DB]
                                       the database for @libsql/client
  /__verge/scheduled?cron=0+*+*+*+*    runs the app's scheduled handler
  /__verge/metrics                     metrics of this process
Both answer only to this machine.")]
pub struct Dev {
    /// Folders (or configuration files) of the apps; the first one answers at localhost
    #[arg(value_name = "DIR", default_value = ".")]
    pub dirs: Vec<PathBuf>,
    /// Port to listen on; without it 8787, or the next free one
    #[arg(long, short, value_name = "N")]
    pub port: Option<u16>,
    /// Address to listen on; without a value all addresses of this machine
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0.0.0.0"
    )]
    pub host: Option<IpAddr>,
    /// Environment of the configuration
    #[arg(long, short, value_name = "NAME")]
    pub env: Option<String>,
    /// Let apps connect to a place inside: localhost:5432, db.internal:5432, 10.0.0.0/8
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub allow_net: Vec<String>,
    /// Serve HTTPS and HTTP/2 with a certificate made for this machine
    #[arg(long)]
    pub https: bool,
    /// Open the first app in the browser
    #[arg(long)]
    pub open: bool,
    /// Run cron triggers when their time comes
    #[arg(long)]
    pub crons: bool,
    /// Reload pages in the browser after every change
    #[arg(long)]
    pub live: bool,
    /// Serve several points of presence, a port each, with the round trips between their
    /// cities: iad,fra,nrt
    #[arg(long, value_name = "POP,...", value_delimiter = ',')]
    pub pops: Vec<verge_types::PopName>,
    /// Where new databases have their primary; without it the first of --pops
    #[arg(long, value_name = "POP", requires = "pops")]
    pub primary: Option<verge_types::PopName>,
    /// Another round trip between two points of presence
    #[arg(long, value_name = "A-B=TIME", value_delimiter = ',', requires = "pops")]
    pub rtt: Vec<String>,
    /// Folder of the databases; without it .verge/data beside the first app
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Start a project from a template.
///
/// Writes nothing if any file is in the way.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge init my-app                       a plain Worker in TypeScript
  verge init my-api --template hono       an API with Hono
  verge init my-page --template react     React 19, streamed
  verge init my-site --template static    files only")]
pub struct Init {
    /// Folder to make
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    #[arg(long, short, value_enum, default_value_t = Template::Worker)]
    pub template: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// One fetch handler in TypeScript, no packages
    Worker,
    /// An API with the Hono router
    Hono,
    /// A React 19 page streamed with Suspense
    React,
    /// Static files with _headers, _redirects and a 404 page
    Static,
}

/// Make a deployment folder: modules, source maps, assets, manifest.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge build                      into .verge/deployment
  verge build my-app --out /tmp/o  somewhere else
  verge build --json | jq .id      the deployment's id")]
pub struct Build {
    /// Folder (or configuration file) of the app
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Folder to write; replaced as a whole if it holds a deployment
    #[arg(long, short, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Environment of the configuration
    #[arg(long, short, value_name = "NAME")]
    pub env: Option<String>,
    /// Minify, also if the configuration does not say so
    #[arg(long)]
    pub minify: bool,
}

/// Validate the configuration and build, without serving or writing anything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge check                   the app in this folder
  verge check --limits          every limit: key, default, range, reason
  verge check --keys            every key of the configuration
  verge check --json | jq .ok   for scripts")]
pub struct Check {
    /// Folder (or configuration file) of the app
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Environment of the configuration
    #[arg(long, short, value_name = "NAME")]
    pub env: Option<String>,
    /// Print every limit and stop
    #[arg(long)]
    pub limits: bool,
    /// Print every configuration key and stop
    #[arg(long, conflicts_with = "limits")]
    pub keys: bool,
}

/// Print the completion script of a shell.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge completion bash > ~/.local/share/bash-completion/completions/verge
  verge completion zsh > ~/.zfunc/_verge
  verge completion fish > ~/.config/fish/completions/verge.fish
  verge completion powershell >> $PROFILE")]
pub struct Completion {
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

/// `0.1.0 (V8 15.0.245.5)`.
pub fn version() -> String {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), verge_runtime::engine_name())
}

/// What clap has to say: help and version are no failures, the rest is exit code 2.
pub fn refused(error: &clap::Error) -> ExitCode {
    let json = error.use_stderr() && std::env::args().any(|argument| argument == "--json");
    if json {
        let text = error.render().to_string();
        let message = text.split("\n\n").next().unwrap_or(&text);
        let message = message.strip_prefix("error: ").unwrap_or(message).trim();
        let value = serde_json::json!({ "error": { "code": "usage", "message": message } });
        crate::terminal::print_json(&value);
    } else {
        // Nobody reads it if the pipe is closed.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
