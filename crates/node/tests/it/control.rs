//! What `verge db` asks of a running node, and of a folder that nobody uses.

use serde_json::json;
use verge_node::{Command, ControlClient, Error, Form, NodeLock};

use crate::world::{World, create, id, insert, until, values};

fn command(text: serde_json::Value) -> Command {
    serde_json::from_value(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_fleet_answers_over_its_socket() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let nodes = world.start_all().await;
    let data = world.data("fra-1");
    let mut client = ControlClient::connect(&data).await.unwrap().unwrap();
    let execute = |sql: &str| json!({"command": "execute", "dataset": "app/main", "sql": sql});
    let unknown = client.run(&command(execute("SELECT 1"))).await.unwrap_err();
    assert!(unknown.to_string().contains("no dataset"), "{unknown}");
    let mut create = execute("CREATE TABLE t (v INTEGER); INSERT INTO t VALUES (1), (2);");
    create["create"] = true.into();
    let made = client.run(&command(create)).await.unwrap();
    assert_eq!((made["statements"].as_u64(), made["served_by"].as_str()), (Some(2), Some("iad-1")));
    let fra = nodes[1].database(&id("app/main")).await.unwrap();
    until("fra follows", || async { values(&fra) == [1, 2] }).await;
    let mut select = execute("SELECT v, 'x' AS x FROM t WHERE v > ? ORDER BY v");
    select["params"] = json!([1]);
    let rows = client.run(&command(select)).await.unwrap();
    assert_eq!((&rows["columns"], &rows["rows"]), (&json!(["v", "x"]), &json!([[2, "x"]])));
    assert_eq!(rows["region"], "fra", "a read stays at its PoP");

    let listed = client.run(&Command::List).await.unwrap();
    assert_eq!(listed["datasets"][0]["dataset"], "app/main");
    assert_eq!(listed["datasets"][0]["nodes"].as_array().unwrap().len(), 2);
    let dataset = || "app/main".to_owned();
    until("verified", || async {
        let mut client = ControlClient::connect(&data).await.unwrap().unwrap();
        let all = client.run(&Command::Verify { dataset: dataset() }).await.unwrap();
        let all = all.as_array().unwrap().clone();
        assert!(all.iter().all(|copy| copy["pages_agree"] == true), "{all:?}");
        all.len() == 2 && all.iter().all(|copy| copy["copies_agree"] == true)
    })
    .await;
    let lag = client.run(&Command::Lag { dataset: dataset() }).await.unwrap();
    assert_eq!(lag.as_array().unwrap().len(), 2);

    let moved = Command::MovePrimary { dataset: dataset(), to: "fra".to_owned() };
    client.run(&moved).await.unwrap();
    let info = client.run(&Command::Info { dataset: dataset() }).await.unwrap();
    assert_eq!(info["role"], "primary");
    let bookmark = info["bookmark"].as_str().unwrap().to_owned();
    insert(&fra, 3).await.unwrap();
    let restore = Command::Restore { dataset: dataset(), bookmark: Some(bookmark), time_ms: None };
    client.run(&restore).await.unwrap();
    assert_eq!(values(&fra), [1, 2], "the third is undone");
    let locate = Command::Locate { dataset: dataset(), bookmark: None, time_ms: Some(u64::MAX) };
    let located = client.run(&locate).await.unwrap();
    assert_eq!(located["target"], located["now"]);
    let script = json!({"command": "script", "dataset": "app/main", "sql": "SELECT 1; SELEC"});
    let error = client.run(&command(script)).await.unwrap_err().to_string();
    assert!(error.contains("line 1, column 11: near"), "{error}");
    let iad = nodes[0].database(&id("app/main")).await.unwrap();
    until("also at the other PoP", || async { values(&iad) == [1, 2] }).await;

    let branch = Command::Branch {
        from: dataset(),
        to: "app/preview".to_owned(),
        bookmark: None,
        time_ms: None,
    };
    client.run(&branch).await.unwrap();
    let preview = nodes[1].database(&id("app/preview")).await.unwrap();
    until("the branch can be written", || async { insert(&preview, 9).await.is_ok() }).await;
    until("and has its own rows", || async { values(&preview) == [1, 2, 9] }).await;
    assert_eq!(values(&fra), [1, 2]);

    for form in [Form::Sql, Form::Sqlite] {
        let path = data.join("export");
        let export = Command::Export { dataset: dataset(), path: path.clone(), form, table: None };
        let wrote = client.run(&export).await.unwrap()["bytes"].as_u64().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, wrote);
        let begins: &[u8] = if form == Form::Sqlite { b"SQLite format 3" } else { b"" };
        assert!(wrote > 0 && bytes.starts_with(begins));
    }

    let all = || Command::DeleteEverywhere { dataset: "app/preview".to_owned() };
    let gone = client.run(&all()).await.unwrap();
    assert_eq!(gone["nodes"], json!(["fra-1", "iad-1"]));
    nodes[0].kill().await;
    // The copy at iad would bring it back.
    let kept = Command::DeleteEverywhere { dataset: dataset() };
    let kept = client.run(&kept).await.unwrap_err().to_string();
    assert!(kept.contains("nothing was deleted"), "{kept}");
    assert_eq!(nodes[1].list().await.unwrap(), [id("app/main")]);
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_nobody_uses_is_opened_directly() {
    let mut world = World::new(&["iad-1"]);
    let node = world.start("iad-1").await;
    let db = node.database(&id("app/main")).await.unwrap();
    create(&db).await;
    let data = world.data("iad-1");
    assert_eq!(NodeLock::owner(&data).unwrap().unwrap().pid, std::process::id());
    world.stop("iad-1", node).await;
    assert!(ControlClient::connect(&data).await.unwrap().is_none());

    let peer = crate::world::peer("iad-1");
    let config = verge_node::NodeConfig::new(&data, peer.node, peer.pop);
    let node = verge_node::Node::start(config).await.unwrap();
    let run =
        json!({"command": "execute", "dataset": "app/main", "sql": "INSERT INTO t VALUES (5)"});
    let answer = node.run(command(run)).await.unwrap();
    assert_eq!((answer["changes"].as_u64(), answer["region"].as_str()), (Some(1), Some("iad")));
    assert!(matches!(ControlClient::connect(&data).await, Err(Error::InUse { .. })));
    node.shutdown().await;
}
