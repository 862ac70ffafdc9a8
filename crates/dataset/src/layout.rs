//! Where a dataset's files are.

use std::path::{Path, PathBuf};

use verge_types::DatasetId;

/// A dataset's folder. Ids have no `+`, so `a/b` and `a` never meet in one folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
}

impl Layout {
    pub(crate) fn new(store: &Path, id: &DatasetId) -> Self {
        Self { dir: store.join(id.as_str().replace('/', "+")) }
    }

    /// The id a folder's name stands for; `None` for other folders.
    pub(crate) fn id(name: &str) -> Option<DatasetId> {
        name.replace('+', "/").parse().ok()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.dir.join("db")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.dir.join("db-wal")
    }

    pub(crate) fn shm(&self) -> PathBuf {
        self.dir.join("db-shm")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Whole images of the database at some position, which restores begin from.
    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    /// Tails that are not in the primary's history.
    pub(crate) fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }
}
