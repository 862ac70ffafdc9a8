//! HTTP/1.1 as it should be: pipelining, bodies, trailers, headers in and out.

use tokio::io::AsyncWriteExt;
use verge_telemetry::Rejection;

use crate::support::{Stage, get, read_to_end, read_until};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let stage = Stage::new().await;
    let one = "GET /sleep/20 HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let two = "POST /echo HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc";
    let three = "POST /echo HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n";
    let answer = stage.raw(format!("{one}{two}{three}{}", get("app.test", "/"))).await;
    let at = |text| answer.find(text).unwrap_or_else(|| panic!("no {text}: {answer}"));
    assert!(at("slept") < at("abc") && at("abc") < at("xyz") && at("xyz") < at("Hello"));
    assert_eq!(stage.seen.calls(), 4);
}

#[tokio::test]
async fn headers_in_and_out() {
    let stage = Stage::new().await;
    let answer = stage
        .raw(
            "GET http://App.Test:80/headers?q=1 HTTP/1.1\r\nHost: app.test:80\r\nCF-Ray: x\r\n\
             X-Verge-A: x\r\nVerge-B: x\r\nX-Forwarded-For: 6.6.6.6\r\nCookie: a=b\r\n\
             traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
             Connection: close, cookie\r\n\r\n",
        )
        .await;
    for line in [
        "GET /headers?q=1",
        "cookie: a=b",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-real-ip: 127.0.0.1",
        "cf-connecting-ip: 127.0.0.1",
        "client 127.0.0.1 http",
        "proto HTTP/1.1",
        "trace 00-4bf92f3577b34da6a3ce929d0e0e4736-",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-",
    ] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    for line in
        ["cf-ray", "x-verge", "verge-b", "6.6.6.6", "00f067aa0ba902b7", "connection: close, cookie"]
    {
        assert!(!answer.contains(line), "{line}: {answer}");
    }
    let id = answer.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert!(answer.contains(&format!("id {id}")), "{answer}");
    let entry = stage.log.find(|entry| entry.path == "/headers?q=1").await;
    assert_eq!((entry.status, entry.id.to_string().as_str()), (200, id));
    assert_eq!(entry.app.unwrap().as_str(), "large");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let stage = Stage::new().await;
    let post = "POST /read HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let answer = stage.raw(format!("{post}3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")).await;
    assert!(answer.contains("true bytes, trailer 3"), "{answer}");
    let answer = stage
        .raw(
            "GET /trailers HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: close\r\n\r\n",
        )
        .await;
    assert!(answer.ends_with("0\r\nx-sum: 42\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn continue_is_said_only_when_the_body_is_read() {
    let stage = Stage::new().await;
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    let mut stream = stage.connect().await;
    stream.write_all(head("/read").as_bytes()).await.unwrap();
    let said = read_until(&mut stream, "\r\n\r\n").await;
    assert_eq!(said, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    read_until(&mut stream, "trailer 3").await;
    // Not read: the answer comes at once, and the connection is not used again.
    let answer = stage.raw(head("/ignore")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = stage.raw(head("/").replace("100-continue", "magic")).await;
    assert!(answer.starts_with("HTTP/1.1 417"), "{answer}");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let stage = Stage::new().await;
    for path in ["/status/204", "/status/304"] {
        let answer = stage.get("app.test", path).await;
        assert!(answer.ends_with("\r\n\r\n") && !answer.contains("body"), "{answer}");
    }
    let head =
        |path: &str| format!("HEAD {path} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
    for (path, length) in [("/", "5"), ("/lie", "4"), ("/fault", "")] {
        let answer = stage.raw(head(path)).await;
        assert!(answer.contains(&format!("content-length: {length}")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn an_app_cannot_break_the_framing_of_its_answer() {
    let stage = Stage::new().await;
    let answer = stage.get("app.test", "/lie").await;
    assert!(answer.contains("content-length: 4\r\n") && !answer.contains("999"), "{answer}");
    assert!(!answer.contains("chunked"), "{answer}");
    for path in ["/status/100", "/status/103", "/switch"] {
        let answer = stage.get("app.test", path).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{path}: {answer}");
        assert!(answer.contains("verge-fault: bad_response"), "{answer}");
    }
}

#[tokio::test]
async fn a_stream_that_fails_is_not_ended_cleanly() {
    let stage = Stage::new().await;
    let answer = stage.get("app.test", "/break").await;
    assert!(answer.contains("first") && !answer.contains("0\r\n\r\n"), "{answer}");
    let entry = stage.log.find(|entry| entry.path == "/break").await;
    assert_eq!(entry.fault, Some("guest_exception"));
}

#[tokio::test]
async fn faults_become_pages_without_their_detail() {
    let stage = Stage::new().await;
    let answer = stage.get("app.test", "/fault").await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("<!doctype html>"), "{answer}");
    assert!(answer.contains("verge-fault: guest_exception") && !answer.contains("secret"));
    let entry = stage.log.find(|entry| entry.path == "/fault").await;
    assert_eq!(entry.detail.as_deref(), Some("secret internals"));
    for path in ["/panic", "/panic-at-once"] {
        let answer = stage.get("app.test", path).await;
        assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("as asked"), "{answer}");
        assert!(answer.contains("verge-fault: internal_error"), "{answer}");
    }
    let unknown =
        get("unknown.test", "/").replace("\r\n\r\n", "\r\nAccept: application/json\r\n\r\n");
    let answer = stage.raw(unknown).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("\"code\":\"unknown_host\""));
    assert!(
        stage
            .metrics
            .expose()
            .contains("verge_requests_total{app=\"large\",status_class=\"5xx\"} 3")
    );
}

#[tokio::test]
async fn an_offer_of_h2c_is_ignored() {
    let stage = Stage::new().await;
    let answer = stage
        .raw("GET /headers HTTP/1.1\r\nHost: app.test\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("h2c"), "{answer}");
    assert!(!answer.contains("http2-settings"), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_early_is_noted() {
    let stage = Stage::new().await;
    for path in ["/never", "/drip", "/stream/10000"] {
        let mut stream = stage.connect().await;
        stream.write_all(get("app.test", path).as_bytes()).await.unwrap();
        if path != "/never" {
            read_until(&mut stream, "HTTP/1.1 200").await;
        } else {
            crate::support::until("the call", || stage.seen.calls() == 1).await;
        }
        drop(stream);
        let entry = stage.log.find(|entry| entry.path == path).await;
        assert_eq!(entry.fault, Some("client_gone"), "{path}");
    }
}

#[tokio::test]
async fn http_1_0_is_served_and_closed() {
    let stage = Stage::new().await;
    let answer = stage.raw("GET /stream/2 HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("chunked"), "{answer}");
    assert_eq!(
        answer.matches('x').count() - answer.split("\r\n\r\n").next().unwrap().matches('x').count(),
        2 * crate::support::CHUNK
    );
}

#[tokio::test]
async fn trusted_proxies_say_who_the_client_is() {
    let stage = Stage::with(|config| {
        let address = "127.0.0.0".parse().unwrap();
        config.trusted_proxies = vec![verge_gateway::IpPrefix { address, bits: 8 }];
    })
    .await;
    let answer = stage
        .raw("GET /headers HTTP/1.1\r\nHost: app.test\r\nX-Forwarded-For: 6.6.6.6, 7.7.7.7\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("client 7.7.7.7 https"), "{answer}");
    assert!(answer.contains("x-forwarded-for: 7.7.7.7"), "{answer}");
}

#[tokio::test]
async fn connections_are_counted_and_limited() {
    let stage = Stage::with(|config| config.max_connections_per_peer = 2).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = stage.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
        read_until(&mut stream, "Hello").await;
        kept.push(stream);
    }
    let mut third = stage.connect().await;
    assert_eq!(read_to_end(&mut third).await, "");
    assert_eq!(stage.metrics.rejections(Rejection::too_many_from_peer), 1);
    kept.pop();
    // The place is free as soon as the server has seen the close.
    let mut served = false;
    for _ in 0..500 {
        if stage.get("app.test", "/").await.contains("Hello") {
            served = true;
            break;
        }
    }
    assert!(served);
}
