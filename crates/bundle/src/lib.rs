//! From a source folder to a deployment.
//!
//! [`Project::find`] finds the configuration (or guesses it), [`Project::config`] reads it into an
//! immutable [`AppConfig`], [`Bundler::build`] makes a [`verge_types::Deployment`] of it, and
//! [`write_deployment`] / [`read_deployment`] keep one in a folder.
//!
//! Code without npm dependencies is transpiled in process; as soon as a package is imported, the
//! pinned esbuild runs as a child process (`docs/decisions/0002-esbuild-and-deno-ast.md`).
//! Nothing here runs the app's code, serves a request or opens a socket.

mod assets;
mod bundler;
mod child;
mod compiler_options;
mod config;
mod diagnostic;
mod esbuild;
mod folder;
mod graph;
mod identity;
mod node_builtins;
mod paths;

pub use bundler::{BuildOptions, Built, Bundler, Canceller};
pub use config::{
    AppConfig, BuildCommand, ConfigError, DatabaseConfig, DevSettings, KeyDoc, KeyUse,
    MAX_CONFIG_BYTES, ModuleRule, Project, configuration_keys, database_dataset, nearest,
};
pub use diagnostic::{BuildError, Diagnostic, Severity};
pub use esbuild::ESBUILD_VERSION;
pub use folder::{
    FolderError, MANIFEST, StoredDeployment, read_deployment, read_stored, write_deployment,
};
pub use identity::deployment_id;
