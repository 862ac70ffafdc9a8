//! TLS of a listener: a given certificate, or one that is made here and handed back.
//!
//! The crypto provider is always named; the process default belongs to whoever sets it first.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Certificate chain and key, ready to serve.
#[derive(Clone)]
pub struct TlsConfig(Arc<ServerConfig>);

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsConfig")
    }
}

/// A certificate and its key as PEM text. The key is a secret.
#[derive(Clone)]
pub struct SelfMade {
    pub certificate_pem: String,
    pub key_pem: String,
}

impl fmt::Debug for SelfMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SelfMade")
    }
}

/// Why a certificate cannot be served.
#[derive(Debug)]
pub enum TlsError {
    /// The PEM text holds no certificate, or a broken one.
    Certificate(String),
    /// The PEM text holds no private key, or a broken one.
    Key(String),
    /// Key and certificate do not fit, or the key is of a kind we do not serve.
    Unusable(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(why) => write!(
                f,
                "the certificate cannot be read: {why}; give the chain as PEM, the server's own certificate first"
            ),
            Self::Key(why) => {
                write!(f, "the private key cannot be read: {why}; give it as unencrypted PEM")
            }
            Self::Unusable(why) => {
                write!(f, "certificate and key cannot be used together: {why}")
            }
        }
    }
}

impl std::error::Error for TlsError {}

impl TlsConfig {
    /// A certificate chain and its key, both PEM.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| TlsError::Certificate(e.to_string()))?;
        if chain.is_empty() {
            return Err(TlsError::Certificate("there is none in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|e| TlsError::Key(e.to_string()))?;
        let unusable = |e: rustls::Error| TlsError::Unusable(e.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets resume sessions without memory of ours; their keys rotate by themselves.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(unusable)?;
        Ok(Self(Arc::new(config)))
    }

    /// Makes a certificate for the names (DNS names or IP addresses) and returns it beside
    /// the configuration, so that the caller can keep it for the next start.
    pub fn self_made(names: &[&str]) -> Result<(Self, SelfMade), TlsError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names)
            .map_err(|e| TlsError::Certificate(e.to_string()))?;
        let pem = SelfMade {
            certificate_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        };
        Ok((Self::from_pem(&pem.certificate_pem, &pem.key_pem)?, pem))
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_made_certificate_can_be_kept_and_used_again() {
        let (_, pem) = TlsConfig::self_made(&["localhost", "127.0.0.1"]).unwrap();
        TlsConfig::from_pem(&pem.certificate_pem, &pem.key_pem).unwrap();
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said() {
        let (_, a) = TlsConfig::self_made(&["a.test"]).unwrap();
        let (_, b) = TlsConfig::self_made(&["b.test"]).unwrap();
        assert!(matches!(TlsConfig::from_pem("", &a.key_pem), Err(TlsError::Certificate(_))));
        assert!(matches!(TlsConfig::from_pem(&a.certificate_pem, "x"), Err(TlsError::Key(_))));
        assert!(matches!(
            TlsConfig::from_pem(&a.certificate_pem, &b.key_pem),
            Err(TlsError::Unusable(_))
        ));
    }
}
