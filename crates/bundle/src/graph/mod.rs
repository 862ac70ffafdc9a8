//! The app's own modules, transpiled in process.
//!
//! The walk follows relative imports only. It tells which other specifiers it met, and with that
//! whether the modules as they are make the deployment or the bundler has to run.

mod depth;
mod imports;
mod resolve;
mod transpile;
mod walk;

pub use depth::with_stack;
pub use transpile::TranspileCache;
pub use walk::{Graph, walk};

/// The kind of a file by `rules` and its extension.
pub fn kind_of(
    path: &std::path::Path,
    rules: &[crate::config::ModuleRule],
) -> Option<verge_types::ModuleKind> {
    resolve::kind(path, None, rules)
}
