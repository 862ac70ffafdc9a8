//! Writing, reading and recovering on one node.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use verge_dataset::{BootTime, Dataset, Error, Role, Settings, WriteError, rusqlite};
use verge_types::Position;

use crate::harness::*;

#[tokio::test]
async fn what_is_acknowledged_is_read_and_has_a_position() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    assert_eq!(dataset.role(), Role::Primary { epoch: 1 });
    assert_eq!(dataset.position(), Position::new(0, 0));
    let first = sql(&dataset, "CREATE TABLE t(x); INSERT INTO t VALUES (1)").await;
    assert_eq!(first, Position::new(1, 1));
    let second = sql(&dataset, "INSERT INTO t VALUES (2)").await;
    assert_eq!(second, Position::new(1, 2));
    assert_eq!(number(&dataset, "SELECT sum(x) FROM t"), 3);
    assert!(dataset.reader().unwrap().position() >= second);
    checksum_holds(&dataset);
    let nothing = sql(&dataset, "SELECT 1").await;
    assert_eq!(nothing, second, "a job that changes nothing makes no segment");
}

#[tokio::test]
async fn a_failed_transaction_of_a_group_rolls_back_alone() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x UNIQUE)").await;
    let writes = (0..50).map(|n| {
        let dataset = &dataset;
        async move { (n, try_sql(dataset, &format!("INSERT INTO t VALUES ({})", n / 2)).await) }
    });
    let mut good = 0;
    for (n, result) in futures(writes).await {
        match result {
            Ok(_) => good += 1,
            Err(WriteError::Job(error)) => assert!(error.to_string().contains("UNIQUE"), "{n}"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(good, 25);
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 25);
    assert!(dataset.position().txid < 51, "writers shared segments");
    checksum_holds(&dataset);
}

/// Polls all at once, so that they wait for the writer together.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test]
async fn a_panicking_job_is_rolled_back_and_the_writer_lives() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    let result = dataset
        .write(|db| -> rusqlite::Result<()> {
            db.execute_batch("INSERT INTO t VALUES (1)")?;
            panic!("as it happens");
        })
        .await;
    assert!(matches!(dataset_error(result), Error::JobPanicked));
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 0);
    sql(&dataset, "INSERT INTO t VALUES (1)").await;
}

#[tokio::test]
async fn a_job_cannot_end_its_transaction_unnoticed() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    let result = try_sql(&dataset, "CREATE TABLE t(x); COMMIT").await;
    assert!(matches!(dataset_error(result), Error::TransactionEnded));
    sql(&dataset, "CREATE TABLE u(x)").await;
    checksum_holds(&dataset);
    let again = node.crashed();
    checksum_holds(&again.store.get(&id("app/main")).unwrap());
}

#[tokio::test]
async fn a_crash_between_commit_and_append_leaves_no_trace() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x); INSERT INTO t VALUES (1)").await;
    drop(dataset);
    node.store.close_all();
    // Another connection's commit is what SQLite has when the log does not.
    let path = node.folder.path().join("app+main/db");
    let db = rusqlite::Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA wal_autocheckpoint=0; INSERT INTO t VALUES (2)").unwrap();
    let again = node.crashed();
    let dataset = again.store.get(&id("app/main")).unwrap();
    assert_eq!(number(&dataset, "SELECT sum(x) FROM t"), 1);
    assert_eq!(dataset.position(), Position::new(1, 1));
    checksum_holds(&dataset);
}

#[tokio::test]
async fn after_a_crash_everything_acknowledged_is_there() {
    let node = Node::new();
    for page_size in [512, 4096, 65_536] {
        let name = id(&format!("app/p{page_size}"));
        let options = verge_dataset::CreateOptions { page_size };
        let dataset = node.store.create(&name, options).unwrap();
        sql(&dataset, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
        for n in 0..300 {
            sql(&dataset, &format!("INSERT INTO t(x) VALUES (randomblob({}))", n * 7)).await;
            if n % 100 == 50 {
                dataset.checkpoint().await.unwrap();
            }
        }
        let again = node.crashed();
        let recovered = again.store.get(&name).unwrap();
        same(&dataset, &recovered);
        checksum_holds(&recovered);
        sql(&recovered, "INSERT INTO t(x) VALUES (1)").await;
        checksum_holds(&recovered);
    }
}

#[tokio::test]
async fn a_clean_close_needs_no_redo_and_no_log_to_be_read() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x); INSERT INTO t VALUES (7)").await;
    let position = dataset.position();
    assert!(node.store.close(&id("app/main")));
    assert!(matches!(dataset.reader(), Err(Error::Closed)));
    assert!(matches!(dataset_error(try_sql(&dataset, "SELECT 1").await), Error::Closed));
    let plain = rusqlite::Connection::open(node.folder.path().join("app+main/db")).unwrap();
    let sum: i64 = plain.query_row("SELECT x FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(sum, 7);
    drop(plain);
    let dataset = node.store.get(&id("app/main")).unwrap();
    assert_eq!(dataset.position(), position);
    checksum_holds(&dataset);
}

