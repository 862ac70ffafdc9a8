//! Whoever finds the port.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use verge_fabric::{Fabric, Links};

use crate::world::{Fleet, PATIENCE, echo, linked, plain, seed, serve_echo, start};

/// Sends bytes and waits until the node closes.
async fn throw(at: &Fabric, bytes: &[u8]) {
    let mut socket = TcpStream::connect(at.local_addr()).await.unwrap();
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "closed after {:?}", &bytes[..bytes.len().min(20)]);
    assert!(answer.len() < 10_000);
}

/// The count comes after the close.
async fn counted(node: &Fabric, refused: u64) {
    let counted = async {
        while node.metrics().handshakes_refused < refused {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("each is counted");
}

fn garbage() -> Vec<Vec<u8>> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut data_on_stream_0 = [preface.clone(), settings.to_vec()].concat();
    data_on_stream_0.extend([0, 0, 1, 0, 0, 0, 0, 0, 0, 7]);
    let mut huge_frame = [preface.clone(), settings.to_vec()].concat();
    huge_frame.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    vec![
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        vec![0; 100_000],
        (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        [&[0x16, 3, 1, 0xff, 0xff][..], &[1; 70_000]].concat(),
        data_on_stream_0,
        huge_frame,
    ]
}

async fn survives(node: Fabric, mut other: verge_fabric::FabricConfig) {
    for bytes in garbage() {
        throw(&node, &bytes).await;
    }
    counted(&node, garbage().len() as u64).await;
    serve_echo(&node);
    other.seeds.push(seed(&node));
    let other = start(other).await;
    linked(&other, node.node()).await;
    assert_eq!(echo(&other, node.node(), "still here").await.unwrap(), "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_close_their_connection_only() {
    let links = Links::new(1);
    survives(start(plain("iad-1", &links)).await, plain("fra-1", &links)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_bytes_on_a_tls_port() {
    let fleet = Fleet::new("acme");
    survives(start(fleet.config("iad-1")).await, fleet.config("fra-1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed_and_their_number_is_bounded() {
    let links = Links::new(1);
    let mut config = plain("iad-1", &links);
    config.limits.max_handshakes = 4;
    config.limits.handshake_timeout = Duration::from_secs(2);
    let node = start(config).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(node.local_addr()).await.unwrap());
    }
    for socket in &mut silent {
        let mut byte = [0; 1024];
        let closed = async { while !matches!(socket.read(&mut byte).await, Ok(0) | Err(_)) {} };
        tokio::time::timeout(PATIENCE, closed).await.expect("closed by the node");
    }
    counted(&node, 20).await;
}

/// Speaks h2 well, and everything after it badly.
#[tokio::test(flavor = "multi_thread")]
async fn an_h2_client_that_is_no_node_gets_nowhere() {
    let links = Links::new(1);
    let mut config = plain("iad-1", &links);
    config.limits.handshake_timeout = Duration::from_secs(3);
    let node = start(config).await;
    serve_echo(&node);
    let long = [&(2_000_000u32).to_be_bytes()[..], b"{"].concat();
    for (path, body) in [
        ("/open", &b"\0\0\0\x05\x01\x01\0\0\0"[..]),
        ("/park", b""),
        ("/else", b""),
        ("/hello", b"\0\0\0\x02{}"),
        ("/hello", b"\0\0\0\x0f{\"type\":\"drained\"}"),
        ("/hello", &long),
    ] {
        let socket = TcpStream::connect(node.local_addr()).await.unwrap();
        let (requests, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut requests = requests.ready().await.unwrap();
        let request = http::Request::post(format!("http://fabric{path}")).body(()).unwrap();
        let (answer, mut stream) = requests.send_request(request, false).unwrap();
        let _ = stream.send_data(bytes::Bytes::copy_from_slice(body), false);
        if let Ok(answer) = answer.await {
            let mut body = answer.into_body();
            while let Some(Ok(_)) = body.data().await {}
        }
        drop((requests, stream));
        let closed = tokio::time::timeout(PATIENCE, connection).await;
        assert!(closed.is_ok(), "{path} is closed");
    }
    assert!(node.members().borrow().members.is_empty());
    assert_eq!(node.metrics().calls_served, 0);
}
