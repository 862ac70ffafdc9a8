//! HTTP/2: streams, trailers, limits, floods.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use verge_telemetry::Rejection;

use crate::support::{CHUNK, PATIENCE, Stage, h2, h2_get, h2_read, read_to_end, resident, until};

#[tokio::test]
async fn requests_and_streams() {
    let stage = Stage::new().await;
    let mut client = h2(&stage).await;
    let (response, _) = client.send_request(h2_get("/headers"), true).unwrap();
    let response = response.await.unwrap();
    assert!(response.headers().contains_key("x-request-id"));
    let text = String::from_utf8(h2_read(response.into_body()).await.unwrap()).unwrap();
    for line in ["GET /headers", "host: app.test", "proto HTTP/2", "x-real-ip: 127.0.0.1"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let mut waiting = Vec::new();
    for _ in 0..50 {
        client = client.ready().await.unwrap();
        waiting.push(client.send_request(h2_get("/stream/3"), true).unwrap().0);
    }
    let reading = waiting.into_iter().map(async |response| {
        let body = h2_read(response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(body.len(), 3 * CHUNK);
    });
    futures_util::future::join_all(reading).await;
}

#[tokio::test]
async fn bodies_trailers_and_head() {
    let stage = Stage::new().await;
    let mut client = h2(&stage).await;
    let post = Request::post("http://app.test/read").body(()).unwrap();
    let (response, mut body) = client.send_request(post, false).unwrap();
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    body.send_trailers(trailers).unwrap();
    let text = h2_read(response.await.unwrap().into_body()).await.unwrap();
    assert_eq!(text, b"true bytes, trailer 3");
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(h2_get("/trailers"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    while body.data().await.is_some() {}
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["x-sum"], "42");
    assert!(!trailers.contains_key("content-length"));
    client = client.ready().await.unwrap();
    let head = Request::head("http://app.test/").body(()).unwrap();
    let (response, _) = client.send_request(head, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.headers()["content-length"], "5");
    assert!(h2_read(response.into_body()).await.unwrap().is_empty());
}

#[tokio::test]
async fn limits_of_a_stream() {
    let stage = Stage::new().await;
    let mut client = h2(&stage).await;
    let small = |path: &str| Request::get(format!("http://small.test{path}")).body(()).unwrap();
    let (response, _) = client.send_request(small("/never"), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 504);
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(small("/drip"), true).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert!(h2_read(response.into_body()).await.is_err(), "the stream looks complete");
    client = client.ready().await.unwrap();
    let post = Request::post("http://small.test/read").body(()).unwrap();
    let (response, mut body) = client.send_request(post, false).unwrap();
    body.send_data(Bytes::from(vec![b'x'; 2000]), false).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 413);
    client = client.ready().await.unwrap();
    let post =
        Request::post("http://small.test/read").header("content-length", 5000).body(()).unwrap();
    let (response, _body) = client.send_request(post, false).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(
        (response.status(), stage.seen.calls()),
        (http::StatusCode::from_u16(413).unwrap(), 3)
    );
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let stage = Stage::new().await;
    let mut client = h2(&stage).await;
    let mut status = async |request: Request<()>| {
        client = client.clone().ready().await.unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        timeout(PATIENCE, response).await.unwrap().map(|response| response.status().as_u16()).ok()
    };
    let get = |host: &str| Request::get("http://app.test/").header("host", host).body(()).unwrap();
    assert_eq!(status(get("app.test")).await, Some(200));
    assert_eq!(status(get("other.test")).await, Some(400));
    let connect = Request::connect("app.test:80").body(()).unwrap();
    assert_eq!(status(connect).await, Some(405));
    let trace = Request::trace("http://app.test/").body(()).unwrap();
    assert_eq!(status(trace).await, Some(405));
    let mut many = h2_get("/");
    for n in 0..200 {
        let name = http::HeaderName::try_from(format!("a{n}")).unwrap();
        many.headers_mut().insert(name, "b".parse().unwrap());
    }
    assert_eq!(status(many).await, Some(431));
    let long = h2_get(&format!("/{}", "x".repeat(20_000)));
    assert_eq!(status(long).await, Some(414));
    assert_eq!(stage.seen.calls(), 1);
}

#[tokio::test]
async fn a_window_that_stays_shut_is_cut() {
    let stage = Stage::with(|config| config.write_stall_timeout = Duration::from_millis(300)).await;
    let mut client = h2(&stage).await;
    let (response, _) = client.send_request(h2_get("/stream/10000"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    // Data comes, but its window is never given back.
    let mut taken = 0;
    let end = loop {
        match timeout(PATIENCE, body.data()).await.expect("never cut") {
            Some(Ok(data)) => taken += data.len(),
            other => break other,
        }
    };
    assert!(matches!(end, Some(Err(_))), "{end:?}");
    assert!(taken <= 70_000);
    assert!(stage.seen.chunks.load(SeqCst) < 8, "back-pressure did not reach the app");
    until("the count", || stage.metrics.rejections(Rejection::write_stall) == 1).await;
    // The connection itself is fine.
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(h2_get("/status/204"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 204);
}

#[tokio::test]
async fn concurrent_streams_are_bounded() {
    let stage = Stage::with(|config| config.h2_max_streams = 4).await;
    let mut raw = Frames::connect(&stage).await;
    for id in (1..40).step_by(2) {
        raw.get(id, "/never").await;
    }
    until("the calls", || stage.seen.calls() == 4).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(stage.seen.calls(), 4);
}

#[tokio::test]
async fn rapid_reset_ends_the_connection() {
    let stage = Stage::new().await;
    let mut raw = Frames::connect(&stage).await;
    let mut id = 1;
    let end = async {
        loop {
            let mut burst = Vec::new();
            for _ in 0..100 {
                burst.extend(headers(id, "/never"));
                burst.extend(frame(3, 0, id, &8u32.to_be_bytes()));
                id += 2;
            }
            if raw.0.write_all(&burst).await.is_err() {
                return;
            }
            assert!(id < 2_000_000, "never stopped");
        }
    };
    timeout(PATIENCE, end).await.unwrap();
    until("the count", || stage.metrics.rejections(Rejection::h2_abuse) == 1).await;
}

#[tokio::test]
async fn a_continuation_flood_ends_the_connection() {
    let stage = Stage::new().await;
    let mut raw = Frames::connect(&stage).await;
    // HEADERS without END_HEADERS, then continuations for ever.
    let mut bytes = frame(1, 1, 1, &header_block("/"));
    let filler = [0x00, 0x01, b'a', 0x7f, 0x80, 0x01];
    let mut block = filler.to_vec();
    block.extend(vec![b'b'; 255]);
    for _ in 0..100 {
        bytes.extend(frame(9, 0, 1, &block));
    }
    flood(&mut raw.0, &bytes).await;
    assert_eq!(stage.seen.calls(), 0);
}

#[tokio::test]
async fn floods_of_control_frames_keep_memory_flat() {
    let stage = Stage::with(|config| config.write_stall_timeout = Duration::from_secs(1)).await;
    let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let ping = frame(6, 0, 0, b"12345678");
    let priority = frame(2, 0, 1, &[0, 0, 0, 0, 16]);
    let empty = frame(0, 0, 1, b"");
    for (name, bytes) in
        [("settings", &settings), ("ping", &ping), ("priority", &priority), ("data", &empty)]
    {
        let mut raw = Frames::connect(&stage).await;
        if name == "data" {
            raw.0.write_all(&post(1, "/never")).await.unwrap();
        }
        let burst = bytes.repeat(1000);
        let before = resident();
        // Whoever floods and does not read is stopped or made to wait.
        let flood = async {
            for _ in 0..2000 {
                if raw.0.write_all(&burst).await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(Duration::from_secs(3), flood).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{name}: {grown} bytes");
    }
    assert!(stage.get("app.test", "/").await.ends_with("Hello"));
}

/// The flooder reads its acknowledgements, so nothing ever backs up.
#[tokio::test]
async fn a_flood_that_is_read_ends_the_connection() {
    let stage = Stage::new().await;
    let burst = frame(6, 0, 0, b"12345678").repeat(1000);
    let raw = Frames::connect(&stage).await;
    let (mut read, mut write) = raw.0.into_split();
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while matches!(read.read(&mut buffer).await, Ok(n) if n > 0) {}
    });
    let flood = async { while write.write_all(&burst).await.is_ok() {} };
    timeout(PATIENCE, flood).await.expect("the flood was never stopped");
    until("the count", || stage.metrics.rejections(Rejection::h2_abuse) == 1).await;
    timeout(PATIENCE, reader).await.unwrap().unwrap();
}

#[tokio::test]
async fn nonsense_ends_the_connection() {
    let stage = Stage::new().await;
    for bytes in [
        frame(0, 0, 1, b"data on an idle stream"),
        frame(1, 5, 2, &header_block("/")),
        frame(8, 0, 0, &0u32.to_be_bytes()),
        frame(4, 0, 0, &[1, 2, 3]),
        vec![0xff; 100],
    ] {
        let mut raw = Frames::connect(&stage).await;
        raw.0.write_all(&bytes).await.unwrap();
        read_to_end(&mut raw.0).await;
    }
    assert_eq!(stage.seen.calls(), 0);
}

#[tokio::test]
async fn a_slow_download_is_not_idle() {
    let stage = Stage::with(|config| {
        config.idle_timeout = Duration::from_millis(300);
        config.write_stall_timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = h2(&stage).await;
    let (response, _) = client.send_request(h2_get("/full/8"), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let (mut taken, start) = (0, std::time::Instant::now());
    while let Some(data) = timeout(PATIENCE, body.data()).await.unwrap() {
        let length = data.unwrap().len();
        taken += length;
        if start.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        body.flow_control().release_capacity(length).unwrap();
    }
    assert_eq!(taken, 8 << 20);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let stage = Stage::with(|config| {
        config.idle_timeout = Duration::from_millis(300);
        // Pings and their answers are no use of a connection.
        config.h2_ping_interval = Duration::from_millis(50);
    })
    .await;
    let mut client = h2(&stage).await;
    let (response, _) = client.send_request(h2_get("/"), true).unwrap();
    h2_read(response.await.unwrap().into_body()).await.unwrap();
    let gone = async {
        while client.clone().ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
    client = client.clone();
    assert!(client.send_request(h2_get("/"), true).is_err());
}

async fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    let end = async { while stream.write_all(bytes).await.is_ok() {} };
    timeout(PATIENCE, end).await.expect("the flood was never stopped");
}

/// Raw HTTP/2 frames.
struct Frames(TcpStream);

impl Frames {
    async fn connect(stage: &Stage) -> Self {
        let mut stream = stage.connect().await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(4, 0, 0, b"")).await.unwrap();
        let mut settings = [0; 9];
        stream.read_exact(&mut settings).await.unwrap();
        stream.write_all(&frame(4, 1, 0, b"")).await.unwrap();
        Self(stream)
    }

    async fn get(&mut self, id: u32, path: &str) {
        self.0.write_all(&headers(id, path)).await.unwrap();
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `:method GET`, `:scheme http`, `:authority app.test`, `:path`, all without Huffman coding.
fn header_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x01, 8];
    block.extend(b"app.test");
    block.extend([0x04, path.len() as u8]);
    block.extend(path.as_bytes());
    block
}

/// HEADERS with END_HEADERS and END_STREAM.
fn headers(id: u32, path: &str) -> Vec<u8> {
    frame(1, 5, id, &header_block(path))
}

/// HEADERS of a POST whose body is to come.
fn post(id: u32, path: &str) -> Vec<u8> {
    let mut block = header_block(path);
    block[0] = 0x83;
    frame(1, 4, id, &block)
}
