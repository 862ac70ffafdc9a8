//! The certificate of `--https`: made once for this machine, kept for its user.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use verge_gateway::TlsConfig;

use crate::failure::Failure;

const NAMES: &[&str] = &["localhost", "*.localhost", "127.0.0.1", "::1"];

/// The kept certificate, or a new one.
pub fn certificate() -> Result<TlsConfig, Failure> {
    let failed = |error: verge_gateway::TlsError| Failure::new("tls", error.to_string());
    let Some(dir) = state_dir() else {
        return TlsConfig::self_made(NAMES).map(|(config, _)| config).map_err(failed);
    };
    let (certificate, key) = (dir.join("localhost.pem"), dir.join("localhost.key.pem"));
    if let (Ok(certificate), Ok(key)) = (fs::read_to_string(&certificate), fs::read_to_string(&key))
        && let Ok(config) = TlsConfig::from_pem(&certificate, &key)
    {
        return Ok(config);
    }
    let (config, made) = TlsConfig::self_made(NAMES).map_err(failed)?;
    fs::create_dir_all(&dir).map_err(|e| Failure::io("make", &dir, &e))?;
    // The key first: a certificate without its key would be made anew, the other way round too.
    put(&key, &made.key_pem)?;
    put(&certificate, &made.certificate_pem)?;
    Ok(config)
}

/// Replaces the file as a whole; nobody else may read it.
fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let failed = |e: std::io::Error| Failure::io("write", path, &e);
    // Such a file is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// `$XDG_STATE_HOME/verge` or `~/.local/state/verge`.
pub fn state_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    Some(base.join("verge"))
}
