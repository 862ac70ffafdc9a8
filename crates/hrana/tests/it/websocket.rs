//! Hrana over WebSocket, without a listener.

use std::time::Duration;

use serde_json::json;
use verge_hrana::{Limits, codes};
use verge_types::WebSocketMessage;

use crate::support::{ENDLESS, Served, execute};

#[tokio::test]
async fn the_first_subprotocol_that_we_speak_is_chosen() {
    let served = Served::new(Limits::default());
    for (offered, chosen) in [
        (Some("hrana2, hrana1"), Some("hrana2")),
        (Some("hrana9,hrana3-protobuf,hrana3"), Some("hrana3-protobuf")),
        (Some("hrana3"), Some("hrana3")),
        (None, None),
    ] {
        let socket = served.websocket(offered).await.unwrap_or_else(|_| panic!("{offered:?}"));
        assert_eq!(socket.protocol.as_deref(), chosen);
    }
    let refused = served.websocket(Some("graphql-ws")).await.err().unwrap();
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn requests_may_be_sent_before_any_answer_and_a_stream_keeps_their_order() {
    let served = Served::new(Limits::default());
    let mut socket = served.websocket(Some("hrana2")).await.ok().unwrap();
    socket.send(json!({"type": "hello", "jwt": "full"})).await;
    let on_stream = |mut request: serde_json::Value| {
        request["stream_id"] = json!(1);
        request
    };
    socket.request(0, json!({"type": "open_stream", "stream_id": 1})).await;
    socket.request(1, on_stream(execute("CREATE TABLE t (a)"))).await;
    socket
        .request(2, json!({"type": "store_sql", "sql_id": 3, "sql": "INSERT INTO t VALUES (?)"}))
        .await;
    for request_id in 3..13 {
        let stmt =
            json!({"sql_id": 3, "args": [{"type": "integer", "value": request_id.to_string()}]});
        socket.request(request_id, on_stream(json!({"type": "execute", "stmt": stmt}))).await;
    }
    socket.request(13, json!({"type": "close_sql", "sql_id": 3})).await;
    socket.request(14, on_stream(execute("SELECT group_concat(a) FROM t"))).await;
    socket.request(15, on_stream(json!({"type": "close_stream"}))).await;
    assert_eq!(socket.next().await["type"], "hello_ok");
    let mut answers = std::collections::BTreeMap::new();
    for _ in 0..16 {
        let answer = socket.next().await;
        assert_eq!(answer["type"], "response_ok", "{answer}");
        answers.insert(answer["request_id"].as_i64().unwrap(), answer["response"].clone());
    }
    assert_eq!(answers[&14]["result"]["rows"][0][0]["value"], "3,4,5,6,7,8,9,10,11,12");
    assert_eq!(answers[&15]["type"], "close_stream");
}

#[tokio::test]
async fn what_is_no_message_closes_the_socket_with_a_code() {
    let served = Served::new(Limits { message_bytes: 1_000, ..Limits::default() });
    for (protocol, message, code) in [
        ("hrana3", WebSocketMessage::Text("{".into()), 1002),
        ("hrana3", WebSocketMessage::Binary(vec![1].into()), 1003),
        ("hrana3-protobuf", WebSocketMessage::Text("{}".into()), 1003),
        ("hrana3-protobuf", WebSocketMessage::Binary(vec![255].into()), 1002),
        ("hrana3", WebSocketMessage::Text(" ".repeat(1_001)), 1009),
        ("hrana3", WebSocketMessage::Close { code: 1000, reason: String::new() }, 1000),
    ] {
        let mut socket = served.websocket(Some(protocol)).await.ok().unwrap();
        socket.to_app.send(message).await.unwrap();
        assert_eq!(socket.next().await["closed"], code);
        assert_eq!(socket.next().await["gone"], true);
    }
}

#[tokio::test]
async fn who_says_no_hello_is_closed() {
    let served = Served::new(Limits { hello: Duration::from_millis(20), ..Limits::default() });
    let mut socket = served.websocket(Some("hrana3")).await.ok().unwrap();
    assert_eq!(socket.next().await["closed"], 1008);
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_writer() {
    let served = Served::new(Limits::default());
    let mut socket = served.websocket(Some("hrana3")).await.ok().unwrap();
    socket.hello().await;
    socket.request(0, json!({"type": "open_stream", "stream_id": 0})).await;
    let begin = json!({"type": "execute", "stream_id": 0, "stmt": {"sql": "BEGIN IMMEDIATE"}});
    socket.request(1, begin).await;
    socket.next().await;
    assert_eq!(socket.next().await["type"], "response_ok");
    let endless = json!({"type": "execute", "stream_id": 0, "stmt": {"sql": ENDLESS}});
    socket.request(2, endless).await;
    drop(socket);
    let sqlite = served.sqlite();
    let wrote = tokio::task::spawn_blocking(move || sqlite.execute("CREATE TABLE t (a)", []));
    wrote.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_unread_client_is_not_read_from() {
    let limits = Limits { outstanding_requests: 4, ..Limits::default() };
    let served = Served::new(limits);
    let mut socket = served.websocket(Some("hrana3")).await.ok().unwrap();
    socket.hello().await;
    socket.request(0, json!({"type": "open_stream", "stream_id": 0})).await;
    let one = json!({"type": "execute", "stream_id": 0, "stmt": {"sql": "SELECT 1"}});
    let text = json!({"type": "request", "request_id": 1, "request": one}).to_string();
    let mut sent = 0;
    // Until both queues are full, which they are after a bounded number of messages.
    while tokio::time::timeout(
        Duration::from_millis(200),
        socket.to_app.send(WebSocketMessage::Text(text.clone())),
    )
    .await
    .is_ok()
    {
        sent += 1;
        assert!(sent < 1_000);
    }
    for _ in 0..=sent {
        assert_eq!(socket.next().await["type"], "response_ok");
    }
}

#[tokio::test]
async fn a_cursor_is_fetched_in_pieces_and_closed_early() {
    let served = Served::new(Limits { cursor_bytes: 500, ..Limits::default() });
    let mut socket = served.websocket(Some("hrana3")).await.ok().unwrap();
    socket.hello().await;
    socket.request(0, json!({"type": "open_stream", "stream_id": 0})).await;
    socket.next().await;
    let endless =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let batch = json!({"steps": [{"stmt": {"sql": endless}}]});
    let open = json!({"type": "open_cursor", "stream_id": 0, "cursor_id": 5, "batch": batch});
    socket.request(1, open).await;
    assert_eq!(socket.next().await["response"]["type"], "open_cursor");
    let mut last = 0;
    for request_id in 2..50 {
        socket
            .request(request_id, json!({"type": "fetch_cursor", "cursor_id": 5, "max_count": 3}))
            .await;
        let answer = socket.next().await;
        let entries = answer["response"]["entries"].as_array().unwrap();
        assert!((1..=3).contains(&entries.len()));
        assert_eq!(answer["response"]["done"], false);
        for entry in entries.iter().filter(|entry| entry["type"] == "row") {
            let n: i64 = entry["row"][0]["value"].as_str().unwrap().parse().unwrap();
            assert_eq!(n, last + 1);
            last = n;
        }
    }
    socket.request(50, json!({"type": "close_cursor", "cursor_id": 5})).await;
    assert_eq!(socket.next().await["response"]["type"], "close_cursor");
    let one = json!({"type": "execute", "stream_id": 0, "stmt": {"sql": "SELECT 1"}});
    socket.request(51, one).await;
    assert_eq!(socket.next().await["type"], "response_ok", "the stream is free again");
}

#[tokio::test]
async fn a_stream_that_idles_is_closed_and_says_so() {
    let ws_stream_idle = Duration::from_millis(20);
    let served = Served::new(Limits { ws_stream_idle, ..Limits::default() });
    let mut socket = served.websocket(Some("hrana3")).await.ok().unwrap();
    socket.hello().await;
    socket.request(0, json!({"type": "open_stream", "stream_id": 0})).await;
    socket.next().await;
    let mut answer = json!(null);
    for wait in 1..200 {
        tokio::time::sleep(Duration::from_millis(5 * wait)).await;
        socket.request(1, json!({"type": "get_autocommit", "stream_id": 0})).await;
        answer = socket.next().await;
        if answer["type"] == "response_error" {
            break;
        }
    }
    assert_eq!(answer["error"]["code"], codes::STREAM_EXPIRED);
    socket.request(2, json!({"type": "close_stream", "stream_id": 0})).await;
    assert_eq!(socket.next().await["type"], "response_ok");
}
