//! The chat example with two guests.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::harness::{Dev, PATIENCE, example};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn join(dev: &Dev, name: &str) -> Socket {
    let url = format!("ws://localhost:{}/room?name={name}", dev.port);
    timeout(PATIENCE, connect_async(url)).await.expect("in time").expect("accepted").0
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        let message = timeout(PATIENCE, socket.next()).await.expect("in time");
        match message.expect("open").expect("a message") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_one_guest_says_reaches_the_other() {
    let dev = Dev::start(&[&example("chat")]);
    let page = dev.get("/").await;
    assert!(page.body.contains("<h1>Chat</h1>"));
    let refused = dev.get("/room").await;
    assert_eq!(refused.status, 426);

    let mut ann = join(&dev, "Ann").await;
    assert_eq!(next(&mut ann).await["type"], "joined");
    let mut bob = join(&dev, "Bob").await;
    assert_eq!(next(&mut bob).await["here"], 2);
    assert_eq!(next(&mut ann).await["name"], "Bob");

    ann.send(Message::text("hello <b>")).await.expect("sent");
    for socket in [&mut ann, &mut bob] {
        let said = next(socket).await;
        assert_eq!((&said["name"], &said["text"]), (&"Ann".into(), &"hello <b>".into()));
    }
    bob.close(None).await.expect("closed");
    let left = next(&mut ann).await;
    assert_eq!((&left["type"], &left["here"]), (&"left".into(), &1.into()));
}

#[tokio::test]
async fn guests_stay_connected_while_the_app_is_replaced() {
    let dir = super::harness::copy_of_example("chat");
    let dev = Dev::start(&[dir.path()]);
    let mut ann = join(&dev, "Ann").await;
    next(&mut ann).await;
    let source = dir.path().join("src/index.ts");
    let text = std::fs::read_to_string(&source).expect("read");
    super::harness::write(&source, &text.replace("somebody", "anybody"));
    dev.event("built", 1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    ann.send(Message::text("still here")).await.expect("sent");
    assert_eq!(next(&mut ann).await["text"], "still here");
}
