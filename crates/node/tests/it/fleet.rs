//! Three PoPs: copies follow, writes find the primary, links break and heal.

use std::time::Duration;

use verge_node::RoleName;
use verge_services::sql::{ErrorKind, Freshness, Query, Value};

use crate::world::{World, converged, create, create_as, id, insert, until, values};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_one_pop_is_read_at_all() {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    // First used at a replica's PoP: it begins at the placement's all the same.
    let fra = nodes[1].database(&app).await.unwrap();
    create(&fra).await;
    let iad = nodes[0].database(&app).await.unwrap();
    let nrt = nodes[2].database(&app).await.unwrap();
    assert_eq!(nodes[0].status_of(&app).unwrap().role, RoleName::Primary);
    insert(&iad, 1).await.unwrap();
    // Forwarded, and then read here at once by its bookmark.
    let query = Query::new("INSERT INTO t (v) VALUES (?) RETURNING v", vec![Value::Integer(2)]);
    let answer = nrt.query(&Freshness::default(), query, None).await.unwrap();
    assert_eq!(answer.value.rows.values, [Value::Integer(2)]);
    assert!(answer.served_by_primary);
    assert_eq!((answer.node.served_by.as_str(), answer.node.region.as_str()), ("iad-1", "iad"));
    let freshness = Freshness {
        at_least: Some(answer.position),
        wait: Duration::from_secs(30),
        ..Freshness::default()
    };
    let read = nrt.query(&freshness, Query::new("SELECT v FROM t", vec![]), None).await.unwrap();
    assert_eq!(read.value.rows.values.len(), 2);
    assert_eq!(read.node.region, "nrt", "the copy here had it");
    until("fra has both", || async { values(&fra) == [1, 2] }).await;
    let refs: Vec<_> = nodes.iter().collect();
    converged(&refs, &app).await;
    until("lag is known at the replicas", || async {
        let all = nodes[0].lag(&app).await.unwrap();
        all.len() == 3 && all.iter().all(|s| s.lag_ms.is_some() && s.behind == Some(0))
    })
    .await;
    let bounded = Freshness { max_staleness: Some(Duration::from_secs(20)), ..Default::default() };
    assert!(nrt.is_fresh(&bounded));
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_at_a_replica_is_one_at_the_primary() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let fra = nodes[1].database(&app).await.unwrap();
    create(&fra).await;
    let one = |sql: &str| vec![Query::new(sql, vec![])];
    let mut kept = fra.begin(None, Duration::from_secs(20)).await.unwrap();
    kept.run(one("INSERT INTO t VALUES (1)"), None).await.unwrap();
    assert!(kept.run(one("INSERT INTO nope VALUES (1)"), None).await.is_err());
    let seen = kept.run(one("SELECT count(*) FROM t"), None).await.unwrap();
    assert_eq!(seen.value[0].rows.values, [Value::Integer(1)]);
    let at = kept.commit().await.unwrap();
    let mut gone = fra.begin(None, Duration::from_secs(20)).await.unwrap();
    gone.run(one("INSERT INTO t VALUES (2)"), None).await.unwrap();
    gone.rollback().await.unwrap();
    use verge_services::sql::Home;
    assert!(fra.home().wait_for(at, Duration::from_secs(30)).await);
    assert_eq!(values(&fra), [1]);
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_off_pop_reads_on_refuses_writes_and_converges() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    let fra = nodes[1].database(&app).await.unwrap();
    insert(&fra, 1).await.unwrap();
    until("fra follows", || async { values(&fra) == [1] }).await;

    world.links.cut(&"iad-1".parse().unwrap(), &"fra-1".parse().unwrap());
    insert(&iad, 2).await.unwrap();
    let refused = insert(&fra, 3).await.unwrap_err();
    // Sent into the void it may have arrived; once the link is known to be down it is refused.
    assert!(
        matches!(refused.kind, ErrorKind::Unavailable | ErrorKind::OutcomeUnknown),
        "{refused:?}"
    );
    until("the cut is known", || async {
        insert(&fra, 3).await.is_err_and(|error| error.kind == ErrorKind::Unavailable)
    })
    .await;
    assert_eq!(values(&fra), [1], "reads go on");
    let strong = Freshness { strong: true, ..Freshness::default() };
    let read = fra.query(&strong, Query::new("SELECT v FROM t", vec![]), None).await;
    assert!(read.is_err(), "what only the primary can answer is refused");

    world.links.heal(&"iad-1".parse().unwrap(), &"fra-1".parse().unwrap());
    until("fra writes again", || async { insert(&fra, 4).await.is_ok() }).await;
    converged(&[&nodes[0], &nodes[1]], &app).await;
    let all = values(&fra);
    assert!(all.starts_with(&[1, 2]) && all.contains(&4), "{all:?}");
    assert_eq!(all.iter().filter(|v| **v == 4).count(), 1, "never twice");
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_lost_on_its_way_is_no_write_of_unknown_outcome() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    let fra = nodes[1].database(&app).await.unwrap();
    insert(&fra, 1).await.unwrap();
    let strong = Freshness { strong: true, ..Freshness::default() };
    let count = || Query::new("SELECT count(*) FROM t", vec![]);
    assert!(fra.query(&strong, count(), None).await.is_ok());
    // It arrives, and its answer does not.
    world.links.cut_one_way(&"iad-1".parse().unwrap(), &"fra-1".parse().unwrap());
    let lost = fra.query(&strong, count(), None).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::Unavailable, "{lost:?}");
    assert!(lost.retryable());
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_register_the_placement_leads_for_good() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    world.register = false;
    let nodes = world.start_all().await;
    let app = id("app/main");
    let fra = nodes[1].database(&app).await.unwrap();
    create(&fra).await;
    insert(&fra, 1).await.unwrap();
    until("fra follows", || async { values(&fra) == [1] }).await;
    let moved = nodes[0].move_primary(&app, &"fra".parse().unwrap()).await;
    assert!(moved.unwrap_err().to_string().contains("register"));
    let [iad, fra_node] = <[_; 2]>::try_from(nodes).ok().unwrap();
    world.kill("iad-1", iad).await;
    assert_eq!(values(&fra), [1]);
    let iad = world.start("iad-1").await;
    iad.existing(&app).await.unwrap();
    until("writes go on", || async { insert(&fra, 2).await.is_ok() }).await;
    converged(&[&iad, &fra_node], &app).await;
    iad.shutdown().await;
    fra_node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_catches_up_by_segments_and_by_snapshot() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    // Little room for the log, so that a long absence needs a snapshot.
    world.settings.log_file_bytes = 64 << 10;
    world.settings.max_log_bytes = 256 << 10;
    world.settings.checkpoint_bytes = 64 << 10;
    world.settings.compression = verge_dataset::Compression::None;
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create_as(&iad, "CREATE TABLE t (v INTEGER, pad BLOB DEFAULT (randomblob(2000)))").await;
    nodes[1].database(&app).await.unwrap();
    converged(&[&nodes[0], &nodes[1]], &app).await;
    let [iad_node, fra_node] = <[_; 2]>::try_from(nodes).ok().unwrap();

    world.stop("fra-1", fra_node).await;
    for v in 0..5 {
        insert(&iad, v).await.unwrap();
    }
    let fra_node = world.start("fra-1").await;
    fra_node.existing(&app).await.unwrap();
    converged(&[&iad_node, &fra_node], &app).await;

    world.kill("fra-1", fra_node).await;
    for v in 5..400 {
        insert(&iad, v).await.unwrap();
    }
    let dataset_gone = iad_node.status_of(&app).unwrap().txid;
    assert!(dataset_gone > 300);
    let fra_node = world.start("fra-1").await;
    let fra = fra_node.existing(&app).await.unwrap();
    converged(&[&iad_node, &fra_node], &app).await;
    until("all of it is there", || async { values(&fra).len() == 400 }).await;
    // Segments go on after the snapshot.
    insert(&fra, 400).await.unwrap();
    converged(&[&iad_node, &fra_node], &app).await;
    iad_node.shutdown().await;
    fra_node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_rests_and_wakes_with_its_data() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    world.idle_after = Duration::from_millis(1500);
    let nodes = world.start_all().await;
    let app = id("app/main");
    let fra = nodes[1].database(&app).await.unwrap();
    create(&fra).await;
    insert(&fra, 1).await.unwrap();
    until("all rest", || async {
        nodes.iter().all(|node| node.status_of(&app).unwrap().role == RoleName::Asleep)
    })
    .await;
    assert_eq!(values(&fra), [1], "reads do not need anybody awake");
    insert(&fra, 2).await.unwrap();
    assert_eq!(nodes[0].status_of(&app).unwrap().role, RoleName::Primary, "it takes up its lease");
    until("fra follows", || async { values(&fra) == [1, 2] }).await;
    converged(&[&nodes[0], &nodes[1]], &app).await;
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_longer_than_a_message_arrive() {
    long_transactions(verge_dataset::Settings::default().large_bytes).await;
}

