//! The backend over a dataset.

use serde_json::{Value as Json, json};
use verge_hrana::codes;

use crate::support::{ENDLESS, Served, execute};

async fn all_ok(served: &Served, sqls: &[&str]) -> Json {
    let requests: Vec<_> = sqls.iter().map(|sql| execute(sql)).collect();
    let (baton, results) = served.pipeline(&Json::Null, json!(requests)).await;
    for (sql, result) in sqls.iter().zip(results.as_array().unwrap()) {
        assert_eq!(result["type"], "ok", "{sql}: {result}");
    }
    baton
}

async fn count(served: &Served) -> Json {
    let select = json!([execute("SELECT count(*) FROM t"), {"type": "close"}]);
    let (_, results) = served.pipeline(&Json::Null, select).await;
    results[0]["response"]["result"]["rows"][0][0]["value"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deferred_transaction_writes_only_on_what_it_has_read() {
    let served = Served::dataset();
    all_ok(&served, &["CREATE TABLE t (a)"]).await;
    let reads = ["BEGIN", "SELECT count(*) FROM t"];
    let (undisturbed, disturbed) = (all_ok(&served, &reads).await, all_ok(&served, &reads).await);
    let write = json!([execute("INSERT INTO t VALUES (1)"), execute("COMMIT")]);
    let (_, results) = served.pipeline(&undisturbed, write.clone()).await;
    assert_eq!((&results[0]["type"], &results[1]["type"]), (&json!("ok"), &json!("ok")));
    let (_, results) = served.pipeline(&disturbed, write).await;
    assert_eq!(results[0]["error"]["code"], "SQLITE_BUSY");
    assert_eq!(results[1]["error"]["code"], "SQLITE_ERROR", "no transaction is open any more");
    assert_eq!(count(&served).await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_token_writes_in_no_way() {
    let served = Served::dataset();
    all_ok(&served, &["CREATE TABLE t (a)"]).await;
    for sqls in [
        vec!["INSERT INTO t VALUES (1)"],
        vec!["BEGIN IMMEDIATE"],
        vec!["BEGIN", "INSERT INTO t VALUES (1)"],
        vec!["BEGIN", "SELECT * FROM t", "DROP TABLE t"],
    ] {
        let requests: Vec<_> = sqls.iter().map(|sql| execute(sql)).collect();
        let body = json!({ "requests": requests });
        let (_, told) = served.post_as(Some("Bearer read"), "/v3/pipeline", &body).await;
        let last = told["results"].as_array().unwrap().last().unwrap();
        assert_eq!(last["error"]["code"], codes::READ_ONLY, "{sqls:?}");
    }
    assert_eq!(count(&served).await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_keys_with_actions_are_never_switched_off_silently() {
    let served = Served::dataset();
    all_ok(
        &served,
        &[
            "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
            "CREATE TABLE t (of REFERENCES parent (id) ON DELETE CASCADE)",
            "INSERT INTO parent VALUES (1)",
            "INSERT INTO t VALUES (1)",
        ],
    )
    .await;
    let rebuild = json!([
        execute("PRAGMA foreign_keys=off"),
        execute("BEGIN IMMEDIATE"),
        execute("DROP TABLE parent"),
    ]);
    let (_, results) = served.pipeline(&Json::Null, rebuild).await;
    for result in &results.as_array().unwrap()[1..] {
        assert_eq!(result["error"]["code"], codes::FOREIGN_KEYS_OFF);
    }
    assert_eq!(count(&served).await, "1", "nothing was deleted along");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sequence_may_hold_transactions_and_triggers() {
    let served = Served::dataset();
    let sql = "CREATE TABLE t (a); CREATE TABLE log (a); \
        CREATE TRIGGER copy AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END; \
        BEGIN; INSERT INTO t VALUES (1); COMMIT; BEGIN; INSERT INTO t VALUES (2); ROLLBACK;";
    let (_, results) =
        served.pipeline(&Json::Null, json!([{"type": "sequence", "sql": sql}])).await;
    assert_eq!(results[0]["type"], "ok", "{results}");
    assert_eq!(count(&served).await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_frees_the_writer() {
    let served = Served::dataset();
    let body = json!({"requests": [
        execute("CREATE TABLE t (a)"), execute("BEGIN IMMEDIATE"), execute(ENDLESS),
    ]});
    let call = served.post("/v2/pipeline", &body);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), call).await.is_err());
    all_ok(&served, &["BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)", "COMMIT"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_ends_with_its_stream() {
    let served = Served::dataset();
    all_ok(&served, &["CREATE TABLE t (a)"]).await;
    // Dropped by a client that leaves, with a snapshot open.
    let body =
        json!({"requests": [execute("BEGIN"), execute("SELECT * FROM t"), execute(ENDLESS)]});
    let call = served.post("/v2/pipeline", &body);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), call).await.is_err());
    for _ in 0..20 {
        let before = count(&served).await;
        all_ok(&served, &["INSERT INTO t VALUES (1)"]).await;
        assert_ne!(count(&served).await, before, "no later reader is stuck in the past");
    }
}
