//! `env.DB`: D1's API, on a real dataset.

use std::sync::Arc;

use tempfile::TempDir;
use verge_node::{Node, NodeConfig};
use verge_runtime::SqlDatabase;

use crate::apps::{run, spec};
use crate::harness::{AppSpec, World, get, get_text};

/// A node of its own with one database, which lives as long as the test.
struct Disk {
    _folder: TempDir,
    _node: Node,
    database: Arc<SqlDatabase>,
}

impl Disk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (name, pop) = ("node-1".parse().expect("a name"), "fra".parse().expect("a PoP"));
        let node = Node::start(NodeConfig::new(folder.path(), name, pop)).await.expect("a node");
        let id = "sql/test".parse().expect("an id");
        let database = node.database(&id).await.expect("a database");
        Self { _folder: folder, _node: node, database }
    }
}

#[tokio::test]
async fn d1_is_all_there_and_works() {
    let disk = Disk::new().await;
    let app = spec(include_str!("../apps/sql/d1.js")).database("DB", &disk.database);
    run(&World::new(), app).await;
}

#[tokio::test]
async fn what_verge_adds_to_d1() {
    let disk = Disk::new().await;
    let app = spec(include_str!("../apps/sql/beyond_d1.js")).database("DB", &disk.database);
    run(&World::new(), app).await;
}

#[tokio::test]
async fn a_statement_without_end_is_ended_by_the_cpu_limit() {
    let disk = Disk::new().await;
    let world = World::new();
    let source = "const forever = 'WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n';
        export default { async fetch(request, env) {
            if (request.url.endsWith('/forever')) return Response.json(await env.DB.prepare(forever).first());
            return Response.json(await env.DB.prepare('SELECT 1 AS one').first());
        } };";
    let app =
        world.load(AppSpec::new(source).database("DB", &disk.database).limit("cpu_time", "200ms"));
    let fault = get(&app, "/forever").await.expect_err("a fault");
    assert_eq!(fault.code, "cpu_limit", "{fault}");
    assert_eq!(get_text(&app, "/").await, r#"{"one":1}"#);
}
