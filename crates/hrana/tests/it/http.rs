//! Hrana over HTTP, without a listener.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use verge_hrana::{Limits, codes};
use verge_types::Body;

use crate::support::{ENDLESS, Served, execute};

fn served() -> Served {
    Served::new(Limits::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_token_is_told_so_with_a_code() {
    let served = served();
    let body = json!({"requests": []});
    for (header, code) in [
        (None, codes::AUTH_HEADER_MISSING),
        (Some("Bearer wrong"), codes::AUTH_INVALID),
        (Some("Bearer "), codes::AUTH_INVALID),
        (Some("Basic full"), codes::AUTH_HEADER_SCHEME),
        (Some("full"), codes::AUTH_HEADER_SCHEME),
    ] {
        let (status, told) = served.post_as(header, "/v3/pipeline", &body).await;
        assert_eq!((status, told["code"].as_str().unwrap()), (401, code));
    }
    assert_eq!(served.post_as(Some("bearer full"), "/v3/pipeline", &body).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_told_to_everybody_and_only_below_the_mount() {
    let served = Served::with(|config| config.mount = "/db/main".into());
    for (path, status) in [
        ("/db/main/v2", 200),
        ("/db/main/v3", 200),
        ("/db/main/v3-protobuf", 200),
        ("/db/main/v1", 404),
        ("/v2", 404),
        ("/db/mainv2", 404),
        ("/db/main", 404),
    ] {
        let response = served.call(Request::get(path).body(Body::Empty).unwrap()).await;
        assert_eq!(response.status(), status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_goes_on_after_an_error_and_keeps_its_stream() {
    let served = served();
    let requests = json!([
        {"type": "store_sql", "sql_id": 1, "sql": "SELECT 1 AS one, 2.5, 'x', x'00ff', NULL"},
        execute("SELEC"),
        {"type": "execute", "stmt": {"sql_id": 1}},
        {"type": "execute", "stmt": {"sql_id": 2}},
        {"type": "execute", "stmt": {"sql": "SELECT 1", "want_rows": false}},
    ]);
    let (baton, results) = served.pipeline(&Json::Null, requests).await;
    let kinds: Vec<_> =
        results.as_array().unwrap().iter().map(|r| r["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ok", "error", "ok", "error", "ok"]);
    assert_eq!(results[1]["error"]["code"], "SQLITE_ERROR");
    assert_eq!(results[3]["error"]["code"], codes::SQL_ID_UNKNOWN);
    let result = &results[2]["response"]["result"];
    assert_eq!(result["cols"][0], json!({"name": "one", "decltype": null}));
    assert_eq!(
        result["rows"][0],
        json!([
            {"type": "integer", "value": "1"}, {"type": "float", "value": 2.5},
            {"type": "text", "value": "x"}, {"type": "blob", "base64": "AP8"}, {"type": "null"},
        ])
    );
    assert_eq!(results[4]["response"]["result"]["rows"], json!([]));

    let requests = json!([{"type": "execute", "stmt": {"sql_id": 1}}, {"type": "close"}]);
    let (closed, results) = served.pipeline(&baton, requests).await;
    assert_eq!((closed, &results[0]["type"]), (Json::Null, &json!("ok")), "stored SQL stays");
    let (status, told) =
        served.post("/v2/pipeline", &json!({"baton": baton, "requests": []})).await;
    assert_eq!((status, told["code"].as_str().unwrap()), (400, codes::STREAM_EXPIRED));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_belongs_to_the_access_it_was_opened_with() {
    let served = served();
    let (baton, _) = served.pipeline(&Json::Null, json!([execute("BEGIN IMMEDIATE")])).await;
    let body = json!({"baton": baton, "requests": [execute("SELECT 1")]});
    let (status, told) = served.post_as(Some("Bearer read"), "/v2/pipeline", &body).await;
    assert_eq!((status, told["code"].as_str().unwrap()), (401, codes::AUTH_CHANGED));
    assert_eq!(served.post("/v2/pipeline", &body).await.0, 200, "the stream is as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_is_rolled_back_and_forgotten() {
    let idle = Duration::from_millis(50);
    let served = Served::new(Limits { http_stream_idle: idle, ..Limits::default() });
    let begin = json!([
        execute("CREATE TABLE t (a)"),
        execute("BEGIN IMMEDIATE"),
        execute("INSERT INTO t VALUES (1)")
    ]);
    let (baton, _) = served.pipeline(&Json::Null, begin).await;
    // Waits until the writer is free.
    served.sqlite().execute("INSERT INTO t VALUES (2)", []).unwrap();
    let mut code = String::new();
    for _ in 0..1_000 {
        let body = json!({"baton": baton, "requests": []});
        let (status, told) = served.post("/v2/pipeline", &body).await;
        if status == 400 {
            code = told["code"].as_str().unwrap().to_owned();
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!([codes::STREAM_EXPIRED, codes::BATON_USED].contains(&code.as_str()), "{code}");
    let count: i64 = served.sqlite().query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
    assert_eq!(count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_ends_at_its_deadline_and_its_stream_does_nothing_more() {
    let write_transaction = Duration::from_millis(50);
    let served = Served::new(Limits { write_transaction, ..Limits::default() });
    let begin = json!([
        execute("CREATE TABLE t (a)"),
        execute("BEGIN IMMEDIATE"),
        execute("INSERT INTO t VALUES (1)")
    ]);
    let (baton, _) = served.pipeline(&Json::Null, begin).await;
    served.sqlite().execute("INSERT INTO t VALUES (2)", []).unwrap();
    let late =
        json!([execute("INSERT INTO t VALUES (3)"), execute("COMMIT"), {"type": "get_autocommit"}]);
    let (_, results) = served.pipeline(&baton, late).await;
    for result in results.as_array().unwrap() {
        assert_eq!(result["error"]["code"], codes::TRANSACTION_TIMEOUT);
    }
    // Also in the middle of a statement.
    let (_, results) =
        served.pipeline(&Json::Null, json!([execute("BEGIN IMMEDIATE"), execute(ENDLESS)])).await;
    assert_eq!(results[1]["error"]["code"], codes::TRANSACTION_TIMEOUT);
    served.sqlite().execute("INSERT INTO t VALUES (4)", []).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_has_a_deadline_of_its_own() {
    let statement = Duration::from_millis(50);
    let served = Served::new(Limits { statement, ..Limits::default() });
    let (baton, results) =
        served.pipeline(&Json::Null, json!([execute(ENDLESS), execute("SELECT 1")])).await;
    assert_eq!(results[0]["error"]["code"], codes::STATEMENT_TIMEOUT);
    assert_eq!(results[1]["type"], "ok");
    assert!(baton.is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_takes_its_statement_along() {
    let limits = Limits { http_streams: 1, ..Limits::default() };
    let served = Served::new(limits);
    let body = json!({"requests": [execute("BEGIN IMMEDIATE"), execute(ENDLESS)]});
    let call = served.post("/v2/pipeline", &body);
    assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
    // The writer and the only place are free again.
    served.sqlite().execute("CREATE TABLE t (a)", []).unwrap();
    let (_, results) = served.pipeline(&Json::Null, json!([execute("SELECT 1")])).await;
    assert_eq!(results[0]["type"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_told_by_code() {
    let served = Served::new(Limits {
        http_streams: 1,
        message_bytes: 4_096,
        pipeline_requests: 4,
        response_bytes: 2_000,
        batch_steps: 2,
        ..Limits::default()
    });
    let large = json!({"requests": [execute(&" ".repeat(5_000))]});
    let (status, told) = served.post("/v2/pipeline", &large).await;
    assert_eq!((status, told["code"].as_str().unwrap()), (413, codes::MESSAGE_TOO_LARGE));
    let many = json!({"requests": vec![json!({"type": "get_autocommit"}); 5]});
    let (status, told) = served.post("/v2/pipeline", &many).await;
    assert_eq!((status, told["code"].as_str().unwrap()), (400, codes::PIPELINE_LIMIT));

    // The rows of all requests share the response's limit.
    let blob = execute("SELECT zeroblob(900)");
    let step = json!({"stmt": {"sql": "SELECT 1"}});
    let (baton, results) = served
        .pipeline(
            &Json::Null,
            json!([blob, blob, blob, {"type": "batch", "batch": {"steps": [step, step, step]}}]),
        )
        .await;
    assert_eq!((&results[0]["type"], &results[1]["type"]), (&json!("ok"), &json!("ok")));
    assert_eq!(results[2]["error"]["code"], codes::RESPONSE_TOO_LARGE);
    assert_eq!(results[3]["error"]["code"], codes::BATCH_LIMIT);

    let (status, told) = served.post("/v2/pipeline", &json!({"requests": []})).await;
    assert_eq!((status, told["code"].as_str().unwrap()), (503, codes::STREAM_LIMIT));
    served.pipeline(&baton, json!([{"type": "close"}])).await;
    assert_eq!(served.post("/v2/pipeline", &json!({"requests": []})).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_streams_and_its_stream_goes_on() {
    let served = served();
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)";
    let body = json!({"batch": {"steps": [
        {"stmt": {"sql": format!("{rows} SELECT i FROM n")}},
        {"condition": {"type": "error", "step": 0}, "stmt": {"sql": "SELECT 1"}},
        {"stmt": {"sql": "SELECT 2"}},
    ]}});
    let request = Request::post("/v3/cursor").header("authorization", "Bearer full");
    let response = served.call(request.body(Body::from(body.to_string())).unwrap()).await;
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let lines: Vec<Json> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1 + 200_002 + 3);
    assert_eq!(lines[1]["step"], 0);
    assert_eq!(lines[200_001]["row"][0]["value"], "200000");
    assert_eq!(lines[200_003]["step"], 2, "the skipped step is not mentioned");
    let (_, results) = served.pipeline(&lines[0]["baton"], json!([execute("SELECT 7")])).await;
    assert_eq!(results[0]["type"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_nobody_reads_any_more_stops() {
    let served = Served::new(Limits { cursor_bytes: 1_000, ..Limits::default() });
    let endless =
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let body = json!({"batch": {"steps": [{"stmt": {"sql": endless}}]}});
    let request = Request::post("/v3/cursor").header("authorization", "Bearer full");
    let response = served.call(request.body(Body::from(body.to_string())).unwrap()).await;
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let first: Json = serde_json::from_slice(&first).unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let (_, results) = served.pipeline(&first["baton"], json!([execute("SELECT 7")])).await;
    assert_eq!(results[0]["type"], "ok");
}