/// As older logs have them: whole, however long.
#[tokio::test(flavor = "multi_thread")]
async fn segments_longer_than_a_message_arrive() {
    long_transactions(1 << 30).await;
}

async fn long_transactions(large_bytes: u64) {
    let mut world = World::new(&["iad-1", "fra-1"]);
    world.settings.large_bytes = large_bytes;
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create_as(&iad, "CREATE TABLE t (v INTEGER, pad BLOB)").await;
    let fra = nodes[1].database(&app).await.unwrap();
    converged(&[&nodes[0], &nodes[1]], &app).await;
    // As segments, 24 MiB goes in fragments, and 72 MiB is longer than any message: a snapshot.
    for (round, count) in [24, 72].into_iter().enumerate() {
        let many = format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO t (v, pad) SELECT {round} * 1000 + i, randomblob(1048576) FROM n"
        );
        iad.query(&Freshness::default(), Query::new(many, vec![]), None).await.unwrap();
        converged(&[&nodes[0], &nodes[1]], &app).await;
    }
    until("all rows are there", || async { values(&fra).len() == 96 }).await;
    insert(&fra, 5000).await.unwrap();
    converged(&[&nodes[0], &nodes[1]], &app).await;
    // Of an earlier term, to a copy that was away: the primary finds it in its log.
    let [iad_node, fra_node] = <[_; 2]>::try_from(nodes).ok().unwrap();
    world.stop("fra-1", fra_node).await;
    let long = "INSERT INTO t (v, pad) SELECT v + 10000, randomblob(1048576) FROM t";
    iad.query(&Freshness::default(), Query::new(long, vec![]), None).await.unwrap();
    drop(iad);
    world.stop("iad-1", iad_node).await;
    let nodes = world.start_all().await;
    let iad = nodes[0].existing(&app).await.unwrap();
    until("iad leads again", || async { insert(&iad, 5001).await.is_ok() }).await;
    nodes[1].existing(&app).await.unwrap();
    converged(&[&nodes[0], &nodes[1]], &app).await;
    for node in &nodes {
        node.shutdown().await;
    }
}
