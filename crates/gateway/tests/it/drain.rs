//! Stopping: what runs is finished, nothing that was accepted is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Stage, get, h2, h2_get, h2_read, read_to_end, read_until, until};

/// One client with a kept-alive connection. A request counts as lost if its connection was
/// fine when it was sent and then gave no whole answer.
async fn keep_asking(
    addr: std::net::SocketAddr,
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
) {
    let mut stream: Option<TcpStream> = None;
    while !over.load(SeqCst) {
        let mut connection = match stream.take() {
            Some(connection) => connection,
            // Nobody listens any more: the end.
            None => match TcpStream::connect(addr).await {
                Ok(connection) => connection,
                Err(_) => return,
            },
        };
        let request = "GET /sleep/5 HTTP/1.1\r\nHost: app.test\r\n\r\n";
        connection.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut connection, "slept").await;
        answered.fetch_add(1, SeqCst);
        if answer.contains("connection: close") {
            assert_eq!(read_to_end(&mut connection).await, "");
        } else {
            stream = Some(connection);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_under_load() {
    for _ in 0..5 {
        let mut stage = Stage::new().await;
        let (answered, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let clients: Vec<_> = (0..32)
            .map(|_| tokio::spawn(keep_asking(stage.addr, answered.clone(), over.clone())))
            .collect();
        until("load", || answered.load(SeqCst) > 500).await;
        let drained = stage.drained().await;
        for client in clients {
            tokio::time::timeout(PATIENCE, client).await.unwrap().unwrap();
        }
        assert_eq!((drained.cut, drained.connections_cut), (0, 0), "{drained:?}");
        assert_eq!(stage.seen.calls(), answered.load(SeqCst));
    }
}

#[tokio::test]
async fn running_requests_finish_and_idle_connections_close() {
    let mut stage = Stage::new().await;
    let mut idle = stage.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
    read_until(&mut idle, "Hello").await;
    let mut busy = stage.connect().await;
    busy.write_all(b"GET /sleep/1000 HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
    until("the call", || stage.seen.calls() == 2).await;
    stage.begin_stop();
    assert_eq!(read_to_end(&mut idle).await, "");
    let answer = read_to_end(&mut busy).await;
    assert!(answer.contains("connection: close") && answer.ends_with("slept"), "{answer}");
    let drained = stage.drained().await;
    assert_eq!((drained.finished, drained.cut, drained.connections_cut), (1, 0, 0));
    assert!(TcpStream::connect(stage.addr).await.is_err());
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_and_counted() {
    let mut stage = Stage::with(|config| config.drain_timeout = Duration::from_millis(300)).await;
    let mut stuck = stage.connect().await;
    stuck.write_all(get("app.test", "/never").as_bytes()).await.unwrap();
    let mut client = h2(&stage).await;
    let (response, _) = client.send_request(h2_get("/never"), true).unwrap();
    until("the calls", || stage.seen.calls() == 2).await;
    let start = Instant::now();
    let drained = stage.drained().await;
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!((drained.finished, drained.cut, drained.connections_cut), (0, 2, 2), "{drained:?}");
    assert!(response.await.is_err());
    assert_eq!(read_to_end(&mut stuck).await, "");
}

#[tokio::test]
async fn http_2_gets_goaway_and_its_streams_finish() {
    let mut stage = Stage::new().await;
    let mut client = h2(&stage).await;
    let (response, _) = client.send_request(h2_get("/sleep/500"), true).unwrap();
    until("the call", || stage.seen.calls() == 1).await;
    stage.begin_stop();
    let body = h2_read(response.await.unwrap().into_body()).await.unwrap();
    assert_eq!(body, b"slept");
    let drained = stage.drained().await;
    assert_eq!((drained.finished, drained.cut, drained.connections_cut), (1, 0, 0), "{drained:?}");
}

#[tokio::test]
async fn a_listener_that_is_cut_waits_for_nobody() {
    let mut stage = Stage::new().await;
    let mut running = stage.connect().await;
    running.write_all(get("app.test", "/sleep/60000").as_bytes()).await.unwrap();
    until("it runs", || stage.seen.calls() == 1).await;
    let started = Instant::now();
    stage.cutter.cut();
    assert_eq!(read_to_end(&mut running).await, "", "the connection breaks off");
    let drained = stage.drained().await;
    assert_eq!((drained.finished, drained.cut), (0, 1), "{drained:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "the request would take a minute");
    assert!(TcpStream::connect(stage.addr).await.is_err(), "nobody listens any more");
}
