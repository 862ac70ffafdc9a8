//! Reading the folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::AssetError;
use super::file::File;

/// Most files of one deployment.
pub const MAX_FILES: usize = 100_000;
/// Largest file, in bytes.
pub const MAX_FILE_SIZE: u64 = 100 * 1024 * 1024;
/// Deepest folder below the root.
const MAX_DEPTH: usize = 64;

pub(super) struct Scanned {
    pub files: HashMap<String, Arc<File>>,
    pub headers: Option<String>,
    pub redirects: Option<String>,
}

pub(super) fn scan(
    root: &Path,
    previous: Option<&HashMap<String, Arc<File>>>,
) -> Result<Scanned, AssetError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| AssetError::Io { path, source }
    };
    let real_root = root.canonicalize().map_err(io(root))?;
    let ignore = Ignore::read(root);
    let mut scanned = Scanned { files: HashMap::new(), headers: None, redirects: None };
    let mut folders: Vec<(PathBuf, String, usize)> = vec![(root.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(io(&folder))? {
            let path = entry.map_err(io(&folder))?.path();
            // A name that is no UTF-8 has no URL.
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let url = format!("{prefix}/{name}");
            if ignore.matches(&url) {
                continue;
            }
            let real = path.canonicalize().map_err(io(&path))?;
            if !real.starts_with(&real_root) {
                return Err(AssetError::LinkOutside { path });
            }
            let meta = std::fs::metadata(&path).map_err(io(&path))?;
            if meta.is_dir() {
                if depth < MAX_DEPTH {
                    folders.push((path, url, depth + 1));
                }
                continue;
            }
            match url.as_str() {
                "/_headers" => {
                    scanned.headers = Some(std::fs::read_to_string(&path).map_err(io(&path))?);
                    continue;
                }
                "/_redirects" => {
                    scanned.redirects = Some(std::fs::read_to_string(&path).map_err(io(&path))?);
                    continue;
                }
                _ => {}
            }
            if meta.len() > MAX_FILE_SIZE {
                return Err(AssetError::TooLarge { path, size: meta.len() });
            }
            if scanned.files.len() == MAX_FILES {
                return Err(AssetError::TooManyFiles);
            }
            let known = previous
                .and_then(|files| files.get(&url))
                .filter(|file| file.is_unchanged(&path, &meta))
                .cloned();
            let file = match known {
                Some(file) => file,
                None => Arc::new(File::read(&url, &path, &meta).map_err(io(&path))?),
            };
            scanned.files.insert(url, file);
        }
    }
    compressed_siblings(&mut scanned.files);
    Ok(scanned)
}

/// Gives `x.js` the ready-made `x.js.br`, `.gz` and `.zst` beside it.
fn compressed_siblings(files: &mut HashMap<String, Arc<File>>) {
    let siblings: Vec<_> = files
        .iter()
        .filter_map(|(url, file)| {
            let (base, encoding) = super::negotiate::Encoding::of_file(url)?;
            Some((base.to_owned(), encoding, file.clone()))
        })
        .collect();
    for (base, encoding, sibling) in siblings {
        if let Some(file) = files.get(&base) {
            file.set_sibling(encoding, sibling);
        }
    }
}

/// What is never served: dot files (but `.well-known`), dependencies, and `.assetsignore`.
struct Ignore {
    patterns: Vec<String>,
}

impl Ignore {
    fn read(root: &Path) -> Self {
        let text = std::fs::read_to_string(root.join(".assetsignore")).unwrap_or_default();
        let patterns = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.trim_start_matches('/').trim_end_matches('/').to_owned())
            .collect();
        Self { patterns }
    }

    fn matches(&self, url: &str) -> bool {
        let path = url.trim_start_matches('/');
        let name = path.rsplit('/').next().unwrap_or(path);
        let hidden = name.starts_with('.') && name != ".well-known";
        hidden
            || name == "node_modules"
            || self.patterns.iter().any(|pattern| {
                if pattern.contains('/') {
                    super::pattern::glob(pattern, path)
                } else {
                    super::pattern::glob(pattern, name)
                }
            })
    }
}
