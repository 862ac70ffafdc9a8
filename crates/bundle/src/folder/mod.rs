//! A deployment as a folder: `verge-deployment.json` beside `modules/` and `assets/`.
//!
//! Written whole or not at all. What is read back is checked as if a stranger had sent it.

mod manifest;
mod read;
mod write;

use std::path::PathBuf;

use verge_types::{AppName, Deployment, Limits};

pub use manifest::MANIFEST;
pub use read::{read_deployment, read_stored};
pub use write::write_deployment;

/// A deployment and what else its folder says of the app.
#[derive(Clone, Debug)]
pub struct StoredDeployment {
    pub name: AppName,
    pub hosts: Vec<String>,
    pub limits: Limits,
    pub deployment: Deployment,
}

#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{}: this folder is not empty and holds no deployment; it is left as it is", path.display())]
    NotOurs { path: PathBuf },
    #[error("{}: the manifest is not understood: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
    #[error("`{path}` leads out of the deployment's folder or is no plain name")]
    Path { path: String },
    #[error("`{path}` is not what the manifest says: its hash differs")]
    Hash { path: String },
    #[error("the deployment is larger than {limit} bytes or {files} files")]
    TooLarge { limit: u64, files: usize },
    #[error("the deployment's id is {given}, but its content is {actual}")]
    Id { given: String, actual: String },
}
