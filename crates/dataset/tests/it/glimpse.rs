//! Nobody is told of a commit, his own or another's, before the disk has it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use verge_dataset::{CreateOptions, Dataset, Error, WriteError};

use crate::faulty::{Plan, faulty};
use crate::harness::*;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn held_beyond(plan: &Plan, count: u32) {
    let reached = async {
        while plan.held.load(Ordering::SeqCst) <= count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap();
}

/// A write that SQLite's readers see and the disk has not.
async fn in_flight(plan: &Plan, dataset: &Arc<Dataset>, text: &str) -> JoinHandle<Written<()>> {
    plan.hold_syncs.store(true, Ordering::SeqCst);
    let held = plan.held.load(Ordering::SeqCst);
    let (dataset, text) = (dataset.clone(), text.to_owned());
    let writing = tokio::spawn(async move { try_sql(&dataset, &text).await });
    held_beyond(plan, held).await;
    writing
}

#[tokio::test]
async fn a_read_that_saw_a_commit_settles_with_its_sync_at_its_position() {
    let (store, plan, _folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    let before = sql(&dataset, "CREATE TABLE t(x)").await;
    let reader = dataset.reader().unwrap();
    assert_eq!(reader.glimpse().block(Duration::ZERO).unwrap(), before, "nothing is under way");

    let writing = in_flight(&plan, &dataset, "INSERT INTO t VALUES (1)").await;
    let seen: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(seen, 1, "SQLite shows it at once");
    assert!(dataset.is_settling());
    assert_eq!(dataset.position(), before);
    let early = reader.glimpse().block(Duration::from_millis(20));
    assert!(matches!(early, Err(Error::Overloaded { .. })), "{early:?}");
    let glimpse = tokio::spawn(reader.glimpse().settled());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!glimpse.is_finished());
    plan.hold_syncs.store(false, Ordering::SeqCst);
    let position = writing.await.unwrap().unwrap().position;
    assert_eq!(glimpse.await.unwrap().unwrap(), position);
    assert!(!dataset.is_settling());
}

#[tokio::test]
async fn a_read_of_what_the_disk_did_not_take_is_an_error() {
    let (store, plan, _folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x)").await;
    let reader = dataset.reader().unwrap();
    let writing = in_flight(&plan, &dataset, "INSERT INTO t VALUES (1)").await;
    let seen: i64 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
    assert_eq!(seen, 1);
    let (now, later) = (reader.glimpse(), reader.glimpse());
    drop(reader);
    plan.fail_syncs.store(1, Ordering::SeqCst);
    plan.hold_syncs.store(false, Ordering::SeqCst);
    assert!(matches!(now.settled().await, Err(Error::Failed(_))));
    writing.await.unwrap().unwrap_err();
    // Also once the dataset has recovered, and another write may have taken the same position.
    let recovered = async {
        while try_sql(&dataset, "INSERT INTO t VALUES (2)").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recovered).await.unwrap();
    assert!(matches!(later.settled().await, Err(Error::Failed(_))));
    assert_eq!(number(&dataset, "SELECT sum(x) FROM t"), 2);
}

/// It was in a group with another's commit, and says what it saw of it.
#[tokio::test]
async fn a_job_that_only_looked_is_told_after_the_sync() {
    let (store, plan, _folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x)").await;
    let first = in_flight(&plan, &dataset, "INSERT INTO t VALUES (1)").await;
    // These two wait for the writer together, and so share a group.
    let (one, two) = (dataset.clone(), dataset.clone());
    let writing = tokio::spawn(async move { try_sql(&one, "INSERT INTO t VALUES (2)").await });
    let looking = tokio::spawn(async move {
        let job = move |db: &verge_dataset::rusqlite::Connection| {
            Err::<(), i64>(db.query_row("SELECT sum(x) FROM t", [], |row| row.get(0)).unwrap())
        };
        two.write(job).await
    });
    // Their turn to be put into the queue, in this order.
    tokio::time::sleep(Duration::from_millis(20)).await;
    plan.released.store(1, Ordering::SeqCst);
    first.await.unwrap().unwrap();
    held_beyond(&plan, 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!looking.is_finished(), "the disk has not what it saw");
    plan.hold_syncs.store(false, Ordering::SeqCst);
    let told = looking.await.unwrap().unwrap_err();
    assert!(matches!(told, WriteError::Job(3)), "{told:?}");
    assert_eq!(writing.await.unwrap().unwrap().position, dataset.position());
}

#[tokio::test]
async fn a_replicas_reader_is_given_a_position_that_covers_what_it_saw() {
    let (here, there) = (Node::new(), Node::new());
    let (primary, copy) = (create(&here, 4096), replica(&there, 4096));
    sql(&primary, "CREATE TABLE t(x)").await;
    ship(&primary, &copy).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let looking = std::thread::spawn({
        let (copy, stop) = (copy.clone(), stop.clone());
        move || {
            let mut looks = 0;
            while !stop.load(Ordering::SeqCst) || looks < 100 {
                let reader = copy.reader().unwrap();
                let count: u32 =
                    reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
                let covers = reader.glimpse().block(PATIENCE).unwrap();
                // The table is the first transaction, each row another.
                assert!(covers.txid > u64::from(count), "{count} rows at {covers}");
                looks += 1;
            }
        }
    });
    for n in 0..200 {
        sql(&primary, &format!("INSERT INTO t VALUES ({n})")).await;
        ship(&primary, &copy).await;
    }
    stop.store(true, Ordering::SeqCst);
    looking.join().unwrap();
}
