//! Transactions that are too large for memory: a file beside the log, one part in memory at a time.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use verge_dataset::{
    Compression, CreateOptions, Dataset, Error, Header, Receiving, Settings, Store, StoreConfig,
    Target,
};
use verge_types::Position;

use crate::faulty::faulty_with;
use crate::harness::*;

/// What changes more than three of the largest pages is large.
fn small_limits() -> Settings {
    Settings { large_bytes: 200 << 10, compression: Compression::None, ..settings() }
}

fn big_files(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut big: Vec<_> = all.filter(|path| path.extension().is_none_or(|e| e != "log")).collect();
    big.sort();
    big
}

fn log_of(node: &Node) -> PathBuf {
    node.folder.path().join("app+main/log")
}

/// Three MiB in three parts, and again what was there before.
async fn fill(dataset: &Dataset) -> Position {
    sql(
        dataset,
        "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x); \
         WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 150) \
         INSERT INTO t(x) SELECT randomblob(20000) FROM n; UPDATE t SET id = id WHERE id < 3",
    )
    .await
}

fn record_after(dataset: &Dataset, position: Position) -> Bytes {
    let mut log = dataset.subscribe(position).unwrap();
    let record = log.try_next().unwrap().unwrap().1;
    assert!(Header::decode(&record).unwrap().is_large());
    record
}

fn chunks(dataset: &Dataset, position: Position) -> Vec<Bytes> {
    let mut file = dataset.large_file(position).unwrap();
    std::iter::from_fn(|| file.next_chunk().unwrap()).collect()
}

fn receive(primary: &Dataset, copy: &Dataset, record: &Bytes) -> Receiving {
    let position = Header::decode(record).unwrap().position;
    let mut receiving = copy.receive(record).unwrap();
    // Cut anywhere.
    for chunk in chunks(primary, position) {
        let (one, other) = chunk.split_at(chunk.len() / 3);
        receiving.push(one).unwrap();
        receiving.push(other).unwrap();
    }
    receiving
}

#[tokio::test]
async fn a_huge_transaction_is_logged_shipped_applied_and_recovered() {
    for page_size in [512, 4096, 65_536] {
        let (one, other) = (Node::with(small_limits()), Node::with(small_limits()));
        let (primary, copy) = (create(&one, page_size), replica(&other, page_size));
        sql(&primary, "CREATE TABLE small(x)").await;
        let before = primary.position();
        fill(&primary).await;
        checksum_holds(&primary);
        assert_eq!(big_files(&log_of(&one)).len(), 1);
        let record = record_after(&primary, before);
        assert!(record.len() < 200, "the pages are not in it");
        // Neither closed in good order.
        same(&primary, &one.crashed().store.get(primary.id()).unwrap());
        ship(&primary, &copy).await;
        same(&primary, &other.crashed().store.get(primary.id()).unwrap());
        // It shrinks, from a file with holes.
        sql(&primary, "DELETE FROM t WHERE id % 3 = 0").await;
        primary.vacuum().await.unwrap();
        sql(&primary, "INSERT INTO small VALUES (1)").await;
        ship(&primary, &copy).await;
        assert_eq!(primary.verify_log().unwrap(), primary.position().txid);
        assert_eq!(copy.verify_log().unwrap(), copy.position().txid);
        same(&primary, &other.crashed().store.get(primary.id()).unwrap());
        same(&primary, &one.crashed().store.get(primary.id()).unwrap());
    }
}

