//! The bundler against real files, the real esbuild and real packages.

mod bundled;
mod config;
mod folder;
mod in_process;
mod support;
