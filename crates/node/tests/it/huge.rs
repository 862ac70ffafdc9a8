//! Transactions that are too large for memory, through a fleet.

use std::time::Duration;

use verge_node::{Node, NodeDatabase, RoleName};
use verge_replicate::AckMode;
use verge_types::DatasetId;

use crate::world::{World, converged, create, exec, id, insert, numbers, peer, until, values};

/// About three MiB in one transaction.
const HUGE: &str = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 150) \
                    INSERT INTO big SELECT randomblob(20000) FROM n";

/// A fleet of three whose transactions are huge from 200 KiB on.
async fn fleet(ack: AckMode) -> (World, Vec<Node>, DatasetId) {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    world.ack = ack;
    world.settings.large_bytes = 200 << 10;
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    exec(&iad, "CREATE TABLE big(x)").await.unwrap();
    for node in &nodes[1..] {
        node.database(&app).await.unwrap();
    }
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    (world, nodes, app)
}

fn rows(db: &NodeDatabase) -> Vec<i64> {
    numbers(db, "SELECT count(*) FROM big")
}

/// Slows the way from the primary down, so that what happens next happens in the middle of it.
fn slow(world: &World, to: &str, bandwidth: Option<u64>) {
    let (from, to) = (peer("iad-1").node, peer(to).node);
    world.links.update(&from, &to, |link| link.bandwidth = bandwidth);
}

/// Whether a file is coming in at a node.
fn receives(world: &World, node: &str) -> bool {
    let Ok(files) = std::fs::read_dir(world.data(node).join("datasets/app+main/log")) else {
        return false;
    };
    files.flatten().any(|file| {
        let some = file.metadata().is_ok_and(|file| file.len() > 0);
        some && file.path().extension().is_some_and(|extension| extension == "receiving")
    })
}

async fn end(nodes: &[Node]) {
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_transaction_reaches_all_replicas_without_a_snapshot() {
    let (world, nodes, app) = fleet(AckMode::Quorum).await;
    let iad = nodes[0].database(&app).await.unwrap();
    for n in 0..3 {
        // Between small ones, and confirmed by a quorum.
        insert(&iad, n).await.unwrap();
        exec(&iad, HUGE).await.unwrap();
    }
    insert(&iad, 3).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    for (n, name) in ["iad-1", "fra-1", "nrt-1"].into_iter().enumerate() {
        assert_eq!(rows(&nodes[n].database(&app).await.unwrap()), [450]);
        let log = std::fs::read_dir(world.data(name).join("datasets/app+main/log")).unwrap();
        let big =
            log.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "big")).count();
        assert_eq!(big, 3, "{name} has them in its log, so it got no snapshot");
    }
    end(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_in_the_middle_of_a_huge_transaction_catches_up() {
    let (mut world, mut nodes, app) = fleet(AckMode::Local).await;
    let iad = nodes[0].database(&app).await.unwrap();
    slow(&world, "nrt-1", Some(1_000_000));
    exec(&iad, HUGE).await.unwrap();
    until("it is coming in", || async { receives(&world, "nrt-1") }).await;
    let nrt = nodes[2].database(&app).await.unwrap();
    assert_eq!(rows(&nrt), [0], "nothing of it is shown");
    drop(nrt);
    let nrt = nodes.pop().unwrap();
    world.kill("nrt-1", nrt).await;
    insert(&iad, 1).await.unwrap();
    slow(&world, "nrt-1", None);
    let nrt = world.start("nrt-1").await;
    nrt.existing(&app).await.unwrap();
    nodes.push(nrt);
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    assert!(!receives(&world, "nrt-1"), "nothing is left of the first try");
    end(&nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_in_the_middle_of_a_huge_transaction_is_made_up_for() {
    let (world, nodes, app) = fleet(AckMode::Local).await;
    let iad = nodes[0].database(&app).await.unwrap();
    slow(&world, "nrt-1", Some(1_000_000));
    exec(&iad, HUGE).await.unwrap();
    until("it is coming in", || async { receives(&world, "nrt-1") }).await;
    world.links.cut(&peer("iad-1").node, &peer("nrt-1").node);
    until("it is given up", || async { !receives(&world, "nrt-1") }).await;
    world.links.heal(&peer("iad-1").node, &peer("nrt-1").node);
    slow(&world, "nrt-1", None);
    insert(&iad, 1).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    end(&nodes).await;
}

/// The others elect one of them at once: what was coming in from the dead one holds up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_in_the_middle_of_a_huge_transaction_is_replaced() {
    let (mut world, mut nodes, app) = fleet(AckMode::Local).await;
    let iad = nodes[0].database(&app).await.unwrap();
    insert(&iad, 1).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    slow(&world, "fra-1", Some(300_000));
    slow(&world, "nrt-1", Some(300_000));
    exec(&iad, HUGE).await.unwrap();
    until("it is coming in", || async { receives(&world, "nrt-1") && receives(&world, "fra-1") })
        .await;
    drop(iad);
    let iad = nodes.remove(0);
    world.kill("iad-1", iad).await;
    // The slow links may hold all the rest of it, which would then still come in.
    let others = ["fra-1", "nrt-1"].map(|name| peer(name).node);
    for other in &others {
        world.links.cut(&peer("iad-1").node, other);
    }
    let began = tokio::time::Instant::now();
    let nrt = nodes[1].database(&app).await.unwrap();
    until("another leads", || async { insert(&nrt, 2).await.is_ok() }).await;
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    until("it is read there", || async { values(&nrt).last() == Some(&2) }).await;
    for other in &others {
        world.links.heal(&peer("iad-1").node, other);
    }
    // What only the dead one had is set aside there, with its file.
    let iad = world.start("iad-1").await;
    iad.existing(&app).await.unwrap();
    nodes.push(iad);
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    assert_eq!(rows(&nrt), [0]);
    let leads = nodes.iter().filter(|n| n.status_of(&app).unwrap().role == RoleName::Primary);
    assert_eq!(leads.count(), 1);
    let aside = world.data("iad-1").join("datasets/app+main/quarantine");
    let tails: Vec<_> = std::fs::read_dir(aside).unwrap().flatten().collect();
    let kept = std::fs::read_dir(tails[0].path()).unwrap().flatten();
    assert!(kept.into_iter().any(|f| f.path().extension().is_some_and(|e| e == "big")));
    end(&nodes).await;
}

/// The primary has lost the file: a snapshot takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_gets_a_snapshot_where_the_file_is_gone() {
    let (mut world, mut nodes, app) = fleet(AckMode::Local).await;
    let iad = nodes[0].database(&app).await.unwrap();
    let nrt = nodes.pop().unwrap();
    world.kill("nrt-1", nrt).await;
    exec(&iad, HUGE).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    let log = std::fs::read_dir(world.data("iad-1").join("datasets/app+main/log")).unwrap();
    let big = log.flatten().map(|f| f.path()).find(|p| p.extension().is_some_and(|e| e == "big"));
    std::fs::remove_file(big.unwrap()).unwrap();
    let nrt = world.start("nrt-1").await;
    nrt.existing(&app).await.unwrap();
    nodes.push(nrt);
    converged(&nodes.iter().collect::<Vec<_>>(), &app).await;
    end(&nodes).await;
}
