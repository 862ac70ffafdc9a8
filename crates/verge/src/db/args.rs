//! The command line of `verge db`, as `--help` shows it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use verge_types::PopName;

/// Work with the SQL databases of a project.
///
/// A database is named by its binding or by `database_name` of the configuration. While `verge
/// dev` runs, commands speak to it; otherwise they open the data folder themselves.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  verge db list                                        what is there
  verge db migrations create DB add-users              start a migration
  verge db migrations apply                            run those that did not run yet
  verge db execute DB --command 'SELECT * FROM users'  ask
  verge db shell                                       ask again and again
  verge db import DB dump.sql                          take a dump, a SQLite file or CSV in
  verge db restore DB --at '10m ago'                   undo

With one database in the configuration its name can be left out where it stands in brackets."
)]
pub struct Db {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub place: Place,
}

/// Where the databases are. Every command has these.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// Folder (or configuration file) of the project; without it this folder
    #[arg(long, global = true, value_name = "DIR", help_heading = "Where")]
    pub config: Option<PathBuf>,
    /// Environment of the configuration
    #[arg(long, short, global = true, value_name = "NAME", help_heading = "Where")]
    pub env: Option<String>,
    /// Folder of the databases, as given to `verge dev`; without it .verge/data of the project
    #[arg(long, global = true, value_name = "DIR", help_heading = "Where")]
    pub data: Option<PathBuf>,
    /// Point of presence to ask; without it the primary's
    #[arg(long, global = true, value_name = "POP", help_heading = "Where")]
    pub pop: Option<PopName>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Create(Create),
    List(List),
    /// Show a database: where it is, how large, how far back it can be restored.
    #[command(after_help = "Examples:
  verge db info
  verge db info DB --json | jq .bookmark")]
    Info(One),
    Shell(Shell),
    Execute(Execute),
    Migrations(Migrations),
    Import(Import),
    Export(Export),
    Branch(Branch),
    Restore(Restore),
    Lag(Lag),
    MovePrimary(MovePrimary),
    /// Read all copies of a database through and compare them.
    ///
    /// Each page against the rolling checksum, tables and indexes by SQLite's own check, each
    /// segment of the log, and the copies with each other. The exit code is 1 if anything differs.
    #[command(after_help = "Examples:
  verge db verify
  verge db verify DB --json | jq .ok")]
    Verify(One),
    Delete(Delete),
    Url(crate::wire_address::Url),
    Token(crate::wire_address::Token),
}

/// Make an empty database.
///
/// Databases of the configuration are also made by the first use.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db create DB                the one that the configuration binds as DB
  verge db create shop              one of that name
  verge db create shop --pop fra    with its primary at fra")]
pub struct Create {
    #[arg(value_name = "DB")]
    pub database: String,
}

/// List the databases of the project and of its data folder.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db list
  verge db list --json | jq -r '.databases[].name'")]
pub struct List {}

/// Which database.
#[derive(Debug, Args)]
pub struct Database {
    /// Its binding, its name, or nothing if the configuration has one database
    #[arg(value_name = "DB")]
    pub database: Option<String>,
}

#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    pub which: Database,
}

/// Ask a database again and again.
///
/// Statements end with `;` and may span lines. `.help` lists the shell's own commands. What is
/// piped in runs statement by statement, and the first error ends it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db shell
  echo 'SELECT 1;' | verge db shell DB
  verge db shell DB --pop nrt       read the copy at nrt")]
pub struct Shell {
    #[command(flatten)]
    pub which: Database,
}

/// Run SQL.
///
/// Several statements are one transaction: all of them happen or none. What only reads runs at
/// the point of presence that is asked, the rest at the primary.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db execute DB --command 'SELECT * FROM users LIMIT 3'
  verge db execute DB --file seed.sql
  verge db execute DB --command 'SELECT * FROM users' --csv > users.csv
  verge db execute DB -c 'SELECT id FROM users' --json | jq '.results[0].rows[].id'
  cat seed.sql | verge db execute DB --file -")]
