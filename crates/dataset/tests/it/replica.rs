//! Segments from a primary to replicas.

use verge_dataset::{Error, Role};
use verge_types::Position;

use crate::harness::*;

#[tokio::test]
async fn a_replica_follows_through_schema_changes_vacuum_and_restarts() {
    for page_size in [512, 4096, 65_536] {
        let (one, other) = (Node::new(), Node::new());
        let primary = create(&one, page_size);
        let copy = replica(&other, page_size);
        assert_eq!(copy.role(), Role::Replica);
        sql(&primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
        ship(&primary, &copy).await;
        for round in 0..5 {
            for n in 0..20 {
                sql(&primary, &format!("INSERT INTO t(x) VALUES (randomblob({}))", n * 300)).await;
            }
            sql(&primary, &format!("CREATE INDEX i{round} ON t(x); CREATE TABLE t{round}(a)"))
                .await;
            ship(&primary, &copy).await;
            sql(&primary, "DELETE FROM t WHERE id % 3 = 0").await;
            primary.vacuum().await.unwrap();
            ship(&primary, &copy).await;
            if round % 2 == 0 {
                copy.checkpoint().await.unwrap();
                primary.checkpoint().await.unwrap();
            }
        }
        checksum_holds(&copy);
        let recovered = other.crashed();
        same(&primary, &recovered.store.get(&id("app/main")).unwrap());
    }
}

#[tokio::test]
async fn readers_of_a_replica_keep_their_snapshot_while_segments_come() {
    let (one, other) = (Node::new(), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    sql(&primary, "CREATE TABLE t(x); INSERT INTO t VALUES (1)").await;
    ship(&primary, &copy).await;
    let reader = copy.reader().unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let sum = || reader.query_row("SELECT sum(x) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(sum().unwrap(), 1);
    sql(&primary, "INSERT INTO t VALUES (1); CREATE TABLE other(x)").await;
    ship(&primary, &copy).await;
    assert_eq!(sum().unwrap(), 1);
    assert_eq!(number(&copy, "SELECT sum(x) FROM t"), 2);
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(sum().unwrap(), 2);
}

#[tokio::test]
async fn cached_statements_see_a_schema_that_came_as_pages() {
    let (one, other) = (Node::new(), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    sql(&primary, "CREATE TABLE t(a); INSERT INTO t VALUES (1)").await;
    ship(&primary, &copy).await;
    let reader = copy.reader().unwrap();
    let columns = || {
        let mut statement = reader.prepare_cached("SELECT * FROM t").unwrap();
        statement.query_row([], |row| row.get::<_, i64>(0)).unwrap();
        statement.column_count()
    };
    assert_eq!(columns(), 1);
    sql(&primary, "ALTER TABLE t ADD COLUMN b").await;
    ship(&primary, &copy).await;
    assert_eq!(columns(), 2);
    // Again, with the table elsewhere in the file.
    sql(&primary, "CREATE TABLE u AS SELECT 9 AS a, 8, 7; DROP TABLE t; ALTER TABLE u RENAME TO t")
        .await;
    ship(&primary, &copy).await;
    assert_eq!(columns(), 3);
}

#[tokio::test]
async fn duplicates_are_passed_over_and_gaps_are_named() {
    let (one, other) = (Node::new(), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    for n in 0..4 {
        sql(&primary, &format!("CREATE TABLE t{n}(x)")).await;
    }
    let mut log = primary.subscribe(Position::default()).unwrap();
    let mut all = Vec::new();
    while let Some((_, bytes)) = log.try_next().unwrap() {
        all.push(bytes);
    }
    let gap = copy.apply(vec![all[0].clone(), all[2].clone()]).await;
    assert!(matches!(gap, Err(Error::Gap { have, .. }) if have == Position::new(1, 1)), "{gap:?}");
    assert_eq!(copy.position(), Position::new(1, 1), "what came before the gap is kept");
    let twice = [&all[0], &all[1], &all[1], &all[2]].map(|bytes| bytes.clone());
    assert_eq!(copy.apply(twice.to_vec()).await.unwrap(), Position::new(1, 3));
    copy.apply(all).await.unwrap();
    same(&primary, &copy);
    assert_eq!(copy.role(), Role::Replica);
}

#[tokio::test]
async fn a_primary_takes_no_segments_and_a_replica_no_writes() {
    let (one, other) = (Node::new(), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    sql(&primary, "CREATE TABLE t(x)").await;
    ship(&primary, &copy).await;
    let error = dataset_error(try_sql(&copy, "INSERT INTO t VALUES (1)").await);
    assert!(matches!(error, Error::NotPrimary { .. }));
    let mut log = primary.subscribe(Position::default()).unwrap();
    let (_, bytes) = log.try_next().unwrap().unwrap();
    assert!(matches!(primary.apply(vec![bytes]).await, Err(Error::NotReplica)));
}

#[tokio::test]
async fn a_hand_over_loses_nothing_and_the_old_epoch_is_refused() {
    let (one, other) = (Node::new(), Node::new());
    let (a, b) = (create(&one, 4096), replica(&other, 4096));
    sql(&a, "CREATE TABLE t(x)").await;
    a.demote(1).await.unwrap();
    ship(&a, &b).await;
    b.promote(2).await.unwrap();
    sql(&b, "INSERT INTO t VALUES (1)").await;
    ship(&b, &a).await;
    assert_eq!(a.position(), Position::new(2, 2));
    assert_eq!(a.epoch(), 2);
    // And back, so that capture goes on behind a replica's own frames.
    b.demote(2).await.unwrap();
    a.promote(3).await.unwrap();
    sql(&a, "INSERT INTO t VALUES (2)").await;
    ship(&a, &b).await;
    checksum_holds(&a);
    assert_eq!(number(&b, "SELECT sum(x) FROM t"), 3);
    let recovered = other.crashed();
    same(&a, &recovered.store.get(&id("app/main")).unwrap());
}

#[tokio::test]
async fn a_tail_of_a_dead_epoch_is_diverged_and_quarantined() {
    let (one, other) = (Node::new(), Node::new());
    let (a, b) = (create(&one, 4096), replica(&other, 4096));
    sql(&a, "CREATE TABLE t(x)").await;
    ship(&a, &b).await;
    sql(&a, "INSERT INTO t VALUES ('lost')").await;
    b.promote(2).await.unwrap();
    sql(&b, "INSERT INTO t VALUES ('kept')").await;
    a.demote(2).await.unwrap();
    assert!(matches!(b.subscribe(a.position()), Err(Error::Diverged { .. })));
    let mut log = b.subscribe(Position::new(1, 1)).unwrap();
    let (_, bytes) = log.try_next().unwrap().unwrap();
    assert!(matches!(a.apply(vec![bytes.clone()]).await, Err(Error::Diverged { .. })));
    assert_eq!(a.role(), Role::Quarantined);
    assert!(matches!(a.apply(vec![bytes]).await, Err(Error::Quarantined(_))));
    assert_eq!(text(&a, "SELECT x FROM t"), "lost", "it can still be read");
    let again = one.crashed();
    assert_eq!(again.store.get(&id("app/main")).unwrap().role(), Role::Quarantined);
}

#[tokio::test]
async fn live_subscribers_get_segments_as_they_become_durable() {
    let (one, other) = (Node::new(), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    let mut feed = primary.subscribe(copy.position()).unwrap();
    let follower = copy.clone();
    let task = tokio::spawn(async move {
        while follower.position().txid < 100 {
            let (_, bytes) = feed.next().await.unwrap();
            follower.apply(vec![bytes]).await.unwrap();
        }
    });
    sql(&primary, "CREATE TABLE t(x)").await;
    for _ in 0..99 {
        sql(&primary, "INSERT INTO t VALUES (1)").await;
    }
    task.await.unwrap();
    same(&primary, &copy);
}
