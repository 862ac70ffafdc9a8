//! esbuild as a child process: found, given its options, its answer turned into modules.

mod arguments;
mod messages;
mod metafile;
mod outputs;
mod program;
mod require_shim;
mod run;

pub use arguments::Wanted;
pub use program::ESBUILD_VERSION;
pub use run::{Bundled, Job, bundle, remove_abandoned};
