//! What `verge db` asks of a node: the same commands in the process that owns the folder, over
//! its socket, and from one node to another.

mod run;
mod socket;

use serde::{Deserialize, Serialize};

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
    /// The database as a file at `path` on the node's machine: SQL text, or SQLite's own format.
    Export {
        dataset: String,
        path: std::path::PathBuf,
        #[serde(default)]
        sqlite: bool,
    },
    /// Removes this node's copy.
    Delete {
        dataset: String,
    },
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

/// What `Verify` found on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub node: String,
    pub pop: String,
    pub bookmark: String,
    pub epoch: u64,
    pub txid: u64,
    pub checksum: String,
    /// Its pages add up to its checksum.
    pub pages_agree: bool,
    /// Its checksum is that of the others at the same position; `None` if no other stands there.
    pub copies_agree: Option<bool>,
    pub error: Option<String>,
}
