//! Writes a deployment's folder: everything into a new one beside it, then one rename.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use verge_types::Limit;

use super::manifest::{
    ASSETS, MANIFEST, MODULES, Manifest, ManifestAssets, ManifestModule, VERSION, hex,
};
use super::{FolderError, StoredDeployment};

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Io { doing, path, source }
}

/// Writes a deployment with its assets (path to SHA-256) to `out`, replacing an older deployment.
///
/// A folder that holds anything else is left alone.
pub fn write_deployment(
    stored: &StoredDeployment,
    assets: &BTreeMap<String, [u8; 32]>,
    out: &Path,
) -> Result<(), FolderError> {
    refuse_foreign(out)?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(io("make", &parent))?;
    // Removed again when anything below fails.
    let temporary = tempfile::Builder::new()
        .prefix(".verge-out-")
        .tempdir_in(&parent)
        .map_err(io("make a folder in", &parent))?;
    let new = temporary.path().join("new");
    fs::create_dir(&new).map_err(io("make", &new))?;
    fill(stored, assets, &new)?;
    let old = temporary.path().join("old");
    let replaced = out.exists();
    if replaced {
        fs::rename(out, &old).map_err(io("replace", out))?;
    }
    if let Err(error) = fs::rename(&new, out) {
        if replaced {
            // Put the older one back; if that fails too, the first error is the one to tell.
            let _ = fs::rename(&old, out);
        }
        return Err(io("make", out)(error));
    }
    Ok(())
}

fn refuse_foreign(out: &Path) -> Result<(), FolderError> {
    if !out.exists() {
        return Ok(());
    }
    let empty = out.is_dir() && fs::read_dir(out).map_err(io("read", out))?.next().is_none();
    if empty || out.join(MANIFEST).is_file() {
        return Ok(());
    }
    Err(FolderError::NotOurs { path: out.to_owned() })
}

fn fill(
    stored: &StoredDeployment,
    assets: &BTreeMap<String, [u8; 32]>,
    new: &Path,
) -> Result<(), FolderError> {
    let deployment = &stored.deployment;
    let mut modules = Vec::with_capacity(deployment.modules.len());
    for module in &deployment.modules {
        put(&new.join(MODULES), &module.path, &module.source)?;
        let map_sha256 = match &module.source_map {
            Some(map) => {
                put(&new.join(MODULES), &format!("{}.map", module.path), map)?;
                Some(hex(&Sha256::digest(map)))
            }
            None => None,
        };
        modules.push(ManifestModule {
            path: module.path.clone(),
            kind: module.kind,
            sha256: hex(&Sha256::digest(&module.source)),
            map_sha256,
        });
    }
    modules.sort_by(|a, b| a.path.cmp(&b.path));
    let manifest = Manifest {
        version: VERSION,
        id: deployment.id.as_str().to_owned(),
        name: stored.name.as_str().to_owned(),
        hosts: stored.hosts.clone(),
        limits: Limit::ALL
            .iter()
            .map(|limit| (limit.spec().key.to_owned(), stored.limits.get(*limit)))
            .collect(),
        main: deployment.main.clone(),
        compatibility_date: deployment.compatibility_date.clone(),
        compatibility_flags: deployment.compatibility_flags.clone(),
        bindings: deployment.bindings.clone(),
        crons: deployment.crons.clone(),
        modules,
        assets: match &deployment.assets {
            Some(config) => Some(ManifestAssets {
                html_handling: config.html_handling,
                not_found_handling: config.not_found_handling,
                run_worker_first: config.run_worker_first.clone(),
                files: copy_assets(&config.directory, assets, &new.join(ASSETS))?,
            }),
            None => None,
        },
    };
    let text = serde_json::to_vec_pretty(&manifest)
        .map_err(|e| FolderError::Manifest { path: new.join(MANIFEST), reason: e.to_string() })?;
    put(new, MANIFEST, &text)
}

fn copy_assets(
    from: &Path,
    assets: &BTreeMap<String, [u8; 32]>,
    to: &Path,
) -> Result<BTreeMap<String, String>, FolderError> {
    fs::create_dir(to).map_err(io("make", to))?;
    let mut files = BTreeMap::new();
    for (path, digest) in assets {
        let source = from.join(path);
        let bytes = fs::read(&source).map_err(io("read", &source))?;
        if Sha256::digest(&bytes).as_slice() != digest {
            // It changed between hashing and copying.
            return Err(FolderError::Hash { path: path.clone() });
        }
        put(to, path, &bytes)?;
        files.insert(path.clone(), hex(digest));
    }
    Ok(files)
}

fn put(folder: &Path, path: &str, bytes: &[u8]) -> Result<(), FolderError> {
    if !crate::paths::is_contained(path) {
        return Err(FolderError::Path { path: path.to_owned() });
    }
    let target = folder.join(path);
    let parent = target.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(io("make", parent))?;
    fs::write(&target, bytes).map_err(io("write", &target))
}
