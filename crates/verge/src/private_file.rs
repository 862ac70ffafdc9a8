//! Files that are nobody else's business: keys and tokens, and where they lie.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Bytes that nobody can guess.
pub fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::new("io", format!("the system gives no random bytes: {e}")))?;
    Ok(bytes)
}

/// Replaces the file as a whole; nobody else may read it.
pub fn put(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    let file = filled(path, content.as_ref())?;
    file.persist(path).map_err(|e| Failure::io("write", path, &e.error))?;
    Ok(())
}

/// What the file holds; `make` fills it the first time. Of several that come at once, one makes
/// it and all get the same.
pub fn kept(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, Failure>,
) -> Result<Vec<u8>, Failure> {
    let read = || fs::read(path);
    match read() {
        Ok(content) => return Ok(content),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(Failure::io("read", path, &e)),
    }
    let content = make()?;
    match filled(path, &content)?.persist_noclobber(path) {
        Ok(_) => Ok(content),
        Err(e) if e.error.kind() == ErrorKind::AlreadyExists => {
            read().map_err(|e| Failure::io("read", path, &e))
        }
        Err(e) => Err(Failure::io("write", path, &e.error)),
    }
}

/// A file beside `path`, with its content; made with mode 0600.
fn filled(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile, Failure> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let failed = |e: std::io::Error| Failure::io("write", path, &e);
    fs::create_dir_all(dir).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    Ok(file)
}

/// What this user's Verge keeps: `$XDG_STATE_HOME/verge` or `~/.local/state/verge`.
pub fn state_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    Some(base.join("verge"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/key");
        assert_eq!(kept(&path, || Ok(b"one".to_vec())).unwrap(), b"one");
        assert_eq!(kept(&path, || Ok(b"two".to_vec())).unwrap(), b"one");
        put(&path, "three").unwrap();
        assert_eq!(kept(&path, || Ok(b"two".to_vec())).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }
}