#[tokio::test]
async fn the_wal_is_followed_when_it_begins_anew() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
    for round in 0..6 {
        for _ in 0..round * 5 {
            sql(&dataset, "INSERT INTO t(x) VALUES (randomblob(3000))").await;
        }
        assert!(dataset.checkpoint().await.unwrap(), "no reader is out");
        checksum_holds(&dataset);
    }
    let again = node.crashed();
    same(&dataset, &again.store.get(&id("app/main")).unwrap());
}

#[tokio::test]
async fn a_pinned_reader_keeps_its_snapshot_and_holds_back_the_checkpoint() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    let reader = dataset.reader().unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = || reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(count().unwrap(), 0);
    for _ in 0..20 {
        sql(&dataset, "INSERT INTO t VALUES (1)").await;
    }
    assert!(!dataset.checkpoint().await.unwrap());
    assert_eq!(count().unwrap(), 0);
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 20);
    same(&dataset, &node.crashed().store.get(&id("app/main")).unwrap());
    drop(reader);
    assert!(dataset.checkpoint().await.unwrap());
    sql(&dataset, "INSERT INTO t VALUES (1)").await;
    checksum_holds(&dataset);
}

fn small_wal() -> Settings {
    Settings { max_wal_bytes: 64 << 10, checkpoint_bytes: 16 << 10, ..settings() }
}

/// A steady reader, used as such: what it shows, and whether it was in a transaction before.
fn steady_count(dataset: &Dataset) -> (i64, bool) {
    let reader = dataset.steady_reader().unwrap();
    let shared = !reader.is_autocommit();
    let mut count = reader.prepare_cached("SELECT count(*) FROM t").unwrap();
    (count.query_row([], |row| row.get(0)).unwrap(), shared)
}

#[tokio::test]
async fn steady_readers_share_a_read_transaction_and_see_every_commit() {
    let node = Node::new();
    let (dataset, copy) = (create(&node, 4096), Node::new());
    let copy = replica(&copy, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    for expected in 0..50 {
        ship(&dataset, &copy).await;
        for one in [&dataset, &copy] {
            let reads = [(); 4].map(|()| steady_count(one));
            assert!(reads.iter().all(|(count, _)| *count == expected), "{reads:?}");
            assert!(reads[2].1 && reads[3].1, "{reads:?}");
        }
        // A reader of its own is in none, and leaves none behind.
        dataset.reader().unwrap().execute_batch("BEGIN; SELECT * FROM t").unwrap();
        assert!(dataset.reader().unwrap().is_autocommit());
        sql(&dataset, "INSERT INTO t VALUES (1)").await;
    }
    same(&dataset, &node.crashed().store.get(&id("app/main")).unwrap());
}

#[tokio::test]
async fn idle_steady_readers_hold_nothing_back() {
    let node = Node::with(small_wal());
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    for round in 0..100 {
        // Several, so that some stay behind in an old transaction.
        let some: Vec<_> = (0..3).map(|_| dataset.steady_reader().unwrap()).collect();
        for reader in &some {
            reader.prepare_cached("SELECT count(*) FROM t").unwrap().exists([]).unwrap();
        }
        drop(some);
        assert_eq!(steady_count(&dataset).0, round);
        sql(&dataset, "INSERT INTO t VALUES (randomblob(2000))").await;
        if round % 10 == 0 {
            assert!(dataset.checkpoint().await.unwrap());
        }
    }
    checksum_holds(&dataset);
}

#[tokio::test]
async fn a_steady_reader_that_is_out_during_a_checkpoint_does_not_keep_the_wal_growing() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    let wal = node.folder.path().join("app+main/db-wal");
    let mut lengths = Vec::new();
    for _ in 0..20 {
        sql(&dataset, "INSERT INTO t VALUES (1)").await;
        steady_count(&dataset);
        let reader = dataset.steady_reader().unwrap();
        assert!(!reader.is_autocommit());
        reader.prepare_cached("SELECT count(*) FROM t").unwrap().exists([]).unwrap();
        assert!(dataset.checkpoint().await.unwrap(), "it sees all there is");
        drop(reader);
        lengths.push(std::fs::metadata(&wal).unwrap().len());
    }
    assert_eq!(lengths[1], lengths[19], "begun anew each time: {lengths:?}");
    checksum_holds(&dataset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_reader_beside_the_writer_sees_what_was_told() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    let told = Arc::new(AtomicI64::new(0));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (dataset, told) = (dataset.clone(), told.clone());
            std::thread::spawn(move || {
                let (mut shared, mut last) = (0, 0);
                while last < 300 {
                    let before = told.load(Ordering::SeqCst);
                    let (count, was_shared) = steady_count(&dataset);
                    assert!(count >= before.max(last), "{count} after {before} and {last}");
                    last = count;
                    shared += u32::from(was_shared);
                }
                shared
            })
        })
        .collect();
    for _ in 0..300 {
        sql(&dataset, "INSERT INTO t VALUES (1)").await;
        told.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let shared: Vec<u32> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert!(shared.iter().any(|count| *count > 0), "{shared:?}");
}

