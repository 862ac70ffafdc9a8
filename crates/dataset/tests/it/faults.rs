//! A disk that fails: what was acknowledged is kept, what could not be made durable is not
//! acknowledged, and the dataset says so.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use verge_dataset::{CreateOptions, Error, WriteError};

use crate::faulty::faulty;
use crate::harness::*;

/// Tries until the dataset has recovered.
pub async fn until_it_writes(dataset: &verge_dataset::Dataset, text: &str) {
    for _ in 0..100 {
        match try_sql(dataset, text).await {
            Ok(_) => return,
            Err(WriteError::Dataset(Error::Stopped(_))) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not recover: {:?}", dataset.failure());
}

#[tokio::test]
async fn a_failed_sync_is_not_acknowledged_and_leaves_no_trace() {
    let (store, plan, folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x); INSERT INTO t VALUES (1)").await;
    let before = dataset.checksum();
    plan.fail_syncs.store(1, Ordering::SeqCst);
    let error = dataset_error(try_sql(&dataset, "INSERT INTO t VALUES (2)").await);
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert!(matches!(dataset.reader(), Err(Error::Failed(_))), "it is not readable either");
    // Of the first nobody knows; the next has certainly not begun.
    let next = dataset_error(try_sql(&dataset, "INSERT INTO t VALUES (3)").await);
    assert!(matches!(next, Error::Stopped(_)) && next.retry(), "{next}");
    assert_eq!(dataset.checksum(), before);
    until_it_writes(&dataset, "INSERT INTO t VALUES (10)").await;
    assert_eq!(number(&dataset, "SELECT sum(x) FROM t"), 11);
    checksum_holds(&dataset);
    let copy = tempfile::tempdir().unwrap();
    crate::harness::copy(folder.path(), copy.path());
    same(&dataset, &open(copy.path(), settings()).get(&id("d")).unwrap());
}

/// It opened its log again, and whoever reads it goes on there.
#[tokio::test]
async fn a_subscription_goes_on_after_a_failure() {
    let (store, plan, _folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    let made = sql(&dataset, "CREATE TABLE t(x)").await;
    let mut log = dataset.subscribe(made).unwrap();
    plan.fail_syncs.store(1, Ordering::SeqCst);
    dataset_error(try_sql(&dataset, "INSERT INTO t VALUES (2)").await);
    until_it_writes(&dataset, "INSERT INTO t VALUES (10)").await;
    let next = tokio::time::timeout(Duration::from_secs(30), log.next()).await.unwrap().unwrap();
    assert_eq!(next.0, dataset.position());
}

#[tokio::test]
async fn a_dataset_that_failed_waits_for_its_old_readers() {
    let (store, plan, _folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x)").await;
    let reader = dataset.reader().unwrap();
    plan.fail_syncs.store(1, Ordering::SeqCst);
    dataset_error(try_sql(&dataset, "INSERT INTO t VALUES (2)").await);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(try_sql(&dataset, "INSERT INTO t VALUES (3)").await.is_err());
    drop(reader);
    until_it_writes(&dataset, "INSERT INTO t VALUES (10)").await;
    assert_eq!(number(&dataset, "SELECT sum(x) FROM t"), 10);
}

#[tokio::test]
async fn a_full_disk_under_the_log_cuts_the_torn_append() {
    let (store, plan, folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x); INSERT INTO t VALUES (1)").await;
    plan.room.store(10, Ordering::SeqCst);
    let error = dataset_error(try_sql(&dataset, "INSERT INTO t VALUES (randomblob(90000))").await);
    assert!(matches!(error, Error::Failed(_)), "{error}");
    let copy = tempfile::tempdir().unwrap();
    crate::harness::copy(folder.path(), copy.path());
    let recovered = open(copy.path(), settings()).get(&id("d")).unwrap();
    assert_eq!(number(&recovered, "SELECT sum(x) FROM t"), 1);
    plan.room.store(0, Ordering::SeqCst);
    until_it_writes(&dataset, "INSERT INTO t VALUES (10)").await;
    assert_eq!(number(&dataset, "SELECT sum(x) FROM t"), 11);
    checksum_holds(&dataset);
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_writes_before_they_begin_and_reads_go_on() {
    let (store, plan, _folder) = faulty();
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x)").await;
    plan.free.store(1000, Ordering::SeqCst);
    let error = dataset_error(try_sql(&dataset, "INSERT INTO t VALUES (1)").await);
    assert!(matches!(error, Error::DiskFull { free: 1000, .. }) && error.retry(), "{error}");
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 0);
    plan.free.store(0, Ordering::SeqCst);
    sql(&dataset, "INSERT INTO t VALUES (1)").await;
}

/// The last log file of a crashed copy, to be damaged.
fn last_log(folder: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(folder.join("app+main/log")).unwrap();
    files.map(|file| file.unwrap().path()).max().unwrap()
}

#[tokio::test]
async fn a_torn_tail_of_the_log_is_cut_at_every_length() {
    let node = Node::new();
    let dataset = create(&node, 512);
    sql(&dataset, "CREATE TABLE t(x)").await;
    sql(&dataset, "INSERT INTO t VALUES (1)").await;
    let whole = std::fs::metadata(last_log(node.folder.path())).unwrap().len();
    sql(&dataset, "INSERT INTO t VALUES (2)").await;
    let longer = std::fs::metadata(last_log(node.folder.path())).unwrap().len();
    for len in (whole..longer).step_by(37) {
        let copy = tempfile::tempdir().unwrap();
        crate::harness::copy(node.folder.path(), copy.path());
        let log = last_log(copy.path());
        std::fs::OpenOptions::new().write(true).open(log).unwrap().set_len(len).unwrap();
        let recovered = open(copy.path(), settings()).get(&id("app/main")).unwrap();
        assert_eq!(recovered.position().txid, 2, "cut at {len}");
        assert_eq!(number(&recovered, "SELECT sum(x) FROM t"), 1);
        sql(&recovered, "INSERT INTO t VALUES (3)").await;
        checksum_holds(&recovered);
    }
}

#[tokio::test]
async fn damage_to_what_was_durable_is_an_error_and_not_a_torn_tail() {
    let node = Node::new();
    let dataset = create(&node, 512);
    for n in 0..5 {
        sql(&dataset, &format!("CREATE TABLE t{n}(x)")).await;
    }
    let whole = std::fs::read(last_log(node.folder.path())).unwrap();
    for at in [3, 30, 200, whole.len() / 2] {
        let copy = tempfile::tempdir().unwrap();
        crate::harness::copy(node.folder.path(), copy.path());
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(last_log(copy.path()), bytes).unwrap();
        let opened = open(copy.path(), settings()).get(&id("app/main"));
        assert!(matches!(opened, Err(Error::Corrupt { .. })), "byte {at}");
    }
}

#[tokio::test]
async fn a_missing_state_or_log_is_an_error_and_never_a_new_beginning() {
    let node = Node::new();
    let dataset = create(&node, 512);
    sql(&dataset, "CREATE TABLE t(x)").await;
    dataset.checkpoint().await.unwrap();
    sql(&dataset, "INSERT INTO t VALUES (1)").await;
    let broken = |damage: &dyn Fn(&Path)| {
        let copy = tempfile::tempdir().unwrap();
        crate::harness::copy(node.folder.path(), copy.path());
        damage(&copy.path().join("app+main"));
        open(copy.path(), settings()).get(&id("app/main")).err().expect("it must not open")
    };
    let error = broken(&|dir| std::fs::write(dir.join("state"), "").unwrap());
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    broken(&|dir| std::fs::remove_file(dir.join("state")).unwrap());
    broken(&|dir| std::fs::remove_dir_all(dir.join("log")).unwrap());
    broken(&|dir| std::fs::remove_file(dir.join("db")).unwrap());
    broken(&|dir| std::fs::write(dir.join("db"), [0; 100]).unwrap());
}
