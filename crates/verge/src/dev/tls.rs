//! The certificate of `--https`: made once for this machine, kept for its user.

use std::fs;

use verge_gateway::TlsConfig;

use crate::failure::Failure;
use crate::private_file::{put, state_dir};

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
    // The key first: a certificate without its key would be made anew, the other way round too.
    put(&key, &made.key_pem)?;
    put(&certificate, &made.certificate_pem)?;
    Ok(config)
}