#[tokio::test]
async fn a_wal_at_its_limit_refuses_writes_until_the_reader_is_gone() {
    let node = Node::with(small_wal());
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    let reader = dataset.reader().unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    let mut refused = None;
    for _ in 0..100 {
        if let Err(error) = try_sql(&dataset, "INSERT INTO t VALUES (randomblob(2000))").await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("the limit was reached");
    assert!(refused.to_string().contains("max_wal_bytes"), "{refused}");
    drop(reader);
    sql(&dataset, "INSERT INTO t VALUES (1)").await;
    checksum_holds(&dataset);
}

#[tokio::test]
async fn vacuum_and_deletion_shrink_the_file_and_the_checksum_follows() {
    for page_size in [4096, 65_536] {
        let node = Node::new();
        let dataset = create(&node, page_size);
        sql(&dataset, "CREATE TABLE t(x)").await;
        let fill = "INSERT INTO t SELECT randomblob(3000) FROM generate";
        let with = "WITH RECURSIVE generate(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM generate \
                    WHERE n < 500)";
        sql(&dataset, &format!("{with} {fill}")).await;
        let large = dataset.size();
        sql(&dataset, "DELETE FROM t WHERE rowid % 10 > 0").await;
        vacuum(&dataset).await;
        assert!(dataset.size() < large / 2);
        checksum_holds(&dataset);
        let again = node.crashed();
        same(&dataset, &again.store.get(&id("app/main")).unwrap());
        // It grows again over what was cut.
        sql(&dataset, &format!("{with} {fill}")).await;
        checksum_holds(&dataset);
        dataset.checkpoint().await.unwrap();
        let again = node.crashed();
        same(&dataset, &again.store.get(&id("app/main")).unwrap());
    }
}

/// `VACUUM` runs outside of transactions.
pub async fn vacuum(dataset: &verge_dataset::Dataset) {
    dataset.vacuum().await.unwrap();
}

#[tokio::test]
async fn interactive_transactions_commit_roll_back_and_end_at_their_deadline() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    let soon = || Instant::now() + Duration::from_secs(20);
    let insert = |db: &rusqlite::Connection| db.execute("INSERT INTO t VALUES (1)", []);

    let mut open = dataset.begin(soon()).await.unwrap();
    assert_eq!(open.run(insert).await.unwrap(), 1);
    let error = open.run(|db| db.execute("INSERT INTO nowhere VALUES (1)", [])).await;
    assert!(matches!(error, Err(WriteError::Job(_))));
    open.run(insert).await.unwrap();
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 0, "not committed yet");
    let committed = open.commit().await.unwrap();
    assert_eq!(committed.position, Position::new(1, 2));
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 2);

    let mut open = dataset.begin(soon()).await.unwrap();
    open.run(insert).await.unwrap();
    open.rollback().await.unwrap();
    let mut open = dataset.begin(soon()).await.unwrap();
    open.run(insert).await.unwrap();
    drop(open);
    let mut open = dataset.begin(Instant::now() + Duration::from_millis(300)).await.unwrap();
    open.run(insert).await.unwrap();
    // Others wait for the writer meanwhile, and get it.
    assert_eq!(sql(&dataset, "INSERT INTO t VALUES (5)").await, Position::new(1, 3));
    let late = open.run(insert).await;
    assert!(matches!(late, Err(WriteError::Dataset(Error::DeadlinePassed))), "{late:?}");
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 3);
    checksum_holds(&dataset);
}

