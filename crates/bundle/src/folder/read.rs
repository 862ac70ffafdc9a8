//! Reads a deployment's folder back and trusts nothing in it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use verge_types::{AppName, AssetsConfig, Deployment, DeploymentId, Limits, Module};

use super::manifest::{
    ASSETS, MANIFEST, MAX_FILES, MAX_MANIFEST_BYTES, MAX_MODULE_BYTES, MODULES, Manifest, VERSION,
    unhex,
};
use super::{FolderError, StoredDeployment};

/// The deployment alone.
pub fn read_deployment(dir: &Path) -> Result<Deployment, FolderError> {
    read_stored(dir).map(|stored| stored.deployment)
}

/// The deployment and what its folder says of the app.
pub fn read_stored(dir: &Path) -> Result<StoredDeployment, FolderError> {
    let open = |source| FolderError::Io { doing: "open", path: dir.to_owned(), source };
    let dir = fs::canonicalize(dir).map_err(open)?;
    let manifest = read_manifest(&dir)?;
    let bad = |reason: String| FolderError::Manifest { path: dir.join(MANIFEST), reason };
    let name = manifest.name.parse::<AppName>().map_err(|e| bad(e.to_string()))?;
    let mut limits = Limits::default();
    for (key, value) in &manifest.limits {
        limits.set_key(key, &value.to_string()).map_err(|e| bad(e.to_string()))?;
    }
    let mut budget = MAX_MODULE_BYTES;
    let mut seen = HashSet::new();
    let mut modules = Vec::with_capacity(manifest.modules.len());
    let folder = dir.join(MODULES);
    for module in &manifest.modules {
        if !seen.insert(module.path.as_str()) {
            return Err(FolderError::Path { path: module.path.clone() });
        }
        let source = get(&folder, &module.path, &module.sha256, &mut budget)?;
        let source_map = match &module.map_sha256 {
            Some(hash) => Some(get(&folder, &format!("{}.map", module.path), hash, &mut budget)?),
            None => None,
        };
        modules.push(Module { path: module.path.clone(), kind: module.kind, source, source_map });
    }
    if let Some(main) = &manifest.main
        && !seen.contains(main.as_str())
    {
        return Err(FolderError::Path { path: main.clone() });
    }
    let (assets, hashes) = read_assets(&dir, &manifest)?;
    let mut deployment = Deployment {
        id: DeploymentId::from_digest(&[]),
        main: manifest.main,
        modules,
        compatibility_date: manifest.compatibility_date,
        compatibility_flags: manifest.compatibility_flags,
        bindings: manifest.bindings,
        crons: manifest.crons,
        assets,
    };
    let actual = crate::identity::deployment_id(&deployment, &limits, &hashes);
    if actual.as_str() != manifest.id {
        return Err(FolderError::Id { given: manifest.id, actual: actual.to_string() });
    }
    deployment.id = actual;
    Ok(StoredDeployment { name, hosts: manifest.hosts, limits, deployment })
}

fn read_manifest(dir: &Path) -> Result<Manifest, FolderError> {
    let path = dir.join(MANIFEST);
    let bad = |reason: String| FolderError::Manifest { path: path.clone(), reason };
    let text = crate::config::read_bounded(&path, MAX_MANIFEST_BYTES)
        .map_err(|source| FolderError::Io { doing: "read", path: path.clone(), source })?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
    if manifest.version != VERSION {
        return Err(bad(format!("its version is {}, not {VERSION}", manifest.version)));
    }
    let files = manifest.modules.len() + manifest.assets.as_ref().map_or(0, |a| a.files.len());
    if files > MAX_FILES {
        return Err(FolderError::TooLarge { limit: MAX_MODULE_BYTES, files: MAX_FILES });
    }
    Ok(manifest)
}

type Assets = (Option<AssetsConfig>, BTreeMap<String, [u8; 32]>);

fn read_assets(dir: &Path, manifest: &Manifest) -> Result<Assets, FolderError> {
    let mut hashes = BTreeMap::new();
    let Some(assets) = &manifest.assets else { return Ok((None, hashes)) };
    let folder = dir.join(ASSETS);
    for (path, hash) in &assets.files {
        let mut budget = u64::MAX;
        get(&folder, path, hash, &mut budget)?;
        hashes.insert(path.clone(), unhex(hash).unwrap_or_default());
    }
    // A file that the manifest does not know would be served without a hash.
    let mut there = crate::assets::AssetHashes::default();
    let there = there
        .read(&folder)
        .map_err(|e| FolderError::Manifest { path: folder.clone(), reason: e.to_string() })?;
    if let Some(extra) = there.keys().find(|path| !hashes.contains_key(*path)) {
        return Err(FolderError::Hash { path: extra.clone() });
    }
    let config = AssetsConfig {
        directory: folder,
        html_handling: assets.html_handling,
        not_found_handling: assets.not_found_handling,
        run_worker_first: assets.run_worker_first.clone(),
    };
    Ok((Some(config), hashes))
}

/// A file's bytes, if its path stays inside, it is no link out, and its hash is right.
fn get(folder: &Path, path: &str, sha256: &str, budget: &mut u64) -> Result<Bytes, FolderError> {
    let outside = || FolderError::Path { path: path.to_owned() };
    if !crate::paths::is_contained(path) {
        return Err(outside());
    }
    let target = folder.join(path);
    let io = |source| FolderError::Io { doing: "read", path: target.clone(), source };
    let real = fs::canonicalize(&target).map_err(io)?;
    if !real.starts_with(folder) || !real.is_file() {
        return Err(outside());
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(&real).map_err(io)?;
    file.take(budget.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    *budget = budget
        .checked_sub(bytes.len() as u64)
        .ok_or(FolderError::TooLarge { limit: MAX_MODULE_BYTES, files: MAX_FILES })?;
    if unhex(sha256) != Some(Sha256::digest(&bytes).into()) {
        return Err(FolderError::Hash { path: path.to_owned() });
    }
    Ok(bytes.into())
}
