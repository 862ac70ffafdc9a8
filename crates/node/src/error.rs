//! What can go wrong on a node: who is to blame, whether a retry is worth it, what may be read.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use verge_services::sql::{ErrorKind, SqlError};
use verge_types::{Blame, DatasetId, PopName};

/// A node's failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Dataset(#[from] verge_dataset::Error),
    #[error(transparent)]
    Fabric(#[from] verge_fabric::Error),
    /// The node's folder is in use.
    #[error("{dir} is in use by process {pid}")]
    InUse { dir: PathBuf, pid: u32 },
    #[error("configuration: {0}")]
    Config(String),
    #[error("there is no dataset `{0}`")]
    NoDataset(DatasetId),
    #[error("there is no point of presence `{0}` that could be primary")]
    NoPop(PopName),
    /// Nobody is primary, or nobody that can be reached, and the copy here never had any data.
    #[error("`{dataset}` is not available here: {why}")]
    Unavailable { dataset: DatasetId, why: String },
    #[error("the hand-over was called off: {0}")]
    HandOver(String),
    #[error("this node is shutting down")]
    ShuttingDown,
    /// An import would mix with what is there.
    #[error("the database has tables already")]
    NotEmpty,
    #[error("{0}")]
    Command(String),
    /// What another process answered.
    #[error("{}", .0.message)]
    Told(Told),
}

/// What a program does about a failure, whichever process it happened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    NoDataset,
    Exists,
    NotEmpty,
    NotRetained,
    InUse,
    ShuttingDown,
    /// The message says all.
    #[serde(other)]
    Other,
}

/// A failure as it travels between processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub code: Code,
    pub message: String,
}

impl From<&Error> for Told {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    pub fn code(&self) -> Code {
        use verge_dataset::Error as E;
        match self {
            Self::NoDataset(_) | Self::Dataset(E::NotFound(_)) => Code::NoDataset,
            Self::Dataset(E::Exists(_)) => Code::Exists,
            Self::Dataset(E::NotRetained { .. }) => Code::NotRetained,
            Self::NotEmpty => Code::NotEmpty,
            Self::InUse { .. } => Code::InUse,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::Told(told) => told.code,
            _ => Code::Other,
        }
    }

    /// Who has to act.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Config(_)
            | Self::NoDataset(_)
            | Self::NoPop(_)
            | Self::NotEmpty
            | Self::Command(_)
            | Self::Told(_) => Blame::Caller,
            Self::Dataset(error) => error.blame(),
            _ => Blame::Platform,
        }
    }

    /// Whether the same call may succeed a little later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Unavailable { .. } | Self::HandOver(_) | Self::ShuttingDown => true,
            Self::Dataset(error) => error.retry(),
            Self::Fabric(error) => error.retry() != verge_fabric::Retry::No,
            _ => false,
        }
    }

    /// A sentence without paths, nodes or other tenants' facts.
    pub fn public(&self) -> &'static str {
        match self {
            Self::NoDataset(_) => "there is no such database",
            Self::Dataset(error) => error.public(),
            _ => "the database is not available here",
        }
    }
}

/// For apps: nothing was changed, and the same may succeed a little later.
pub(crate) fn unavailable(message: impl Into<String>) -> SqlError {
    SqlError::new(ErrorKind::Unavailable, message)
}

/// For apps: it may have been written; it must not be sent again without a look.
pub(crate) fn outcome_unknown(message: impl std::fmt::Display) -> SqlError {
    SqlError::outcome_unknown(message)
}

/// A dataset's error in an app's words.
pub(crate) fn sql(error: &verge_dataset::Error) -> SqlError {
    use verge_dataset::Error as E;
    match error {
        E::Fenced | E::Failed(_) | E::Unconfirmed(_) => outcome_unknown(error.public()),
        E::DeadlinePassed => SqlError::new(ErrorKind::Deadline, error.to_string()),
        E::JobPanicked | E::TransactionEnded => {
            SqlError::new(ErrorKind::Internal, error.to_string())
        }
        E::Sqlite(source) => match &**source {
            verge_dataset::rusqlite::Error::SqliteFailure(code, message) => {
                let error = verge_dataset::rusqlite::Error::SqliteFailure(*code, message.clone());
                SqlError::from(error)
            }
            other => SqlError::new(ErrorKind::Internal, other.to_string()),
        },
        _ => unavailable(error.public()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_code_between_processes() {
        let id: DatasetId = "app/db".parse().expect("a name");
        for (error, code) in [
            (Error::NoDataset(id.clone()), "no_dataset"),
            (Error::Dataset(verge_dataset::Error::NotFound(id.clone())), "no_dataset"),
            (Error::Dataset(verge_dataset::Error::Exists(id)), "exists"),
            (Error::NotEmpty, "not_empty"),
            (Error::ShuttingDown, "shutting_down"),
            (Error::Command("no".to_owned()), "other"),
        ] {
            let told = serde_json::to_value(Told::from(&error)).expect("JSON");
            assert_eq!(told["code"], code, "{error}");
            let heard: Told = serde_json::from_value(told).expect("the same");
            let heard = Error::Told(heard);
            assert_eq!(heard.code(), error.code());
            assert_eq!(heard.to_string(), error.to_string());
        }
    }

    #[test]
    fn a_newer_process_may_have_codes_that_are_not_known_here() {
        let told: Told =
            serde_json::from_str(r#"{"code":"from_tomorrow","message":"no"}"#).expect("any code");
        assert_eq!(told.code, Code::Other);
    }
}
