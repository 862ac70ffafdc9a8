//! Everything that can go wrong with a dataset: who is to blame, whether a retry is worth it, and
//! what the public may read.

use std::io;
use std::sync::Arc;

use verge_types::{Blame, DatasetId, Position};

/// Why a dataset did not do what it was asked. Cheap to clone, since one failed fsync answers a
/// whole group of writers.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("there is no dataset `{0}` on this node")]
    NotFound(DatasetId),
    #[error("there is a dataset `{0}` on this node already")]
    Exists(DatasetId),
    #[error("`{text}` is no setting a dataset can have: {why}")]
    InvalidOption { text: String, why: &'static str },
    /// Replicas do not write; forward to the primary.
    #[error("this node is not the dataset's primary (its epoch is {epoch})")]
    NotPrimary { epoch: u64 },
    /// Segments come to replicas only; demote first.
    #[error("this node is the dataset's primary and takes no segments")]
    NotReplica,
    /// The lease ran out, or a newer epoch is known. The write may or may not be kept.
    #[error("this node's term as primary is over; whether the write was kept is not known")]
    Fenced,
    /// A named limit was reached; nothing was written.
    #[error("the dataset is overloaded: {what} is at its limit of {limit}")]
    Overloaded { what: &'static str, limit: u64 },
    /// Nothing was written.
    #[error("the disk is nearly full: {free} bytes are free, {needed} are kept in reserve")]
    DiskFull { free: u64, needed: u64 },
    /// The log could not be made durable. Nothing is acknowledged until the dataset has been
    /// recovered from its log, which the next use tries.
    #[error("the dataset stopped: {0}")]
    Failed(Arc<str>),
    /// It had stopped before; nothing was written.
    #[error("the dataset has stopped, and has not recovered yet: {0}")]
    Stopped(Arc<str>),
    #[error("the dataset is closed on this node; get it again")]
    Closed,
    #[error("the dataset is quarantined on this node: {0}")]
    Quarantined(Arc<str>),
    #[error("the transaction's deadline has passed; it was rolled back")]
    DeadlinePassed,
    #[error("the transaction's job panicked; it was rolled back")]
    JobPanicked,
    #[error("the job ended the transaction by itself, which only the dataset may do")]
    TransactionEnded,
    /// Durable here, but not confirmed by the others in time.
    #[error("{0} is durable on this node, but was not confirmed by others in time")]
    Unconfirmed(Position),
    #[error("epoch {given} is refused: epoch {known} is known")]
    StaleEpoch { given: u64, known: u64 },
    #[error("a segment after {wanted} was given, but the replica stands at {have}")]
    Gap { have: Position, wanted: Position },
    /// The replica's history is not the primary's.
    #[error("the replica at {at} has diverged from its primary: {why}")]
    Diverged { at: Position, why: &'static str },
    /// The log no longer reaches back that far.
    #[error("the log does not reach back to {from}: a snapshot is needed")]
    NeedSnapshot { from: Position },
    #[error("{what} cannot be restored from what is kept here")]
    NotRetained { what: String },
    #[error("{what} is damaged: {why}")]
    Corrupt { what: String, why: String },
    #[error("{what}: {source}")]
    Io { what: String, source: Arc<io::Error> },
    #[error(transparent)]
    Sqlite(Arc<rusqlite::Error>),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: Arc::new(source) }
    }

    /// What the disk said to somebody who keeps files beside a dataset's.
    pub fn from_io(what: impl Into<String>, error: io::Error) -> Self {
        Self::io(what)(error)
    }

    pub(crate) fn corrupt(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into(), why: why.into() }
    }

    /// After it, what is in memory and in the `-wal` may not be what is in the log: the writer's
    /// core must be made again.
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Corrupt { .. } | Self::Failed(_))
    }

    /// Who has to act: whoever called, or this node.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotFound(_)
            | Self::Exists(_)
            | Self::InvalidOption { .. }
            | Self::NotPrimary { .. }
            | Self::NotReplica
            | Self::DeadlinePassed
            | Self::TransactionEnded
            | Self::StaleEpoch { .. }
            | Self::Gap { .. }
            | Self::NotRetained { .. }
            | Self::NeedSnapshot { .. } => Blame::Caller,
            Self::Sqlite(error) if !is_disk_trouble(error) => Blame::Caller,
            _ => Blame::Platform,
        }
    }

    /// Whether the same call may succeed a little later on this node.
    pub fn retry(&self) -> bool {
        matches!(
            self,
            Self::Overloaded { .. }
                | Self::DiskFull { .. }
                | Self::Failed(_)
                | Self::Stopped(_)
                | Self::Closed
                | Self::DeadlinePassed
        )
    }

    /// A sentence without paths, ids or other tenants' facts.
    pub fn public(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "there is no such database",
            Self::NotPrimary { .. } | Self::Fenced | Self::StaleEpoch { .. } => {
                "the database's primary is elsewhere"
            }
            Self::Overloaded { .. } => "the database is overloaded",
            Self::DiskFull { .. } => "the database cannot grow now",
            Self::DeadlinePassed => "the transaction took too long",
            Self::Unconfirmed(_) => "the write is not confirmed by enough copies yet",
            Self::TransactionEnded => "a job must not end its transaction",
            Self::Sqlite(error) if !is_disk_trouble(error) => "the statement failed",
            _ => "the database is not available here",
        }
    }
}

/// Statement errors are the caller's; these are the node's.
fn is_disk_trouble(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as C;
    matches!(
        error.sqlite_error_code(),
        Some(C::DiskFull | C::SystemIoFailure | C::DatabaseCorrupt | C::CannotOpen)
    )
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

/// Why a write did not happen: the job's own reason, or the dataset's.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The job returned this; its transaction was rolled back.
    #[error("{0}")]
    Job(E),
    #[error(transparent)]
    Dataset(#[from] Error),
}