/// A group of many small transactions over few pages is no large one.
#[tokio::test]
async fn many_frames_of_few_pages_stay_one_small_segment() {
    let (one, other) = (Node::with(small_limits()), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    sql(&primary, "CREATE TABLE t(x); INSERT INTO t VALUES (0)").await;
    let writes: Vec<_> = (0..150)
        .map(|_| {
            let primary = primary.clone();
            tokio::spawn(async move { sql(&primary, "UPDATE t SET x = x + 1").await })
        })
        .collect();
    for write in writes {
        write.await.unwrap();
    }
    assert_eq!(number(&primary, "SELECT x FROM t"), 150);
    assert_eq!(big_files(&log_of(&one)), Vec::<PathBuf>::new());
    checksum_holds(&primary);
    ship(&primary, &copy).await;
}

#[tokio::test]
async fn restore_and_branch_go_through_huge_transactions() {
    let (one, other) = (Node::with(small_limits()), Node::with(small_limits()));
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    sql(&primary, "CREATE TABLE other(x)").await;
    let full = fill(&primary).await;
    let checksum = primary.checksum().1;
    sql(&primary, "DELETE FROM t WHERE id > 10").await;
    let few = primary.vacuum().await.unwrap();
    one.store.restore(primary.id(), Target::Position(full)).await.unwrap();
    assert_eq!(primary.checksum().1, checksum);
    assert_eq!(number(&primary, "SELECT count(*) FROM t"), 150);
    ship(&primary, &copy).await;
    let branch =
        one.store.branch(primary.id(), &id("b"), Some(Target::Position(few))).await.unwrap();
    assert_eq!(number(&branch, "SELECT count(*) FROM t"), 10);
    branch.verify().await.unwrap();
    same(&primary, &one.crashed().store.get(primary.id()).unwrap());
}

#[tokio::test]
async fn what_is_not_a_huge_transaction_of_this_dataset_is_refused() {
    let (one, other) = (Node::with(small_limits()), Node::with(small_limits()));
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    sql(&primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
    ship(&primary, &copy).await;
    let before = primary.position();
    let at = fill(&primary).await;
    let record = record_after(&primary, before);
    let refused = copy.apply(vec![record.clone()]).await;
    assert!(
        matches!(&refused, Err(Error::Corrupt { why, .. }) if why.contains("file")),
        "{refused:?}"
    );

    let all = chunks(&primary, at);
    for byte in [0, 9, 30, 60, 500_000] {
        let mut receiving = copy.receive(&record).unwrap();
        let mut bytes = all.concat();
        bytes[byte] ^= 1;
        let pushed = receiving.push(&bytes);
        assert!(matches!(pushed, Err(Error::Corrupt { .. })), "byte {byte}: {pushed:?}");
    }
    let mut receiving = copy.receive(&record).unwrap();
    for chunk in &all[..all.len() - 1] {
        receiving.push(chunk).unwrap();
    }
    assert!(!receiving.is_whole());
    let half = copy.apply_large(receiving).await;
    assert!(matches!(half, Err(Error::Corrupt { .. })), "{half:?}");
    let mut receiving = receive(&primary, &copy, &record);
    assert!(matches!(receiving.push(b"more"), Err(Error::Corrupt { .. })));

    let mut bad = record.to_vec();
    bad[100] ^= 1;
    assert!(matches!(copy.receive(&bad.into()), Err(Error::Corrupt { .. })));
    let foreign = other.store.create_replica(&id("x"), CreateOptions::default()).unwrap();
    assert!(matches!(foreign.receive(&record), Err(Error::Corrupt { .. })));
    assert!(matches!(
        primary.apply_large(receive(&primary, &copy, &record)).await,
        Err(Error::NotReplica)
    ));

    // Nothing of it was left, and the real one is taken; also twice.
    drop(receiving);
    assert_eq!(big_files(&log_of(&other)), Vec::<PathBuf>::new());
    let (first, second) = (receive(&primary, &copy, &record), receive(&primary, &copy, &record));
    assert_eq!(copy.apply_large(first).await.unwrap(), at);
    assert_eq!(copy.apply_large(second).await.unwrap(), at);
    same(&primary, &copy);
    assert_eq!(big_files(&log_of(&other)).len(), 1);
    // In turn only.
    sql(&primary, "INSERT INTO t(x) VALUES (1)").await;
    let later = fill(&primary).await;
    let record = record_after(&primary, Position::new(1, later.txid - 1));
    let gap = copy.apply_large(receive(&primary, &copy, &record)).await;
    assert!(matches!(gap, Err(Error::Gap { .. })), "{gap:?}");
    ship(&primary, &copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_never_shows_half_of_it_and_keeps_its_readers_state() {
    let (one, other) = (Node::with(small_limits()), Node::with(small_limits()));
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    fill(&primary).await;
    ship(&primary, &copy).await;
    let before = primary.position();
    sql(&primary, "UPDATE t SET x = randomblob(20000)").await;
    let record = record_after(&primary, before);
    let receiving = receive(&primary, &copy, &record);
    let reader = copy.reader().unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let sum = || pages(&copy);
    let (old, seen) = (sum(), std::sync::atomic::AtomicU64::new(0));
    let look = || {
        let whole = sum();
        if whole != old {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        whole
    };
    let states = std::thread::scope(|scope| {
        let looking = scope.spawn(|| (0..30).map(|_| look()).collect::<Vec<_>>());
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(copy.apply_large(receiving))).unwrap();
        looking.join().unwrap()
    });
    let new = pages(&primary);
    assert!(states.iter().all(|state| *state == old || *state == new));
    assert_eq!(reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)), Ok(150));
    same(&primary, &copy);
}

/// A crash at any step leaves the old state or the new one, and no file that nobody names.
#[tokio::test]
async fn leftovers_of_a_crash_are_removed_and_a_missing_file_is_damage() {
    let node = Node::with(small_limits());
    let primary = create(&node, 4096);
    fill(&primary).await;
    let at = primary.checksum();
    let folder = tempfile::tempdir().unwrap();
    copy(node.folder.path(), folder.path());
    let log = folder.path().join("app+main/log");
    let big = big_files(&log).remove(0);
    // Written but not recorded, a stale epoch's, and one that was coming in.
    for name in ["0000000000000001-0000000000000002.big", "0000000000000000-0000000000000009.big"] {
        std::fs::write(log.join(name), "half").unwrap();
    }
    std::fs::write(log.join("0000000000000001-0000000000000002.big-0.receiving"), "half").unwrap();
    let store = open(folder.path(), small_limits());
    let dataset = store.get(primary.id()).unwrap();
    assert_eq!(dataset.checksum(), at);
    assert_eq!(big_files(&log), std::slice::from_ref(&big));
    fill(&dataset).await;
    let position = dataset.position();
    checksum_holds(&dataset);
    drop(dataset);
    store.close_all();

    // A record whose tail is torn: the file goes with it.
    let torn = tempfile::tempdir().unwrap();
    copy(node.folder.path(), torn.path());
    let log_file = std::fs::read_dir(torn.path().join("app+main/log")).unwrap();
    let log_file =
        log_file.map(|f| f.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "log"));
    let file = std::fs::OpenOptions::new().write(true).open(log_file.unwrap()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    let dataset = open(torn.path(), small_limits()).get(primary.id()).unwrap();
    assert_eq!(dataset.position(), Position::default());
    assert_eq!(big_files(&torn.path().join("app+main/log")), Vec::<PathBuf>::new());

    // History without its file is said to be damaged.
    std::fs::remove_file(&big).unwrap();
    let dataset = open(folder.path(), small_limits()).get(primary.id()).unwrap();
    assert_eq!(dataset.position(), position);
    assert!(matches!(dataset.verify_log(), Err(Error::Corrupt { .. })));
    let crashed = tempfile::tempdir().unwrap();
    copy(node.folder.path(), crashed.path());
    std::fs::remove_file(crashed.path().join("app+main/log").join(big.file_name().unwrap()))
        .unwrap();
    let opened = open(crashed.path(), small_limits()).get(primary.id()).map(|_| ());
    assert!(matches!(opened, Err(Error::Corrupt { .. })), "{opened:?}");
}

#[tokio::test]
async fn retention_counts_and_removes_huge_transactions() {
    let limits = Settings {
        max_log_bytes: 8 << 20,
        log_file_bytes: 1 << 20,
        checkpoint_bytes: 64 << 10,
        ..small_limits()
    };
    let node = Node::with(limits.clone());
    let primary = create(&node, 4096);
    let mut slow = None;
    for round in 0..16 {
        sql(&primary, "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, x); DELETE FROM t")
            .await;
        let before = primary.position();
        fill(&primary).await;
        if round == 0 {
            slow = Some((primary.subscribe(before).unwrap(), primary.position()));
        }
        primary.checkpoint().await.unwrap();
    }
    let bytes = |dir: &Path| -> u64 {
        std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum()
    };
    let kept = bytes(&log_of(&node));
    assert!(kept < 16 << 20, "{kept} bytes of about 50 MiB are left");
    let (mut slow, first) = slow.unwrap();
    assert!(matches!(primary.large_file(first), Err(Error::NeedSnapshot { .. })));
    let gone = std::iter::from_fn(|| slow.try_next().transpose()).find_map(Result::err);
    assert!(matches!(gone, Some(Error::NeedSnapshot { .. })), "{gone:?}");
    // Counted again when it is opened.
    node.store.close_all();
    let store = open(node.folder.path(), limits);
    let primary = store.get(primary.id()).unwrap();
    for _ in 0..8 {
        sql(&primary, "DELETE FROM t").await;
        fill(&primary).await;
        primary.checkpoint().await.unwrap();
    }
    assert!(bytes(&log_of(&node)) < 16 << 20);
    checksum_holds(&primary);
    same(&primary, &node.crashed().store.get(primary.id()).unwrap());
}

#[tokio::test]
async fn a_tail_with_a_huge_transaction_is_set_aside_whole() {
    let (one, other) = (Node::with(small_limits()), Node::with(small_limits()));
    let (a, b) = (create(&one, 4096), replica(&other, 4096));
    sql(&a, "CREATE TABLE other(x)").await;
    ship(&a, &b).await;
    let lost = fill(&a).await;
    b.promote(2).await.unwrap();
    fill(&b).await;
    a.demote(2).await.unwrap();
    // The other history does not follow ours.
    let record = record_after(&b, Position::new(1, 1));
    let diverged = a.apply_large(receive(&b, &a, &record)).await;
    assert!(matches!(diverged, Err(Error::Diverged { .. })), "{diverged:?}");
    let a = crate::copies::seed(&b, &one.store).await;
    same(&a, &b);
    let tails = a.set_aside_tails().unwrap();
    let mut tail = a.read_tail(&tails[0], Some(Position::new(1, 1))).unwrap();
    let (header, _) = tail.next_segment().unwrap().unwrap();
    assert!(header.position == lost && header.is_large());
    let mut file = tail.large_file(&header).unwrap();
    let size =
        std::iter::from_fn(|| file.next_chunk().unwrap()).map(|c| c.len() as u64).sum::<u64>();
    assert!(size == file.size() && size > 3_000_000);
}

/// The disk fails at each of the steps: the group is not acknowledged and leaves no trace.
#[tokio::test]
async fn a_huge_transaction_that_could_not_be_written_leaves_no_trace() {
    for (syncs, room) in [(1, 0), (0, 100_000), (0, 1_000_000)] {
        let (store, plan, folder) = faulty_with(small_limits());
        let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
        sql(&dataset, "CREATE TABLE t(id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (0, 0)")
            .await;
        let before = dataset.checksum();
        plan.fail_syncs.store(syncs, Ordering::SeqCst);
        plan.room.store(room, Ordering::SeqCst);
        let text = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 150) \
                    INSERT INTO t(x) SELECT randomblob(20000) FROM n";
        let error = dataset_error(try_sql(&dataset, text).await);
        assert!(matches!(error, Error::Failed(_)), "{error}");
        plan.room.store(0, Ordering::SeqCst);
        assert_eq!(dataset.checksum(), before);
        crate::faults::until_it_writes(&dataset, "INSERT INTO t VALUES (-1, 1)").await;
        assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 2);
        assert_eq!(big_files(&folder.path().join("d/log")), Vec::<PathBuf>::new());
        fill(&dataset).await;
        checksum_holds(&dataset);
        let copied = tempfile::tempdir().unwrap();
        copy(folder.path(), copied.path());
        same(&dataset, &open(copied.path(), settings()).get(&id("d")).unwrap());
    }
}

