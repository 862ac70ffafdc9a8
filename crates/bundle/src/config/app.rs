//! The configuration of one app in one environment: read, validated, immutable.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use verge_types::{AppName, AssetsConfig, Binding, DatasetId, Limits, ModuleKind};

/// Which files are what kind of module (`rules`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleRule {
    pub kind: ModuleKind,
    /// File name extensions without the dot, lower case.
    pub extensions: Vec<String>,
}

/// `build`: a command that runs before bundling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildCommand {
    pub command: Option<String>,
    /// Absolute.
    pub cwd: PathBuf,
    /// Absolute; a change below them starts the command again.
    pub watch_dirs: Vec<PathBuf>,
}

/// `dev`: what `verge dev` takes unless its flags say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevSettings {
    pub port: Option<u16>,
    pub ip: Option<String>,
}

/// An entry of `d1_databases`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    pub binding: String,
    pub dataset: DatasetId,
    /// As the commands call it.
    pub name: String,
    /// Absolute; need not be there.
    pub migrations_dir: PathBuf,
    /// Where it is recorded which migrations were applied.
    pub migrations_table: String,
}

#[derive(Clone, Debug)]
pub struct AppConfig {
    pub name: AppName,
    /// The named environment that was asked for.
    pub environment: Option<String>,
    /// The folder that relative paths start from. Absolute.
    pub root: PathBuf,
    /// The file this was read from, and every other file that went in.
    pub files: Vec<PathBuf>,
    /// The entry module, absolute; `None` for an app that is assets only.
    pub main: Option<PathBuf>,
    /// `YYYY-MM-DD`.
    pub compatibility_date: String,
    pub compatibility_flags: Vec<String>,
    pub limits: Limits,
    /// By name: variables, services, the assets binding.
    pub bindings: BTreeMap<String, Binding>,
    /// From `.dev.vars` or `.env`; they replace `bindings` of the same name in a dev build only.
    pub dev_vars: BTreeMap<String, String>,
    pub databases: Vec<DatabaseConfig>,
    /// Clients always read what they wrote, at every point of presence.
    pub read_your_writes: bool,
    pub crons: Vec<String>,
    pub assets: Option<AssetsConfig>,
    pub rules: Vec<ModuleRule>,
    pub define: BTreeMap<String, String>,
    pub alias: BTreeMap<String, String>,
    pub minify: bool,
    pub keep_names: bool,
    pub no_bundle: bool,
    pub build: Option<BuildCommand>,
    /// How long the bundler and `build.command` may each take.
    pub build_timeout: Duration,
    pub dev: DevSettings,
    pub hosts: Vec<String>,
    /// `host:port` that the app may reach in dev although they are local.
    pub egress_allow: Vec<String>,
    pub jsx_factory: Option<String>,
    pub jsx_fragment: Option<String>,
    /// Absolute.
    pub tsconfig: Option<PathBuf>,
    /// What was guessed because no key says it.
    pub guesses: Vec<String>,
    pub warnings: Vec<String>,
}

/// Used when the configuration names none: the day this version was made against.
pub const DEFAULT_COMPATIBILITY_DATE: &str = "2026-11-24";

/// How long the bundler may take.
pub const DEFAULT_BUILD_TIMEOUT: Duration = Duration::from_secs(60);

/// A file longer than this is no configuration.
pub const MAX_CONFIG_BYTES: u64 = 1024 * 1024;
