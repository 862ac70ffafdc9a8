//! Replicas that serve replicas: where the primary cannot be reached, and in its place in a PoP of
//! several nodes.

use verge_node::Node;
use verge_replicate::AckMode;
use verge_services::sql::{Freshness, Query};
use verge_types::DatasetId;

use crate::world::{World, converged, create, create_as, id, insert, until, values};

fn relay_of(node: &Node, app: &DatasetId) -> Option<String> {
    node.status_of(app).unwrap().relay
}

fn cut(world: &World, one: &str, other: &str) {
    world.links.cut(&one.parse().unwrap(), &other.parse().unwrap());
}

fn heal(world: &World, one: &str, other: &str) {
    world.links.heal(&one.parse().unwrap(), &other.parse().unwrap());
}

fn fresh(node: &Node, app: &DatasetId, within: u64) -> bool {
    node.status_of(app).unwrap().lag_ms.is_some_and(|lag| lag < within)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_cut_off_from_its_primary_follows_by_way_of_another() {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    let nrt = nodes[2].database(&app).await.unwrap();
    nodes[1].database(&app).await.unwrap();
    insert(&iad, 1).await.unwrap();
    until("nrt follows", || async { values(&nrt) == [1] }).await;
    assert_eq!(relay_of(&nodes[2], &app), None);

    cut(&world, "iad-1", "nrt-1");
    until("nrt follows fra", || async { relay_of(&nodes[2], &app).as_deref() == Some("fra-1") })
        .await;
    for v in 2..50 {
        insert(&iad, v).await.unwrap();
    }
    until("it comes by way of fra", || async { values(&nrt).len() == 49 }).await;
    // It says itself how old it is: as new as what fra has.
    until("nrt is fresh", || async { fresh(&nodes[2], &app, 2000) }).await;
    let followers = nodes[1].status_of(&app).unwrap().followers;
    assert_eq!(followers.iter().map(|f| f.node.as_str()).collect::<Vec<_>>(), ["nrt-1"]);

    heal(&world, "iad-1", "nrt-1");
    until("nrt follows iad", || async { relay_of(&nodes[2], &app).is_none() }).await;
    insert(&iad, 50).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    assert_eq!(values(&nrt).len(), 50);
    assert!(nodes.iter().all(|node| node.status_of(&app).unwrap().set_aside == 0));
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_serves_snapshots_and_large_transactions() {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    // Little room for the log, so that a long absence needs a snapshot.
    world.settings.log_file_bytes = 64 << 10;
    world.settings.max_log_bytes = 256 << 10;
    world.settings.checkpoint_bytes = 64 << 10;
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create_as(&iad, "CREATE TABLE t (v INTEGER, pad BLOB DEFAULT (randomblob(2000)))").await;
    nodes[1].database(&app).await.unwrap();
    nodes[2].database(&app).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    let [iad_node, fra_node, nrt_node] = <[_; 3]>::try_from(nodes).ok().unwrap();

    world.kill("nrt-1", nrt_node).await;
    for v in 0..400 {
        insert(&iad, v).await.unwrap();
    }
    cut(&world, "iad-1", "nrt-1");
    let nrt_node = world.start("nrt-1").await;
    let nrt = nrt_node.existing(&app).await.unwrap();
    until("the snapshot comes by way of fra", || async { values(&nrt).len() == 400 }).await;
    assert_eq!(relay_of(&nrt_node, &app).as_deref(), Some("fra-1"));
    // A file of parts beside the log.
    let large = "INSERT INTO t (v, pad) WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 \
                 FROM n WHERE i < 1023) SELECT i, randomblob(1048576) FROM n";
    iad.query(&Freshness::default(), Query::new(large, vec![]), None).await.unwrap();
    until("it comes by way of fra", || async { values(&nrt).len() == 424 }).await;
    let all = [&iad_node, &fra_node, &nrt_node];
    converged(&all, &app).await;
    for node in all {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_has_acknowledged_survives_a_relay_that_has_less() {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    world.ack = AckMode::Quorum;
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    let nrt = nodes[2].database(&app).await.unwrap();
    let fra = nodes[1].database(&app).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    // Only nrt acknowledges these; then it may ask only fra, which has none of them.
    cut(&world, "iad-1", "fra-1");
    for v in 0..20 {
        insert(&iad, v).await.unwrap();
    }
    until("fra follows nrt", || async { values(&fra).len() == 20 }).await;
    assert_eq!(relay_of(&nodes[1], &app).as_deref(), Some("nrt-1"));
    cut(&world, "fra-1", "nrt-1");
    for v in 20..40 {
        insert(&iad, v).await.unwrap();
    }
    cut(&world, "iad-1", "nrt-1");
    heal(&world, "fra-1", "nrt-1");
    heal(&world, "iad-1", "fra-1");
    until("fra has them", || async { values(&fra).len() == 40 }).await;
    assert_eq!(values(&nrt).len(), 40, "and nrt still");
    insert(&iad, 40).await.unwrap();
    until("nrt goes on by way of fra", || async { values(&nrt).len() == 41 }).await;
    assert!(nodes.iter().all(|node| node.status_of(&app).unwrap().set_aside == 0));
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_heard_of_by_way_of_a_relay() {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    nodes[1].database(&app).await.unwrap();
    let nrt = nodes[2].database(&app).await.unwrap();
    insert(&iad, 1).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    cut(&world, "iad-1", "nrt-1");
    until("nrt follows fra", || async { relay_of(&nodes[2], &app).as_deref() == Some("fra-1") })
        .await;
    // The relay becomes primary itself.
    nodes[0].move_primary(&app, &"fra".parse().unwrap()).await.unwrap();
    insert(&nrt, 2).await.unwrap();
    until("nrt has it", || async { values(&nrt) == [1, 2] }).await;
    assert_eq!(relay_of(&nodes[2], &app), None);
    insert(&iad, 3).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_sends_once_to_a_pop_of_several_nodes() {
    let mut world = World::new(&["iad-1", "fra-1", "fra-2", "fra-3"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    for node in &nodes[1..] {
        node.database(&app).await.unwrap();
    }
    let all: Vec<_> = nodes.iter().collect();
    let of = |node: &Node| relay_of(node, &app);
    until("fra-2 and fra-3 follow fra-1", || async {
        all.iter().skip(2).all(|node| of(node).as_deref() == Some("fra-1"))
    })
    .await;
    assert_eq!(of(&nodes[1]), None);
    insert(&iad, 1).await.unwrap();
    converged(&all, &app).await;
    until("iad serves fra-1 alone", || async {
        nodes[0].status_of(&app).unwrap().followers.len() == 1
    })
    .await;
    drop((all, iad));

    // The next one takes over where the first is gone.
    let mut nodes = nodes;
    let first = nodes.remove(1);
    world.kill("fra-1", first).await;
    until("fra-3 follows fra-2", || async {
        relay_of(&nodes[1], &app).is_none() && relay_of(&nodes[2], &app).as_deref() == Some("fra-2")
    })
    .await;
    let iad = nodes[0].existing(&app).await.unwrap();
    insert(&iad, 2).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    until("fra-3 is fresh", || async { fresh(&nodes[2], &app, 2000) }).await;
    for node in &nodes {
        node.shutdown().await;
    }
}
