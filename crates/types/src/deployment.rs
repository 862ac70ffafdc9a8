//! A deployment: what the bundler makes of a source folder, and all that is needed to run it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{DatasetId, DeploymentId};

/// What a module's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    /// An ECMAScript module (already JavaScript: TypeScript and JSX are gone).
    Esm,
    /// Its default export is the parsed value.
    Json,
    /// Its default export is a string.
    Text,
    /// Its default export is an `ArrayBuffer`.
    Data,
    /// Its default export is a `WebAssembly.Module`.
    Wasm,
}

/// One module. Imports between modules are relative paths that resolve against `path`.
#[derive(Clone, Debug)]
pub struct Module {
    /// Relative to the deployment's root, with `/`: `index.js`, `chunks/a1b2.js`, `lib/add.wasm`.
    pub path: String,
    pub kind: ModuleKind,
    pub source: Bytes,
    /// Source map (version 3, JSON) from this module to the user's own files.
    pub source_map: Option<Bytes>,
}

/// Where a service binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTarget {
    /// The app's name.
    pub service: String,
    /// A named export that extends `WorkerEntrypoint`; the default export without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
    /// Handed to the entrypoint as `ctx.props`.
    #[serde(default, skip_serializing_if = "serde_json_null")]
    pub props: serde_json::Value,
}

fn serde_json_null(value: &serde_json::Value) -> bool {
    value.is_null()
}

/// What becomes of a write at a place that cannot reach its database's primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutOff {
    /// It is refused after a short wait, with nothing changed.
    #[default]
    Refuse,
    /// It waits, for so long at most, and is sent once when the primary can be reached.
    Queue { wait_ms: u64 },
}

impl CutOff {
    pub fn is_refuse(&self) -> bool {
        *self == Self::Refuse
    }
}

/// Where a database binding leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseTarget {
    /// The dataset that holds it; apps that name the same one share it.
    pub dataset: DatasetId,
    #[serde(default, skip_serializing_if = "CutOff::is_refuse")]
    pub when_cut_off: CutOff,
}

/// What `env.<name>` is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Binding {
    /// A string or any JSON value from `vars`.
    Var { value: serde_json::Value },
    /// Another app.
    Service(ServiceTarget),
    /// The app's own static assets: `env.ASSETS.fetch(request)`.
    Assets,
    /// A SQL database with D1's API.
    Database(DatabaseTarget),
}

/// How paths are matched to HTML files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HtmlHandling {
    #[default]
    AutoTrailingSlash,
    ForceTrailingSlash,
    DropTrailingSlash,
    None,
}

/// What a path without an asset gets, where no code answers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotFoundHandling {
    #[default]
    None,
    #[serde(rename = "404-page")]
    NotFoundPage,
    SinglePageApplication,
}

/// Which requests see the code before the assets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RunWorkerFirst {
    All(bool),
    /// Glob patterns (`/api/*`), `!` before an exception.
    Paths(Vec<String>),
}

impl Default for RunWorkerFirst {
    fn default() -> Self {
        Self::All(false)
    }
}

/// The `assets` key of the configuration, validated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssetsConfig {
    /// Absolute, after validation.
    pub directory: PathBuf,
    pub html_handling: HtmlHandling,
    pub not_found_handling: NotFoundHandling,
    pub run_worker_first: RunWorkerFirst,
}

/// Code and configuration of one deployment. Immutable; named by its content.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub id: DeploymentId,
    /// The path of the entry module; `None` for an app that is assets only.
    pub main: Option<String>,
    pub modules: Vec<Module>,
    /// `YYYY-MM-DD`.
    pub compatibility_date: String,
    pub compatibility_flags: Vec<String>,
    /// By binding name.
    pub bindings: BTreeMap<String, Binding>,
    /// Cron expressions that run `scheduled`.
    pub crons: Vec<String>,
    pub assets: Option<AssetsConfig>,
}

impl Deployment {
    /// Bytes of all modules, what the script size limit counts.
    pub fn script_size(&self) -> u64 {
        self.modules.iter().map(|m| m.source.len() as u64).sum()
    }
}
