//! One node without others.

use verge_node::{Error, Node, NodeConfig, RoleName};
use verge_services::sql::Freshness;

use crate::world::{World, converged, create, id, insert, peer, values};

fn config(folder: &std::path::Path) -> NodeConfig {
    let peer = peer("iad-1");
    NodeConfig::new(folder, peer.node, peer.pop)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_primary_of_all_and_keeps_it_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let app = id("app/main");
    let node = Node::start(config(folder.path())).await.unwrap();
    assert!(matches!(node.existing(&app).await, Err(Error::NoDataset(_))));
    let db = node.database(&app).await.unwrap();
    create(&db).await;
    let last = insert(&db, 1).await.unwrap();
    assert_eq!(values(&db), [1]);
    assert!(db.is_fresh(&Freshness { strong: true, at_least: Some(last), ..Freshness::default() }));
    let status = node.status_of(&app).unwrap();
    assert_eq!((status.role, status.lag_ms), (RoleName::Primary, Some(0)));
    assert!(matches!(Node::start(config(folder.path())).await, Err(Error::InUse { .. })));
    node.shutdown().await;
    assert!(insert(&db, 9).await.is_err(), "a node that has ended takes no writes");

    let node = Node::start(config(folder.path())).await.unwrap();
    assert_eq!(node.list().await.unwrap(), std::slice::from_ref(&app));
    let db = node.existing(&app).await.unwrap();
    assert_eq!(values(&db), [1]);
    assert!(insert(&db, 2).await.unwrap() > last);
    node.kill().await;

    let node = Node::start(config(folder.path())).await.unwrap();
    let db = node.existing(&app).await.unwrap();
    assert_eq!(values(&db), [1, 2], "what was acknowledged survives");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_datasets_are_closed_and_open_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.max_open = 16;
    let node = Node::start(config).await.unwrap();
    for n in 0..200 {
        let db = node.database(&id(&format!("app/{n}"))).await.unwrap();
        create(&db).await;
    }
    assert_eq!(node.list().await.unwrap().len(), 200);
    let db = node.existing(&id("app/0")).await.unwrap();
    insert(&db, 3).await.unwrap();
    assert_eq!(values(&db), [3], "closed ones open again");
    node.shutdown().await;
}

/// Its epochs from then are known: a session that began in the fleet goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_a_fleet_is_led_alone_and_its_bookmarks_hold() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    let seen = insert(&iad, 1).await.unwrap();
    nodes[1].database(&app).await.unwrap();
    converged(&[&nodes[0], &nodes[1]], &app).await;
    drop(iad);
    for (node, name) in nodes.into_iter().zip(["iad-1", "fra-1"]) {
        world.stop(name, node).await;
    }
    for round in 0..2 {
        // The one that was a replica: it begins an epoch of its own.
        let fra = peer("fra-1");
        let config = NodeConfig::new(world.data("fra-1"), fra.node, fra.pop);
        let node = Node::start(config).await.unwrap();
        let db = node.existing(&app).await.unwrap();
        let fresh = Freshness { at_least: Some(seen), ..Freshness::default() };
        assert!(db.is_fresh(&fresh), "round {round}");
        assert!(insert(&db, 2).await.unwrap().epoch > seen.epoch);
        node.shutdown().await;
    }
}
