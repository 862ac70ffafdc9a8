//! `verge-deployment.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use verge_types::{Binding, HtmlHandling, ModuleKind, NotFoundHandling, RunWorkerFirst};

/// The manifest's file name.
pub const MANIFEST: &str = "verge-deployment.json";

pub const VERSION: u32 = 1;
/// A larger manifest is no manifest.
pub const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;
/// Most bytes of modules and maps that are read back.
pub const MAX_MODULE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// Most modules and assets.
pub const MAX_FILES: usize = 200_000;
pub const MODULES: &str = "modules";
pub const ASSETS: &str = "assets";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub version: u32,
    pub id: String,
    pub name: String,
    pub hosts: Vec<String>,
    /// Every limit by key, in its own unit.
    pub limits: BTreeMap<String, u64>,
    pub main: Option<String>,
    pub compatibility_date: String,
    pub compatibility_flags: Vec<String>,
    pub bindings: BTreeMap<String, Binding>,
    pub crons: Vec<String>,
    pub modules: Vec<ManifestModule>,
    pub assets: Option<ManifestAssets>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestModule {
    pub path: String,
    pub kind: ModuleKind,
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map_sha256: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestAssets {
    pub html_handling: HtmlHandling,
    pub not_found_handling: NotFoundHandling,
    pub run_worker_first: RunWorkerFirst,
    /// Path to SHA-256.
    pub files: BTreeMap<String, String>,
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
