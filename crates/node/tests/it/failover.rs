//! Primaries that die, and primaries that hand over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use verge_node::{NodeDatabase, RoleName};
use verge_replicate::AckMode;
use verge_services::sql::{ErrorKind, Freshness, Home, Query};
use verge_types::Coverage;

use crate::world::{World, converged, create, id, insert, until, values};

/// Writes numbers until told to stop; those that were acknowledged, and those whose outcome is
/// not known.
fn writer(
    db: Arc<NodeDatabase>,
    from: i64,
    stop: Arc<AtomicBool>,
) -> JoinHandle<(Vec<i64>, Vec<i64>)> {
    tokio::spawn(async move {
        let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
        let mut value = from;
        while !stop.load(Ordering::SeqCst) {
            value += 1;
            match insert(&db, value).await {
                Ok(_) => acknowledged.push(value),
                Err(error) if error.retryable() => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(_) => unknown.push(value),
            }
        }
        (acknowledged, unknown)
    })
}

fn check(found: &[i64], acknowledged: &[i64], unknown: &[i64]) {
    let mut once = found.to_vec();
    once.dedup();
    assert_eq!(once.len(), found.len(), "nothing is written twice");
    for value in acknowledged {
        assert!(found.binary_search(value).is_ok(), "{value} was acknowledged and is lost");
    }
    for value in found {
        assert!(
            acknowledged.contains(value) || unknown.contains(value) || *value == 0,
            "{value} was refused and is there"
        );
    }
}

async fn the_primary_dies(ack: AckMode) {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    world.ack = ack;
    let mut nodes = world.start_all().await;
    let app = id("app/main");
    let nrt = nodes[2].database(&app).await.unwrap();
    create(&nrt).await;
    let fra = nodes[1].database(&app).await.unwrap();
    converged(&[&nodes[0], &nodes[1], &nodes[2]], &app).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers =
        [writer(nrt.clone(), 0, stop.clone()), writer(fra.clone(), 1_000_000, stop.clone())];
    until("writes flow", || async { values(&nrt).len() > 50 }).await;
    let iad = nodes.remove(0);
    world.kill("iad-1", iad).await;
    let before = values(&nrt).len();
    until("another takes over and writes flow again", || async {
        let leads = nodes.iter().any(|n| n.status_of(&app).unwrap().role == RoleName::Primary);
        leads && values(&nrt).len() > before + 50
    })
    .await;
    // The old one comes back, its tail is set aside if it has one, and it follows.
    let iad = world.start("iad-1").await;
    iad.existing(&app).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for writer in writers {
        let (a, u) = writer.await.unwrap();
        acknowledged.extend(a);
        unknown.extend(u);
    }
    converged(&[&iad, &nodes[0], &nodes[1]], &app).await;
    let found = values(&nrt);
    check(&found, &acknowledged, &unknown);
    assert!(acknowledged.len() > 100);
    iad.shutdown().await;
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_primary_dies_a_quorum_loses_nothing() {
    the_primary_dies(AckMode::Quorum).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_primary_dies_followers_lose_nothing() {
    the_primary_dies(AckMode::Follower).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_under_writes_loses_nothing() {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let nrt = nodes[2].database(&app).await.unwrap();
    create(&nrt).await;
    let iad = nodes[0].database(&app).await.unwrap();
    nodes[1].database(&app).await.unwrap();
    converged(&[&nodes[0], &nodes[1], &nodes[2]], &app).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers = [writer(nrt.clone(), 0, stop.clone()), writer(iad, 1_000_000, stop.clone())];
    until("writes flow", || async { values(&nrt).len() > 50 }).await;
    // Asked for at a third node, there and back.
    for (pop, node) in [("fra", 1), ("nrt", 2), ("iad", 0)] {
        let moved = nodes[2].move_primary(&app, &pop.parse().unwrap()).await;
        assert!(moved.is_ok(), "{pop}: {moved:?}");
        let before = values(&nrt).len();
        until("writes flow again", || async { values(&nrt).len() > before + 20 }).await;
        assert_eq!(nodes[node].status_of(&app).unwrap().role, RoleName::Primary, "{pop}");
    }
    stop.store(true, Ordering::SeqCst);
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for writer in writers {
        let (a, u) = writer.await.unwrap();
        acknowledged.extend(a);
        unknown.extend(u);
    }
    converged(&[&nodes[0], &nodes[1], &nodes[2]], &app).await;
    check(&values(&nrt), &acknowledged, &unknown);
    assert!(unknown.is_empty(), "a planned hand-over leaves no doubt: {unknown:?}");
    assert!(nodes.iter().all(|node| node.status_of(&app).unwrap().set_aside == 0));
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_restart_and_the_last_primary_leads_again() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    nodes[1].database(&app).await.unwrap();
    for v in 0..20 {
        insert(&iad, v).await.unwrap();
    }
    converged(&[&nodes[0], &nodes[1]], &app).await;
    let [iad_node, fra_node] = <[_; 2]>::try_from(nodes).ok().unwrap();
    world.kill("iad-1", iad_node).await;
    world.stop("fra-1", fra_node).await;
    let nodes = world.start_all().await;
    let fra = nodes[1].existing(&app).await.unwrap();
    assert_eq!(values(&fra).len(), 20, "served before anybody is primary");
    until("writes go on", || async { insert(&fra, 20).await.is_ok() }).await;
    assert_eq!(nodes[0].status_of(&app).unwrap().role, RoleName::Primary);
    converged(&[&nodes[0], &nodes[1]], &app).await;
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_primarys_unshipped_tail_is_set_aside_and_not_served() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    insert(&iad, 1).await.unwrap();
    let fra = nodes[1].database(&app).await.unwrap();
    converged(&[&nodes[0], &nodes[1]], &app).await;
    let [iad_node, fra_node] = <[_; 2]>::try_from(nodes).ok().unwrap();
    // Acknowledged by its own disk alone, and seen by nobody else.
    world.links.cut(&"iad-1".parse().unwrap(), &"fra-1".parse().unwrap());
    let lost = insert(&iad, 2).await.unwrap();
    world.kill("iad-1", iad_node).await;
    until("fra takes over", || async { insert(&fra, 3).await.is_ok() }).await;

    world.links.heal(&"iad-1".parse().unwrap(), &"fra-1".parse().unwrap());
    let iad_node = world.start("iad-1").await;
    let iad = iad_node.existing(&app).await.unwrap();
    until("it is set aside", || async { iad_node.status_of(&app).unwrap().set_aside == 1 }).await;
    converged(&[&iad_node, &fra_node], &app).await;
    until("the surviving history is served", || async { values(&iad) == [1, 3] }).await;
    assert_eq!(iad.home().coverage(lost), Coverage::Lost, "its bookmark is told so");
    // By number it would be covered: the new term's positions are greater.
    assert!(iad.home().position() > lost);
    let seen = Freshness { at_least: Some(lost), ..Freshness::default() };
    for db in [&iad, &fra] {
        for text in ["SELECT count(*) FROM t", "INSERT INTO t VALUES (9)"] {
            let told = db.query(&seen, Query::new(text, vec![]), None).await.unwrap_err();
            assert_eq!(told.kind, ErrorKind::HistoryLost, "{told}");
            assert!(!told.retryable());
        }
    }
    insert(&iad, 4).await.unwrap();
    converged(&[&iad_node, &fra_node], &app).await;
    iad_node.shutdown().await;
    fra_node.shutdown().await;
}
