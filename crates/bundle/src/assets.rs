//! The asset files of a deployment: which they are and their hashes.
//!
//! Serving them is somebody else's. What is hidden or private (dot files, `node_modules`,
//! `_headers` and `_redirects` excepted) is no asset, here as there.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::diagnostic::{BuildError, Diagnostic};

/// Most files of one deployment.
const MAX_FILES: usize = 100_000;

/// Deepest folder.
const MAX_DEPTH: usize = 64;

/// Hashes by file, valid as long as length and time of change are the same.
#[derive(Debug, Default)]
pub struct AssetHashes {
    known: HashMap<PathBuf, (u64, SystemTime, [u8; 32])>,
}

impl AssetHashes {
    /// Path below `directory` with `/` to SHA-256 of the content.
    pub fn read(&mut self, directory: &Path) -> Result<BTreeMap<String, [u8; 32]>, BuildError> {
        if !directory.is_dir() {
            let text = "`assets.directory`: there is no such folder";
            return Err(BuildError::one(Diagnostic::error(text).in_file(directory)));
        }
        let mut files = Vec::new();
        list(directory, 0, &mut files)?;
        let mut known = HashMap::with_capacity(files.len());
        let mut hashes = BTreeMap::new();
        for (path, length, changed) in files {
            let hash = match self.known.get(&path) {
                Some((l, c, hash)) if *l == length && *c == changed => *hash,
                _ => hash_file(&path)?,
            };
            hashes.insert(crate::paths::shown(directory, &path), hash);
            known.insert(path, (length, changed, hash));
        }
        self.known = known;
        Ok(hashes)
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BuildError {
    let path = path.to_owned();
    move |source| BuildError::Io { doing, path, source }
}

fn list(
    directory: &Path,
    depth: usize,
    files: &mut Vec<(PathBuf, u64, SystemTime)>,
) -> Result<(), BuildError> {
    if depth > MAX_DEPTH {
        let text = format!("the assets have folders deeper than {MAX_DEPTH}");
        return Err(BuildError::one(Diagnostic::error(text).in_file(directory)));
    }
    for entry in std::fs::read_dir(directory).map_err(io("read", directory))? {
        let entry = entry.map_err(io("read", directory))?;
        let name = entry.file_name();
        if is_private(&name.to_string_lossy()) {
            continue;
        }
        let path = entry.path();
        // Links are not followed: they may lead out of the folder.
        let kind = entry.file_type().map_err(io("read", &path))?;
        if kind.is_dir() {
            list(&path, depth + 1, files)?;
        } else if kind.is_file() {
            let data = entry.metadata().map_err(io("read", &path))?;
            let changed = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            files.push((path, data.len(), changed));
            if files.len() > MAX_FILES {
                let text = format!("there are more than {MAX_FILES} assets");
                return Err(BuildError::one(Diagnostic::error(text).in_file(directory)));
            }
        }
    }
    Ok(())
}

/// `.well-known` is public by its standard; other dot files are not.
fn is_private(name: &str) -> bool {
    (name.starts_with('.') && name != ".well-known") || name == "node_modules"
}

fn hash_file(path: &Path) -> Result<[u8; 32], BuildError> {
    let mut file = std::fs::File::open(path).map_err(io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let read = file.read(&mut buffer).map_err(io("read", path))?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&buffer[..read]);
    }
}
