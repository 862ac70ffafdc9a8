//! What `verge db` asks of a node: the same commands in the process that owns the folder, over
//! its socket, and from one node to another.

mod execute;
mod files;
mod history;
mod migrate;
mod report;
mod run;
mod socket;
mod verify;

use serde::{Deserialize, Serialize};

pub use migrate::{AppliedMigration, Migrated, MigrationFailure, MigrationFile};
pub use report::{Progress, Report};
pub use socket::ControlClient;
pub(crate) use socket::serve;

/// A question or an order. As JSON: `{"command": "info", "dataset": "app/main"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// All datasets: of this node, and of the other nodes that can be reached.
    List,
    /// One dataset on this node.
    Info {
        dataset: String,
    },
    /// All datasets of this node that are in use.
    Status,
    /// Runs statements (all or none), as an app of this PoP would. Makes the dataset if `create`.
    Execute {
        dataset: String,
        sql: String,
        #[serde(default)]
        params: Vec<serde_json::Value>,
        #[serde(default)]
        create: bool,
    },
    /// Makes a dataset that is not there yet.
    Create {
        dataset: String,
    },
    /// Runs a script, all of it or nothing, and gives what each of its statements gave: a list of
    /// [`Executed`]. What only reads runs here. A failure names line and column.
    Script {
        dataset: String,
        sql: String,
    },
    /// Which node is primary, once one is.
    Primary {
        dataset: String,
        #[serde(default)]
        create: bool,
    },
    /// The oldest state that can be restored here, and the one that a bookmark or a time means.
    Locate {
        dataset: String,
        #[serde(default)]
        bookmark: Option<String>,
        #[serde(default)]
        time_ms: Option<u64>,
    },
    /// The migrations that are recorded here.
    Migrations {
        dataset: String,
        table: String,
    },
    /// Applies those that are not recorded, in the order given, each in a transaction with its
    /// record, up to the first that fails. At the primary.
    Migrate {
        dataset: String,
        table: String,
        migrations: Vec<MigrationFile>,
    },
    /// Takes a file of the node's machine in, all of it or nothing. At the primary.
    Import {
        dataset: String,
        path: std::path::PathBuf,
        form: Form,
        /// Where the rows of a CSV file go.
        #[serde(default)]
        table: Option<String>,
        /// Everything that is there (of a CSV file's table: its rows) goes first.
        #[serde(default)]
        replace: bool,
    },
    /// One dataset on all nodes.
    Lag {
        dataset: String,
    },
    MovePrimary {
        dataset: String,
        to: String,
    },
    /// Compares all copies that can be reached.
    Verify {
        dataset: String,
    },
    /// Reads this node's copy through and compares it with its rolling checksum.
    VerifyHere {
        dataset: String,
    },
    /// Makes `to` from the state of `from` here: of now, of a bookmark, or of a time.
    Branch {
        from: String,
        to: String,
        #[serde(default)]
        bookmark: Option<String>,
        #[serde(default)]
        time_ms: Option<u64>,
    },
    /// Brings an older state back, as a new transaction at the primary.
    Restore {
        dataset: String,
        #[serde(default)]
        bookmark: Option<String>,
        #[serde(default)]
        time_ms: Option<u64>,
    },
    /// The database as a file at `path` on the node's machine, whole or not at all.
    Export {
        dataset: String,
        path: std::path::PathBuf,
        form: Form,
        /// Which table a CSV file is of.
        #[serde(default)]
        table: Option<String>,
    },
    /// Removes this node's copy.
    Delete {
        dataset: String,
    },
    /// Removes all copies, and what the fleet knows of it.
    DeleteEverywhere {
        dataset: String,
    },
}

/// What a database looks like as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// SQL text: a dump.
    Sql,
    /// SQLite's own format.
    Sqlite,
    /// One table, with a header.
    Csv,
}

/// A state in a dataset's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub bookmark: String,
    /// When it was committed, ms since 1970; 0 for the empty beginning.
    pub time_ms: u64,
    /// Groups of transactions since the beginning.
    pub txid: u64,
}

/// What `Locate` found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    pub oldest: State,
    pub target: State,
    pub now: State,
}

/// What `Execute` gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executed {
    pub columns: Vec<String>,
    /// Blobs are `{"blob": "<hexadecimal>"}`.
    pub rows: Vec<Vec<serde_json::Value>>,
    pub changes: u64,
    pub rows_read: u64,
    pub rows_written: u64,
    pub duration_us: u64,
    pub served_by: String,
    pub region: String,
    pub served_by_primary: bool,
    pub bookmark: String,
    /// How many statements of a script ran; 1 for a single statement.
    pub statements: u64,
}

fn was_reached() -> bool {
    true
}

/// What `Verify` found on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub node: String,
    pub pop: String,
    /// False where nobody could ask it: then nothing below is known.
    #[serde(default = "was_reached")]
    pub reached: bool,
    pub bookmark: String,
    pub epoch: u64,
    pub txid: u64,
    pub checksum: String,
    /// Its pages add up to its checksum.
    pub pages_agree: bool,
    /// SQLite's own check of its tables and indexes, and that of each segment of the log.
    #[serde(default)]
    pub file_is_sound: bool,
    #[serde(default)]
    pub log_segments: u64,
    /// Its checksum is that of the others at the same position; `None` if no other stands there.
    pub copies_agree: Option<bool>,
    pub error: Option<String>,
}
