//! WebSocket over HTTP/1.1 and HTTP/2, with a client library and with raw frames.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use verge_types::WebSocketMessage;

use crate::support::{CHUNK, PATIENCE, Stage, h2, read_until, until};

async fn open(stage: &Stage, path: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://app.test{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "chat, other".parse().unwrap());
    let (socket, response) = client_async(request, stage.connect().await).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    assert!(response.headers().contains_key("x-request-id"));
    socket
}

async fn receive(socket: &mut WebSocketStream<TcpStream>) -> Option<Result<Message, Error>> {
    timeout(PATIENCE, socket.next()).await.expect("nothing came")
}

#[tokio::test]
async fn messages_of_all_kinds_and_sizes_come_back() {
    let stage = Stage::new().await;
    let mut socket = open(&stage, "/ws").await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let message = Message::Binary(Bytes::from(vec![7; size]));
        socket.send(message.clone()).await.unwrap();
        assert_eq!(receive(&mut socket).await.unwrap().unwrap(), message);
    }
    socket.send(Message::Text("grüße".into())).await.unwrap();
    assert_eq!(receive(&mut socket).await.unwrap().unwrap(), Message::Text("grüße".into()));
    socket.send(Message::Ping(Bytes::from_static(b"p"))).await.unwrap();
    assert_eq!(
        receive(&mut socket).await.unwrap().unwrap(),
        Message::Pong(Bytes::from_static(b"p"))
    );
    let frame = CloseFrame { code: 4005.into(), reason: "done".into() };
    socket.close(Some(frame.clone())).await.unwrap();
    assert_eq!(receive(&mut socket).await.unwrap().unwrap(), Message::Close(Some(frame)));
    assert!(receive(&mut socket).await.is_none());
    until("the app's close", || {
        let close = WebSocketMessage::Close { code: 4005, reason: "done".to_owned() };
        stage.seen.sockets.lock().unwrap().last() == Some(&close)
    })
    .await;
    until("the count", || stage.metrics.expose().contains("verge_websockets 0")).await;
}

#[tokio::test]
async fn the_app_closes_with_its_code_or_by_vanishing() {
    let stage = Stage::new().await;
    let mut socket = open(&stage, "/ws/close").await;
    match receive(&mut socket).await.unwrap().unwrap() {
        Message::Close(Some(frame)) => {
            assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "enough"));
        }
        other => panic!("{other:?}"),
    }
    let mut socket = open(&stage, "/ws/drop").await;
    assert!(!matches!(receive(&mut socket).await, Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn broken_rules_close_with_the_right_code() {
    let stage = Stage::with(|config| config.ws_max_message = 1000).await;
    // Masked with zeroes, so that the payload reads as it is.
    let frame = |head: u8, payload: &[u8]| {
        let mut bytes = vec![head, 0x80 | 126];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    };
    let fragments = [frame(0x02, &[b'x'; 600]), frame(0x80, &[b'x'; 600])].concat();
    for (name, bytes, code) in [
        ("too long", frame(0x82, &[b'x'; 1001]), 1009),
        ("too long in fragments", fragments, 1009),
        ("not UTF-8", frame(0x81, b"\xff\xfe"), 1007),
        ("a reserved bit", frame(0xf2, b"x"), 1002),
        ("an unknown opcode", frame(0x83, b"x"), 1002),
        ("not masked", vec![0x81, 1, b'x'], 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
    ] {
        let mut stream = upgraded(&stage, "/ws").await;
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer.first(), Some(&0x88), "{name}: {answer:x?}");
        assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), code, "{name}");
    }
    let sockets = stage.seen.sockets.lock().unwrap();
    assert!(sockets.iter().all(|m| matches!(m, WebSocketMessage::Close { .. })), "{sockets:?}");
}

