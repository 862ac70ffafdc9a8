//! TLS with a certificate of our own making, spoken to by curl and by rustls.

use std::process::{Command, Output};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use verge_gateway::TlsConfig;
use verge_telemetry::Rejection;

use crate::support::{Stage, get, until};

async fn secure() -> (Stage, tempfile::TempDir, String) {
    let (tls, pem) = TlsConfig::self_made(&["app.test"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), &pem.certificate_pem).unwrap();
    let stage = Stage::with(|config| {
        config.tls = Some(tls);
        config.tls_handshake_timeout = std::time::Duration::from_millis(500);
    })
    .await;
    (stage, folder, pem.certificate_pem)
}

async fn curl(stage: &Stage, folder: &tempfile::TempDir, arguments: &[&str]) -> Output {
    let mut curl = Command::new("curl");
    curl.args(["-sSi", "--max-time", "10", "--cacert"]).arg(folder.path().join("ca.pem"));
    curl.arg("--resolve").arg(format!("app.test:{}:127.0.0.1", stage.addr.port()));
    curl.args(arguments).arg(format!("https://app.test:{}/headers", stage.addr.port()));
    tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn curl_speaks_both_protocols() {
    let (stage, folder, _) = secure().await;
    for (option, protocol) in [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")] {
        let output = curl(&stage, &folder, &[option]).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(&format!("{protocol} 200")), "{text} {output:?}");
        for line in [format!("proto {protocol} TLSv1.3"), "client 127.0.0.1 https".to_owned()] {
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
    let output = curl(&stage, &folder, &["--tls-max", "1.2"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).contains("TLSv1.2"));
    let output = curl(&stage, &folder, &["--tls-max", "1.1"]).await;
    assert!(!output.status.success());
}

#[tokio::test]
async fn sessions_are_resumed() {
    let (stage, _folder, pem) = secure().await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let name = ServerName::try_from("app.test").unwrap();
        let mut stream = connector.connect(name, stage.connect().await).await.unwrap();
        stream.write_all(get("app.test", "/").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("Hello"), "{answer}");
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[tokio::test]
async fn handshakes_that_fail_or_dawdle_are_cut() {
    let (stage, _folder, _) = secure().await;
    let answer = stage.raw(get("app.test", "/")).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    assert_eq!(stage.raw("").await, "");
    until("the counts", || {
        stage.metrics.rejections(Rejection::tls) == 1
            && stage.metrics.rejections(Rejection::tls_timeout) == 1
    })
    .await;
    assert_eq!(stage.seen.calls(), 0);
}