pub struct Execute {
    #[command(flatten)]
    pub which: Database,
    /// SQL to run
    #[arg(long, short, value_name = "SQL", required_unless_present = "file")]
    pub command: Option<String>,
    /// File with SQL to run; - is standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "command")]
    pub file: Option<PathBuf>,
    /// Print the rows as CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// Change the tables step by step: numbered files that run once.
///
/// Files are `NNNN_name.sql` in `migrations_dir` of the configuration (`migrations` without it).
/// What ran is recorded in the table `migrations_table` (`d1_migrations`), as wrangler does.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, disable_help_subcommand = true)]
pub struct Migrations {
    #[command(subcommand)]
    pub command: MigrationsCommand,
}

#[derive(Debug, Subcommand)]
pub enum MigrationsCommand {
    Create(MigrationsCreate),
    List(MigrationsList),
    Apply(MigrationsApply),
}

/// Write a new, empty migration with the next number.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db migrations create DB add-users      writes migrations/0001_add-users.sql")]
pub struct MigrationsCreate {
    #[arg(value_name = "DB")]
    pub database: String,
    /// What it does, in a few words
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Show which migrations ran and which did not yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db migrations list
  verge db migrations list --json | jq '.pending | length'")]
pub struct MigrationsList {
    #[command(flatten)]
    pub which: Database,
}

/// Run the migrations that did not run yet, in order.
///
/// Each is one transaction with its record: one that fails changes nothing, and those after it
/// are not tried.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db migrations apply
  verge db migrations apply DB --env staging")]
pub struct MigrationsApply {
    #[command(flatten)]
    pub which: Database,
}

/// Take a SQL dump, a SQLite file or a CSV file in.
///
/// One transaction: all of it or nothing. What kind of file it is, is seen from its content and
/// name. Dumps of `wrangler d1 export` and of sqlite3's `.dump` are taken as they are. A CSV file's
/// first line names the columns; its table is made if it is not there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db import DB dump.sql                     run a dump
  verge db import DB old.sqlite                   copy a SQLite file into an empty database
  verge db import DB old.sqlite --replace         in place of what is there
  verge db import DB people.csv --table people    add the rows of a CSV file
  curl -s https://example.com/d.sql | verge db import DB -")]
pub struct Import {
    #[arg(value_name = "DB")]
    pub database: String,
    /// File to read; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What the file is, if that is not to be guessed
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<Form>,
    /// Where the rows of a CSV file go; without it the file's name
    #[arg(long, short, value_name = "TABLE")]
    pub table: Option<String>,
    /// Remove what is there first: all tables, or the rows of the CSV file's table
    #[arg(long)]
    pub replace: bool,
}

/// Write a database to a file.
///
/// One state of it, whatever is written meanwhile. The file appears when it is whole.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db export DB dump.sql                  SQL text
  verge db export DB copy.sqlite               a SQLite file
  verge db export DB users.csv --table users   one table
  verge db export DB - | gzip > dump.sql.gz    to standard output")]
pub struct Export {
    #[arg(value_name = "DB")]
    pub database: String,
    /// File to write; - is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What to write; without it by the file's name, else SQL
    #[arg(long, value_enum, value_name = "FORM")]
    pub format: Option<Form>,
    /// The table of a CSV file
    #[arg(long, short, value_name = "TABLE")]
    pub table: Option<String>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// SQL text
    Sql,
    /// SQLite's own format
    Sqlite,
    /// One table, comma-separated, with a header
    Csv,
}

/// A moment in a database's history.
#[derive(Clone, Debug, Default, Args)]
pub struct Moment {
    /// A time: 2026-11-25T14:00:00Z, '2026-11-25 14:00' (this machine's time), or '10m ago'
    #[arg(long, value_name = "TIME", conflicts_with = "bookmark")]
    pub at: Option<String>,
    /// A bookmark, as commands and `env.DB` give it
    #[arg(long, value_name = "BOOKMARK")]
    pub bookmark: Option<String>,
}

/// Make a new database from the state of another one.
///
/// Both go their own ways from then on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db branch DB experiment                 from its state of now
  verge db branch DB yesterday --at '1d ago'    from an older one")]
pub struct Branch {
    #[arg(value_name = "DB")]
    pub database: String,
    /// Name of the new database
    #[arg(value_name = "NEW")]
    pub new: String,
    #[command(flatten)]
    pub moment: Moment,
}

/// Bring an older state of a database back.
///
/// As a new transaction at the primary, so that replicas follow, and that it can be undone: the
/// bookmark of the state before is printed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db restore DB --at '10m ago'
  verge db restore DB --at 2026-11-25T14:00:00Z --yes
  verge db restore DB --bookmark 00000001-000000000000002a-9f1c33d0")]
pub struct Restore {
    #[arg(value_name = "DB")]
    pub database: String,
    #[command(flatten)]
    pub moment: Moment,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Show how far each point of presence is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db lag
  verge db lag DB --watch          again each second, until Ctrl-C")]
pub struct Lag {
    #[command(flatten)]
    pub which: Database,
    /// Show it again each second
    #[arg(long, short)]
    pub watch: bool,
}

/// Move a database's primary to another point of presence.
///
/// A planned hand-over: nothing is lost, and writes wait for a moment.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db move-primary DB fra")]
pub struct MovePrimary {
    #[arg(value_name = "DB")]
    pub database: String,
    /// The new primary's point of presence
    #[arg(value_name = "POP")]
    pub to: PopName,
}

/// Remove a database, with all of its copies and its history.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge db export DB backup.sqlite && verge db delete DB
  verge db delete experiment --yes")]
pub struct Delete {
    #[arg(value_name = "DB")]
    pub database: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}
