//! `env.DB`: D1's API, on a real dataset.

use std::sync::Arc;

use tempfile::TempDir;
use verge_dataset::{CreateOptions, Store, StoreConfig};
use verge_runtime::SqlDatabase;
use verge_services::sql::{Database, DatasetHome, Node, Policy};

use crate::apps::{run, spec};
use crate::harness::{World, get};

/// A database in a folder of its own, which lives as long as the test.
struct Disk {
    _folder: TempDir,
    _store: Store,
    database: Arc<SqlDatabase>,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(StoreConfig::new(folder.path())).expect("a store");
        let id = "sql/test".parse().expect("an id");
        let dataset = store.create(&id, CreateOptions::default()).expect("a dataset");
        let node = Node { served_by: "node-1".into(), region: "fra".into() };
        let home = DatasetHome::new(dataset, None);
        let database = Arc::new(Database::new(home, None, node, Policy::default()));
        Self { _folder: folder, _store: store, database }
    }
}

#[tokio::test]
async fn d1_is_all_there_and_works() {
    let disk = Disk::new();
    let app = spec(include_str!("../apps/sql/d1.js")).database("DB", &disk.database);
    run(&World::new(), app).await;
}

#[tokio::test]
async fn what_verge_adds_to_d1() {
    let disk = Disk::new();
    let app = spec(include_str!("../apps/sql/beyond_d1.js")).database("DB", &disk.database);
    run(&World::new(), app).await;
}

#[tokio::test]
async fn a_statement_without_end_is_ended_by_the_cpu_limit() {
    let disk = Disk::new();
    let world = World::new();
    let source = "const forever = 'WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n';
        export default { async fetch(request, env) {
            if (request.url.endsWith('/forever')) return Response.json(await env.DB.prepare(forever).first());
            return Response.json(await env.DB.prepare('SELECT 1 AS one').first());
        } };";
    let app = world.load(
        crate::harness::AppSpec::new(source)
            .database("DB", &disk.database)
            .limit("cpu_time", "200ms"),
    );
    let fault = get(&app, "/forever").await.expect_err("a fault");
    assert_eq!(fault.code, "cpu_limit", "{fault}");
    assert_eq!(crate::harness::get_text(&app, "/").await, r#"{"one":1}"#);
}