/// The record could not be made durable after its file was: the second sync.
#[tokio::test]
async fn a_record_that_was_not_durable_takes_its_file_along() {
    let (store, plan, folder) = faulty_with(small_limits());
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
    plan.hold_syncs.store(true, Ordering::SeqCst);
    plan.released.store(1, Ordering::SeqCst);
    let writing = tokio::spawn({
        let dataset = dataset.clone();
        async move {
            dataset_error(try_sql(&dataset, "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 150) INSERT INTO t(x) SELECT randomblob(20000) FROM n").await)
        }
    });
    while plan.held.load(Ordering::SeqCst) < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(big_files(&folder.path().join("d/log")).len(), 1);
    // As a crash would leave it: the record is not durable, or is.
    for whole in [true, false] {
        let crashed = tempfile::tempdir().unwrap();
        copy(folder.path(), crashed.path());
        if !whole {
            let log =
                std::fs::read_dir(crashed.path().join("d/log")).unwrap().map(|f| f.unwrap().path());
            let log = log.filter(|p| p.extension().is_some_and(|e| e == "log")).max().unwrap();
            let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
            file.set_len(file.metadata().unwrap().len() - 3).unwrap();
        }
        let dataset = open(crashed.path(), settings()).get(&id("d")).unwrap();
        assert_eq!(number(&dataset, "SELECT count(*) FROM t"), if whole { 150 } else { 0 });
        checksum_holds(&dataset);
    }
    plan.fail_syncs.store(1, Ordering::SeqCst);
    plan.hold_syncs.store(false, Ordering::SeqCst);
    assert!(matches!(writing.await.unwrap(), Error::Failed(_)));
    crate::faults::until_it_writes(&dataset, "INSERT INTO t VALUES (-1, 1)").await;
    assert_eq!(number(&dataset, "SELECT count(*) FROM t"), 1);
    assert_eq!(big_files(&folder.path().join("d/log")), Vec::<PathBuf>::new());
}

/// Logs from before there were large segments, and nodes with another limit.
#[tokio::test]
async fn limits_may_change_between_runs() {
    let folder = tempfile::tempdir().unwrap();
    let run = |large_bytes| {
        let settings = Settings { large_bytes, ..settings() };
        Store::open(StoreConfig { settings, ..StoreConfig::new(folder.path()) }).unwrap()
    };
    let store = run(1 << 30);
    let dataset = store.create(&id("d"), CreateOptions::default()).unwrap();
    fill(&dataset).await;
    for (n, limit) in [0, 64 << 10, 1 << 30, 0].into_iter().enumerate() {
        store.close_all();
        drop(run(1));
        let store = run(limit);
        let dataset = store.get(&id("d")).unwrap();
        assert_eq!(dataset.position().txid, n as u64 + 1);
        fill(&dataset).await;
        checksum_holds(&dataset);
        assert_eq!(dataset.verify_log().unwrap(), n as u64 + 2);
        drop(dataset);
        store.close_all();
    }
}
