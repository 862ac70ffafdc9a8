//! Time and size limits over HTTP/1: slow heads, slow bodies, slow readers, large things.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use verge_gateway::GatewayConfig;
use verge_telemetry::Rejection;

use crate::support::{CHUNK, Stage, get, read_to_end, read_until, until};

fn hasty(config: &mut GatewayConfig) {
    config.head_timeout = Duration::from_millis(300);
    config.idle_timeout = Duration::from_millis(600);
    config.body_idle_timeout = Duration::from_millis(300);
    config.write_stall_timeout = Duration::from_millis(300);
    config.linger_timeout = Duration::from_millis(300);
}

#[tokio::test]
async fn slow_heads_are_cut() {
    let stage = Stage::with(hasty).await;
    // One byte now and then, for ever.
    let mut stream = stage.connect().await;
    let (_, mut write) = stream.split();
    let start = Instant::now();
    for byte in "GET / HTTP/1.1\r\nHost: app.test\r\n".bytes().chain(std::iter::repeat(b'a')) {
        if write.write_all(&[byte]).await.is_err() {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "never cut");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nothing at all, and nothing after the first request's bytes stopped.
    for bytes in ["", "P", "GET / HTTP/1.1\r\n"] {
        assert_eq!(stage.raw(bytes).await, "", "{bytes:?}");
    }
    assert_eq!(stage.seen.calls(), 0);
    assert_eq!(stage.metrics.rejections(Rejection::head_timeout), 4);
}

#[tokio::test]
async fn idle_connections_are_closed_in_good_order() {
    let stage = Stage::with(hasty).await;
    let start = Instant::now();
    let answer = stage.raw("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(answer.ends_with("Hello"), "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(500));
    assert_eq!(stage.metrics.rejections(Rejection::head_timeout), 0);
}

#[tokio::test]
async fn slow_bodies_are_cut_but_slow_apps_are_not() {
    let stage = Stage::with(hasty).await;
    let head = "POST /read HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000\r\n\r\n";
    let answer = stage.raw(format!("{head}abc")).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert_eq!(stage.metrics.rejections(Rejection::body_timeout), 1);
    let entry = stage.log.find(|entry| entry.path == "/read").await;
    assert_ne!(entry.fault, None);
    // The app takes its time before it answers, the body lies unread.
    let answer = stage
        .raw("POST /sleep/900 HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")
        .await;
    assert!(answer.ends_with("slept"), "{answer}");
}

#[tokio::test]
async fn a_reader_that_stops_is_cut_and_holds_little() {
    let stage = Stage::with(hasty).await;
    let mut stream = stage.connect().await;
    stream.write_all(get("app.test", "/stream/100000").as_bytes()).await.unwrap();
    until("the cut", || stage.metrics.rejections(Rejection::write_stall) == 1).await;
    let taken = stage.seen.chunks.load(SeqCst) * CHUNK;
    assert!(taken < 64 << 20, "{taken} bytes were taken from the app");
    let entry = stage.log.find(|entry| entry.path == "/stream/100000").await;
    assert_eq!(entry.fault, Some("client_gone"));
}

/// The whole body is with us at once; sending it takes several times the idle timeout.
#[tokio::test]
async fn a_slow_download_is_not_idle() {
    let stage = Stage::with(hasty).await;
    let mut stream = stage.connect().await;
    stream.write_all(get("app.test", "/full/40").as_bytes()).await.unwrap();
    let (mut taken, mut buffer, start) = (0, vec![0; 1 << 20], Instant::now());
    loop {
        let n = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        taken += n;
        // Slow at first, so that the timeouts get their chance.
        if start.elapsed() < Duration::from_secs(3) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(taken > 40 << 20, "{taken}");
}

#[tokio::test]
async fn large_heads_are_refused() {
    let stage = Stage::new().await;
    let head = |extra: &str| format!("GET / HTTP/1.1\r\nHost: app.test\r\n{extra}\r\n\r\n");
    let big = head(&format!("A: {}", "x".repeat(70_000)));
    assert!(stage.raw(big).await.starts_with("HTTP/1.1 431"));
    let many = head(&vec!["A: b"; 200].join("\r\n"));
    assert!(stage.raw(many).await.starts_with("HTTP/1.1 431"));
    let long = get("app.test", &format!("/{}", "x".repeat(20_000)));
    assert!(stage.raw(long).await.starts_with("HTTP/1.1 414"));
    let endless = "x".repeat(1 << 20);
    let answer = stage.raw(&endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert_eq!(stage.seen.calls(), 0);
    let fits = head(&format!("A: {}", "x".repeat(30_000)));
    let mut stream = stage.connect().await;
    stream.write_all(fits.as_bytes()).await.unwrap();
    read_until(&mut stream, "Hello").await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let stage = Stage::new().await;
    let post = "POST /read HTTP/1.1\r\nHost: small.test\r\n";
    for expect in ["", "Expect: 100-continue\r\n"] {
        let answer = stage.raw(format!("{post}Content-Length: 1001\r\n{expect}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        for part in ["verge-fault: request_body_limit", "connection: close", "1000"] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
    }
    // The answer arrives although the client goes on sending.
    let body = "x".repeat(100_000);
    let answer = stage.raw(format!("{post}Content-Length: 100000\r\n\r\n{body}")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(stage.seen.calls(), 0);
    let hits = "verge_limit_hits_total{app=\"small\",limit=\"request_body_limit\"} 3";
    assert!(stage.metrics.expose().contains(hits));
}

#[tokio::test]
async fn a_streamed_body_is_cut_at_the_limit() {
    let stage = Stage::new().await;
    let post = "POST /read HTTP/1.1\r\nHost: small.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |n: usize| format!("{n:x}\r\n{}\r\n", "x".repeat(n));
    let answer = stage.raw(format!("{post}{}{}0\r\n\r\n", chunk(900), chunk(200))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("verge-fault: request_body_limit"), "{answer}");
    let mut stream = stage.connect().await;
    let fits = format!("{post}{}{}0\r\n\r\n", chunk(900), chunk(100));
    stream.write_all(fits.as_bytes()).await.unwrap();
    read_until(&mut stream, "1000").await;
}

#[tokio::test]
async fn the_wall_limit_answers_504_or_aborts() {
    let stage = Stage::new().await;
    let start = Instant::now();
    let answer = stage.get("small.test", "/never").await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    assert!(answer.contains("verge-fault: wall_time_limit") && answer.contains("400"), "{answer}");
    assert!(start.elapsed() >= Duration::from_millis(400));
    // The response has begun: the stream must not look complete.
    let answer = stage.get("small.test", "/drip").await;
    assert!(answer.contains("first") && !answer.contains("0\r\n\r\n"), "{answer}");
    let entry = stage.log.find(|entry| entry.path == "/drip").await;
    assert_eq!(entry.fault, Some("wall_time_limit"));
    // The next request of a connection starts anew.
    let mut stream = stage.connect().await;
    for _ in 0..3 {
        let request = "GET /sleep/250 HTTP/1.1\r\nHost: small.test\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "slept").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let hits = "verge_limit_hits_total{app=\"small\",limit=\"wall_time_limit\"} 2";
    assert!(stage.metrics.expose().contains(hits));
}

#[tokio::test]
async fn running_out_of_file_descriptors_is_survived() {
    let stage = Stage::new().await;
    assert!(stage.get("app.test", "/").await.ends_with("Hello"));
    let limit = std::process::Command::new("prlimit")
        .args(["--nofile=128:128", "--pid", &std::process::id().to_string()])
        .status();
    assert!(limit.unwrap().success());
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    files.pop();
    // The client's socket takes the last one, so there is none for `accept`.
    let mut client = stage.connect().await;
    client.write_all(get("app.test", "/").as_bytes()).await.unwrap();
    until("a failed accept", || stage.metrics.rejections(Rejection::accept_error) > 1).await;
    drop(files);
    assert!(read_to_end(&mut client).await.ends_with("Hello"));
    let failures = stage.metrics.rejections(Rejection::accept_error);
    assert!(failures < 500, "{failures} failed accepts: the listener was spinning");
}

#[tokio::test]
async fn back_pressure_reaches_an_uploading_client() {
    let stage = Stage::new().await;
    let mut stream = stage.connect().await;
    let head = "POST /never HTTP/1.1\r\nHost: app.test\r\nContent-Length: 1000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b'x'; CHUNK];
    let mut sent = 0;
    let patience = Duration::from_millis(500);
    while let Ok(Ok(())) = tokio::time::timeout(patience, stream.write_all(&chunk)).await {
        sent += CHUNK;
        assert!(sent < 64 << 20, "{sent} bytes were taken though nobody reads them");
    }
}

#[tokio::test]
async fn a_stopped_client_does_not_hold_up_the_next() {
    let stage = Stage::with(hasty).await;
    let mut stream = stage.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\nGET").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.ends_with("Hello"), "{answer}");
    assert!(stage.get("app.test", "/").await.ends_with("Hello"));
}