#[tokio::test]
async fn a_job_past_its_deadline_is_interrupted() {
    let settings =
        verge_dataset::Settings { job_deadline: Duration::from_millis(100), ..settings() };
    let node = Node::with(settings);
    let dataset = create(&node, 4096);
    let endless = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM n) \
                   SELECT count(*) FROM n";
    let result = dataset.write(move |db| db.query_row(endless, [], |row| row.get::<_, i64>(0)));
    assert!(matches!(result.await, Err(WriteError::Job(_))));
    sql(&dataset, "CREATE TABLE t(x)").await;
}

#[tokio::test]
async fn too_many_waiting_writers_are_told_so() {
    let node = Node::with(verge_dataset::Settings { max_waiting: 4, ..settings() });
    let dataset = create(&node, 4096);
    let open = dataset.begin(Instant::now() + Duration::from_secs(20)).await.unwrap();
    let writes = (0..10).map(|_| try_sql(&dataset, "CREATE TABLE IF NOT EXISTS t(x)"));
    let (results, _) = tokio::join!(futures(writes), async { open.rollback().await.unwrap() });
    let refused = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(refused, 6);
}

#[tokio::test]
async fn fenced_primaries_acknowledge_nothing() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    dataset.lease_until(Some(BootTime::now().after(Duration::from_secs(60))));
    sql(&dataset, "INSERT INTO t VALUES (1)").await;
    dataset.fence();
    let error = dataset_error(try_sql(&dataset, "INSERT INTO t VALUES (1)").await);
    assert!(matches!(error, Error::NotPrimary { epoch: 1 }), "{error}");
    assert!(matches!(dataset.promote(1).await, Err(Error::StaleEpoch { .. })));
    dataset.promote(2).await.unwrap();
    assert_eq!(sql(&dataset, "INSERT INTO t VALUES (1)").await, Position::new(2, 3));
    let again = node.crashed();
    let recovered = again.store.get(&id("app/main")).unwrap();
    assert_eq!(recovered.role(), Role::Primary { epoch: 2 });
    same(&dataset, &recovered);
}

#[tokio::test]
async fn what_a_later_epoch_confirms_confirms_no_write_of_an_earlier_one() {
    let node = Node::new();
    let dataset = create(&node, 4096);
    sql(&dataset, "CREATE TABLE t(x)").await;
    dataset.set_ack(verge_dataset::Ack::Remote);
    let mut written = dataset.watch();
    let writing = tokio::spawn({
        let dataset = dataset.clone();
        async move { try_sql(&dataset, "INSERT INTO t VALUES (1)").await }
    });
    written.wait_for(|position| position.txid == 2).await.unwrap();
    dataset.confirm(Position::new(2, 1));
    let error = dataset_error(writing.await.unwrap());
    assert!(matches!(error, Error::Unconfirmed(_)), "{error}");
}

/// It has begun the -wal anew by then, with frames that nobody committed.
#[tokio::test]
async fn a_long_transaction_that_rolls_back_after_a_checkpoint_stops_nothing() {
    for rows in [1, 400] {
        let node = Node::new();
        let dataset = create(&node, 4096);
        sql(&dataset, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
        for n in 0..3 {
            let position =
                sql(&dataset, &format!("INSERT INTO t VALUES ({n}, zeroblob(300000))")).await;
            assert!(dataset.checkpoint().await.unwrap());
            let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ";
            let text = format!(
                "{many} {rows}) INSERT INTO t(x) SELECT randomblob(20000) FROM n; SELECT * FROM missing"
            );
            let refused = try_sql(&dataset, &text).await;
            assert!(matches!(refused, Err(WriteError::Job(_))), "{refused:?}");
            assert!(dataset.failure().is_none() && dataset.position() == position);
        }
        sql(&dataset, "INSERT INTO t VALUES (3, 1)").await;
        assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 4);
        checksum_holds(&dataset);
        same(&dataset, &node.crashed().store.get(dataset.id()).unwrap());
    }
}