#[tokio::test]
async fn whoever_accepts_may_take_larger_messages_than_the_listener() {
    let stage = Stage::with(|config| config.ws_max_message = 1000).await;
    let mut socket = open(&stage, "/ws/large").await;
    let message = Message::Binary(Bytes::from(vec![7; 3 << 20]));
    socket.send(message.clone()).await.unwrap();
    assert_eq!(receive(&mut socket).await.unwrap().unwrap(), message);
}

async fn upgraded(stage: &Stage, path: &str) -> TcpStream {
    let mut stream = stage.connect().await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
    stream
}

#[tokio::test]
async fn a_client_that_falls_silent_is_pinged_and_dropped() {
    let stage = Stage::with(|config| {
        config.ws_ping_interval = Duration::from_millis(50);
        config.ws_idle_timeout = Duration::from_millis(300);
    })
    .await;
    // Answers pings (the library does): stays.
    let mut socket = open(&stage, "/ws").await;
    let alive = timeout(Duration::from_millis(900), async {
        while let Some(Ok(message)) = socket.next().await {
            assert!(message.is_ping());
        }
    });
    assert!(alive.await.is_err(), "a living client was dropped");
    // Answers nothing: goes.
    let mut stream = upgraded(&stage, "/ws").await;
    let mut all = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.unwrap();
    assert!(all.starts_with(&[0x89, 0]), "{all:x?}");
}

#[tokio::test]
async fn back_pressure_holds_both_ways() {
    let stage = Stage::new().await;
    // The client does not read: the app is stopped.
    let _slow = upgraded(&stage, "/ws/flood").await;
    let mut last = usize::MAX;
    while stage.seen.chunks.load(SeqCst) != last {
        last = stage.seen.chunks.load(SeqCst);
        assert!(last * CHUNK < 64 << 20, "the app was never stopped");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // The app does not read: the client is stopped.
    let mut socket = open(&stage, "/ws/deaf").await;
    let message = Message::Binary(Bytes::from(vec![7; CHUNK]));
    let mut sent = 0;
    while let Ok(Ok(())) = timeout(Duration::from_millis(300), socket.send(message.clone())).await {
        sent += 1;
        if sent > 2000 {
            break;
        }
    }
    assert!(sent * CHUNK < 64 << 20, "the client was never stopped");
}

#[tokio::test]
async fn extended_connect_over_http_2() {
    let stage = Stage::new().await;
    let mut client = h2(&stage).await;
    until("the setting", || client.is_extended_connect_protocol_enabled()).await;
    let request = Request::connect("http://app.test/ws")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
    let mut body = response.into_body();
    send.send_data(Bytes::from_static(b"\x81\x82\0\0\0\0hi"), false).unwrap();
    let echo = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
    assert_eq!(&echo[..], b"\x81\x02hi");
    send.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xe8"), false).unwrap();
    let close = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
    assert_eq!(&close[..], b"\x88\x02\x03\xe8");
    let end = timeout(PATIENCE, body.data()).await.unwrap();
    assert!(end.as_ref().is_none_or(|end| end.as_ref().is_ok_and(Bytes::is_empty)), "{end:?}");
    let other = Request::connect("http://app.test/ws")
        .extension(h2::ext::Protocol::from_static("connect-udp"))
        .body(())
        .unwrap();
    client = client.ready().await.unwrap();
    let (response, _) = client.send_request(other, false).unwrap();
    assert_eq!(timeout(PATIENCE, response).await.unwrap().unwrap().status(), 426);
}

#[tokio::test]
async fn an_app_that_declines_answers_in_http() {
    let stage = Stage::new().await;
    let error = client_async("ws://app.test/status/403", stage.connect().await).await.unwrap_err();
    match error {
        Error::Http(response) => assert_eq!(response.status(), 403),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn draining_says_going_away() {
    let mut stage = Stage::new().await;
    let mut socket = open(&stage, "/ws").await;
    stage.begin_stop();
    match receive(&mut socket).await.unwrap().unwrap() {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1001),
        other => panic!("{other:?}"),
    }
    while let Some(Ok(_)) = receive(&mut socket).await {}
    assert_eq!(stage.drained().await.connections_cut, 0);
}
