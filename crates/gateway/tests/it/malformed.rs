//! Malformed and ambiguous HTTP/1: each case is answered 4xx or closed, and the service
//! never hears of it.

use tokio::io::AsyncWriteExt;

use crate::support::{Stage, get, read_to_end, resident};

/// Sends each case alone, behind a good request, and byte by byte.
async fn refused(cases: &[&str]) {
    let stage = Stage::new().await;
    for case in cases {
        let answer = stage.raw(case).await;
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.0 4"),
            "{case:?}: {answer}"
        );
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{case:?}: {answer}");
        assert_eq!(stage.seen.calls(), 0, "{case:?} reached the service");
    }
    let stage = Stage::new().await;
    for (n, case) in cases.iter().enumerate() {
        let good = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
        let answer = stage.raw(format!("{good}{case}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{case:?}: {answer}");
        assert_eq!(stage.seen.calls(), n + 1, "{case:?} reached the service");
    }
    let stage = Stage::new().await;
    for case in cases {
        let mut stream = stage.connect().await;
        stream.set_nodelay(true).unwrap();
        for byte in case.bytes() {
            if stream.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let answer = read_to_end(&mut stream).await;
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.0 4"),
            "{case:?}: {answer}"
        );
        assert_eq!(stage.seen.calls(), 0, "{case:?} reached the service");
    }
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n";

#[tokio::test]
async fn conflicting_lengths() {
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\n";
    let body = "0\r\n\r\n";
    let cases = [
        format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n{body}{SMUGGLED}"),
        format!("{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{body}{SMUGGLED}"),
        format!("{post}Content-Length: 5\r\nContent-Length: 5\r\n\r\n{body}{SMUGGLED}"),
        format!("{post}Content-Length: 5, 5\r\n\r\n{body}{SMUGGLED}"),
        format!("{post}Content-Length: +5\r\n\r\n{body}"),
        format!("{post}Content-Length: -5\r\n\r\n{body}"),
        format!("{post}Content-Length: 0x5\r\n\r\n{body}"),
        format!("{post}Content-Length: 5 5\r\n\r\n{body}"),
        format!("{post}Content-Length:\r\n\r\n{body}"),
        format!("{post}Content-Length: 99999999999999999999\r\n\r\n{body}"),
        format!("{post}Content-Length : 5\r\n\r\n{body}"),
        format!("{post}Content-Length\t: 5\r\n\r\n{body}"),
        format!("{post} Content-Length: 5\r\n\r\n{body}"),
        format!("{post}Content-Length: 5\u{b}\r\n\r\n{body}"),
    ];
    refused(&cases.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn transfer_codings() {
    let post = "POST / HTTP/1.1\r\nHost: app.test\r\n";
    let mut cases = Vec::new();
    for coding in [
        "gzip, chunked",
        "chunked, chunked",
        "chunked, gzip",
        "identity",
        "xchunked",
        "",
        "chunked;q=1",
        "\"chunked\"",
        "chunked\u{b}",
        "\u{b}chunked",
    ] {
        cases.push(format!("{post}Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n{SMUGGLED}"));
    }
    let chunked = "Transfer-Encoding: chunked\r\n";
    cases.push(format!("{post}{chunked}{chunked}\r\n0\r\n\r\n{SMUGGLED}"));
    cases.push(format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"));
    cases.push(format!("POST / HTTP/1.0\r\nHost: app.test\r\n{chunked}\r\n0\r\n\r\n{SMUGGLED}"));
    refused(&cases.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn line_ends_and_folds() {
    refused(&[
        "GET / HTTP/1.1\nHost: app.test\n\n",
        "GET / HTTP/1.1\r\nHost: app.test\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\n\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA: b\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA: b\rC: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA: b\r\n\tc\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: app.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n app.test\r\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn request_lines_and_header_bytes() {
    refused(&[
        "GET  / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: app.test\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: app.test\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: app.test\r\n\r\n",
        "GET / http/1.1\r\nHost: app.test\r\n\r\n",
        "GET /\r\nHost: app.test\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET noslash HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /\u{0}a HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET /\u{7f}a HTTP/1.1\r\nHost: app.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA b: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA : c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA\u{0}: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA: b\u{0}c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nA: b\u{1}c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\n: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nnocolon\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn hosts() {
    let close = "Connection: close\r\n\r\n";
    let cases: Vec<String> = [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\r\nHost: other.test\r\n",
        "GET / HTTP/1.1\r\nHost: app.test, other.test\r\n",
        "GET / HTTP/1.1\r\nHost: app.test/path\r\n",
        "GET / HTTP/1.1\r\nHost: user@app.test\r\n",
        "GET / HTTP/1.1\r\nHost: app.test:port\r\n",
        "GET / HTTP/1.1\r\nHost: app test\r\n",
        "GET / HTTP/1.1\r\nHost: app.test\\@evil\r\n",
        "GET / HTTP/1.1\r\nHost: app%2etest\r\n",
        "GET http://other.test/ HTTP/1.1\r\nHost: app.test\r\n",
        "GET http://app.test:81/ HTTP/1.1\r\nHost: app.test\r\n",
        "GET http://user@app.test/ HTTP/1.1\r\nHost: app.test\r\n",
        "GET http://app.test/ HTTP/1.1\r\n",
        "CONNECT app.test:80 HTTP/1.1\r\nHost: app.test:80\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: app.test\r\n",
        "GET * HTTP/1.1\r\nHost: app.test\r\n",
        "TRACE / HTTP/1.1\r\nHost: app.test\r\n",
        "GET / HTTP/1.1\r\nHost: unknown.test\r\n",
    ]
    .iter()
    .map(|head| format!("{head}{close}"))
    .collect();
    refused(&cases.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn upgrades() {
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close, upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let cases = [
        format!("{get}Upgrade: TLS/1.0\r\n\r\n"),
        format!("{get}Upgrade: websocket, h2c\r\n{key}{version}\r\n"),
        format!("{get}Upgrade: websocket\r\nUpgrade: h2c\r\n{key}{version}\r\n"),
        format!("{get}Upgrade: websocket\r\n{version}\r\n"),
        format!("{get}Upgrade: websocket\r\nSec-WebSocket-Key: short\r\n{version}\r\n"),
        format!("{get}Upgrade: websocket\r\n{key}Sec-WebSocket-Version: 8\r\n\r\n"),
        format!("{get}Upgrade: websocket\r\n{key}\r\n"),
        format!(
            "POST / HTTP/1.1\r\nHost: app.test\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n{key}{version}\r\n"
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\nUpgrade: websocket\r\n{key}{version}\r\n"
        ),
    ];
    refused(&cases.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

/// The request is good as far as its head; what the service gets must end in an error.
#[tokio::test]
async fn chunked_bodies() {
    let stage = Stage::new().await;
    let post = "POST /read HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(5000));
    for body in [
        "1\na\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r\n0\n\r\n",
        "1\r\na\r\n0\r\n\n",
        "1\r\nab\r\n0\r\n\r\n",
        "x\r\na\r\n0\r\n\r\n",
        "-1\r\na\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "10000000000000001\r\na\r\n0\r\n\r\n",
        "\r\n",
        "1;a\nb\r\na\r\n0\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nnocolon\r\n\r\n",
        &long,
        &trailers,
    ] {
        let answer = stage.raw(format!("{post}{body}{SMUGGLED}")).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{body:?}: {answer}");
        assert!(answer.matches("HTTP/1.1").count() <= 1, "{body:?}: {answer}");
    }
    let good = stage.raw(format!("{post}1;x=y\r\na\r\n0\r\n\r\n{}", get("app.test", "/"))).await;
    assert_eq!(good.matches("HTTP/1.1 200").count(), 2, "{good}");
}

#[tokio::test]
async fn nothing_tunnels_before_the_upgrade_is_answered() {
    let stage = Stage::new().await;
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let answer =
        stage.raw(format!("GET /sleep/50 HTTP/1.1\r\nHost: app.test\r\n{upgrade}{SMUGGLED}")).await;
    // The app may still decline in HTTP; what came too early is refused, never read.
    assert!(answer.matches("HTTP/1.1 200").count() <= 1, "{answer}");
    assert!(stage.seen.calls() <= 1);
}

/// Bad clients come and go; what they cost goes with them.
#[tokio::test]
async fn memory_stays_flat_over_many_bad_connections() {
    let stage = Stage::with(|config| {
        config.head_timeout = std::time::Duration::from_millis(100);
    })
    .await;
    let filler = "x".repeat(30_000);
    let bad = [
        format!("GET / HTTP/1.1\r\nHost: app.test\r\nA: {filler}\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: app.test\r\nA: {filler}"),
        format!("GET /{filler} HTTP/1.1\r\nHost: app.test\r\nBad Name: {filler}\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense that is no frame at all".to_owned(),
    ];
    let round = async |rounds: usize| {
        for _ in 0..rounds {
            let answers = bad.iter().map(|bytes| stage.raw(bytes));
            futures_util::future::join_all(answers).await;
        }
    };
    round(20).await;
    let before = resident();
    round(150).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes grown");
    assert_eq!(stage.seen.calls(), 0);
}
