//! Mutual TLS: the settings of both sides, and who the other side is.

use std::io;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as TlsError, RootCertStore,
    ServerConfig,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::identity::{NodeIdentity, fleet_name, names_in};
use crate::{Error, Peer};

const ALPN: &[u8] = b"verge-fabric/1";

/// Both sides' settings of one node.
#[derive(Clone)]
pub(crate) struct Tls {
    pub connector: TlsConnector,
    pub acceptor: TlsAcceptor,
    /// By this name every node of the fleet is checked.
    pub name: ServerName<'static>,
}

impl Tls {
    pub fn new(identity: &NodeIdentity) -> Result<Self, Error> {
        let wrong = |what: String| Error::Config(format!("TLS: {what}"));
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority.clone()).map_err(|e| wrong(e.to_string()))?;
        let roots = Arc::new(roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = vec![identity.certificate.clone()];
        let versions = &[&rustls::version::TLS13];

        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|e| wrong(e.to_string()))?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), identity.key.clone_key())
            .map_err(|e| wrong(e.to_string()))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would skip the look at the other side's certificate.
        client.resumption = rustls::client::Resumption::disabled();

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|e| wrong(e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|e| wrong(e.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, identity.key.clone_key())
            .map_err(|e| wrong(e.to_string()))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;

        let name =
            ServerName::try_from(fleet_name(identity.fleet())).map_err(|e| wrong(e.to_string()))?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            name,
        })
    }
}

/// Who showed these certificates, which were verified already; must be of our own fleet.
pub(crate) fn peer_of(
    certificates: Option<&[CertificateDer<'_>]>,
    identity: &NodeIdentity,
) -> Result<Peer, Error> {
    let certificate = certificates
        .and_then(<[_]>::first)
        .ok_or_else(|| Error::Refused("the other side showed no certificate".to_owned()))?;
    let (fleet, peer) = names_in(certificate).map_err(Error::Refused)?;
    if fleet != *identity.fleet() {
        return Err(Error::Refused(format!(
            "{peer} is of fleet {fleet}, this node is of fleet {}",
            identity.fleet()
        )));
    }
    Ok(peer)
}

/// h2 keeps only the text of a failure.
fn explain_text(error: io::Error) -> Error {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    let text = error.to_string();
    if let Some(alert) = text.split("received fatal alert: ").nth(1) {
        return Error::Refused(match alert {
            "UnknownCA" | "DecryptError" | "BadCertificate" => FOREIGN_TO_THEM.to_owned(),
            other => format!("the other side refused the handshake: {other}"),
        });
    }
    if matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset) {
        return Error::Refused(
            "the other side broke off the handshake: it may be of another fleet".to_owned(),
        );
    }
    Error::io("handshake", error)
}

const FOREIGN_TO_THEM: &str =
    "the other side does not accept this node's certificate: it belongs to another fleet";

/// A failed handshake in words that name the cause.
pub(crate) fn explain(error: io::Error) -> Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return explain_text(error);
    };
    Error::Refused(match tls {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the other side's certificate is not of this fleet's authority: it belongs to another fleet"
                .to_owned()
        }
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the other side's certificate is of another fleet".to_owned(),
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the other side's certificate has expired".to_owned(),
        TlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the other side's certificate is not valid yet: compare the clocks".to_owned(),
        TlsError::InvalidCertificate(other) => {
            format!("the other side's certificate is not accepted: {other}")
        }
        TlsError::NoCertificatesPresented => "the other side showed no certificate".to_owned(),
        TlsError::InvalidMessage(_) => "the other side does not speak TLS".to_owned(),
        TlsError::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            FOREIGN_TO_THEM.to_owned()
        }
        TlsError::AlertReceived(alert) => {
            format!("the other side refused the handshake: {alert:?}")
        }
        other => format!("TLS: {other}"),
    })
}
