//! Snapshots, seeding, quarantine, restore and branches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use verge_dataset::{CreateOptions, Dataset, Error, Role, Settings, Store, Target};
use verge_types::Position;

use crate::faulty::{LATE, faulty_with};
use crate::harness::*;

/// Seeds `to` with what `from` is now.
pub async fn seed(from: &Dataset, to: &Store) -> std::sync::Arc<Dataset> {
    let mut snapshot = from.snapshot().await.unwrap();
    let mut seeding = to.seed(from.id()).unwrap();
    while let Some(chunk) = snapshot.next_chunk().unwrap() {
        seeding.push(&chunk).unwrap();
    }
    seeding.finish().unwrap()
}

#[tokio::test]
async fn a_snapshot_is_pinned_while_writes_and_checkpoints_go_on() {
    for page_size in [512, 65_536] {
        let (one, other) = (Node::new(), Node::new());
        let primary = create(&one, page_size);
        sql(&primary, "CREATE TABLE t(x); INSERT INTO t VALUES (zeroblob(300000))").await;
        let pinned = primary.checksum();
        let mut snapshot = primary.snapshot().await.unwrap();
        assert_eq!(snapshot.position(), pinned.0);
        let mut seeding = other.store.seed(primary.id()).unwrap();
        while let Some(chunk) = snapshot.next_chunk().unwrap() {
            seeding.push(&chunk).unwrap();
            sql(&primary, "INSERT INTO t VALUES (randomblob(1000))").await;
            primary.checkpoint().await.unwrap();
        }
        let copy = seeding.finish().unwrap();
        assert_eq!(copy.checksum(), pinned);
        checksum_holds(&copy);
        assert_eq!(copy.verify().await.unwrap(), pinned.0);
        assert_eq!(copy.role(), Role::Replica);
        drop(snapshot);
        ship(&primary, &copy).await;
        same(&primary, &other.crashed().store.get(primary.id()).unwrap());
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_leaves_the_old_replica() {
    let (one, other) = (Node::new(), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    sql(&primary, "CREATE TABLE t(x)").await;
    ship(&primary, &copy).await;
    sql(&primary, "INSERT INTO t VALUES (randomblob(3000000))").await;
    let mut snapshot = primary.snapshot().await.unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = snapshot.next_chunk().unwrap() {
        chunks.push(chunk);
    }
    assert!(chunks.len() > 3);
    for (which, at) in [(0, 9), (1, 30), (2, 5)] {
        let mut seeding = other.store.seed(primary.id()).unwrap();
        let mut refused = false;
        for (n, chunk) in chunks.iter().enumerate() {
            let mut chunk = chunk.to_vec();
            if n == which {
                chunk[at] ^= 1;
            }
            refused |= seeding.push(&chunk).is_err();
        }
        assert!(refused && seeding.finish().is_err());
    }
    let mut seeding = other.store.seed(primary.id()).unwrap();
    for chunk in &chunks[..chunks.len() - 1] {
        seeding.push(chunk).unwrap();
    }
    assert!(seeding.finish().is_err(), "it is not complete");
    drop(seeding);
    assert_eq!(number(&copy, "SELECT count(*) FROM t"), 0);
    ship(&primary, &copy).await;
}

#[tokio::test]
async fn a_diverged_tail_is_set_aside_listed_and_readable_after_seeding() {
    let (one, other) = (Node::new(), Node::new());
    let (a, b) = (create(&one, 4096), replica(&other, 4096));
    sql(&a, "CREATE TABLE t(x)").await;
    ship(&a, &b).await;
    sql(&a, "INSERT INTO t VALUES ('lost')").await;
    b.promote(2).await.unwrap();
    sql(&b, "INSERT INTO t VALUES ('kept')").await;
    sql(&b, "INSERT INTO t VALUES ('kept too')").await;
    a.demote(2).await.unwrap();
    a.quarantine().await.unwrap();
    assert_eq!(a.role(), Role::Quarantined);
    let old = a;
    let a = seed(&b, &one.store).await;
    assert!(matches!(old.reader(), Err(Error::Closed)));
    same(&a, &b);
    assert_eq!(a.role(), Role::Replica);
    let tails = a.set_aside_tails().unwrap();
    assert_eq!(tails.len(), 1);
    assert_eq!(tails[0].last, Position::new(1, 2));
    let mut tail = a.read_tail(&tails[0], Some(Position::new(1, 1))).unwrap();
    let (header, _) = tail.next_segment().unwrap().expect("the lost segment is there");
    assert_eq!(header.position, Position::new(1, 2));
    assert!(tail.next_segment().unwrap().is_none());
    // Seeding again keeps it.
    let a = seed(&b, &one.store).await;
    assert_eq!(a.set_aside_tails().unwrap().len(), 1);
    sql(&b, "INSERT INTO t VALUES (1)").await;
    ship(&b, &a).await;
}

#[tokio::test]
async fn any_position_and_time_can_be_restored_and_replicas_follow() {
    let (one, other) = (Node::new(), Node::new());
    let (primary, copy) = (create(&one, 4096), replica(&other, 4096));
    let name = primary.id().clone();
    let mut past = vec![];
    sql(&primary, "CREATE TABLE t(x)").await;
    for n in 0..10 {
        let position = sql(&primary, &format!("INSERT INTO t VALUES ({n})")).await;
        past.push((position, number(&primary, "SELECT count(*) FROM t"), primary.checksum().1));
    }
    sql(&primary, "DROP TABLE t; CREATE TABLE u AS SELECT randomblob(100000) AS x").await;
    assert_eq!(primary.verify_log().unwrap(), 12);
    for (position, count, checksum) in past.iter().rev() {
        let (oldest, found) = one.store.locate(&name, Target::Position(*position)).unwrap();
        assert_eq!((oldest.position.txid, found.position), (0, *position));
        let at = one.store.locate(&name, Target::Time(found.wall_ms)).unwrap().1;
        assert!(at.position >= *position && at.wall_ms == found.wall_ms);
        let now = one.store.restore(&name, Target::Position(*position)).await.unwrap();
        assert!(now > *position);
        assert_eq!(number(&primary, "SELECT count(*) FROM t"), *count);
        assert_eq!(primary.checksum().1, *checksum);
        ship(&primary, &copy).await;
    }
    sql(&primary, "INSERT INTO t VALUES (1)").await;
    checksum_holds(&primary);
    let now = one.store.restore(&name, Target::Time(u64::MAX)).await.unwrap();
    assert_eq!(now, primary.position());
    one.store.restore(&name, Target::Time(1)).await.unwrap();
    assert_eq!(number(&primary, "SELECT count(*) FROM sqlite_schema"), 0);
    let future = one.store.restore(&name, Target::Position(Position::new(9, 999))).await;
    assert!(matches!(future, Err(Error::NotRetained { .. })), "{future:?}");
    let future = one.store.locate(&name, Target::Position(Position::new(9, 999)));
    assert!(matches!(future, Err(Error::NotRetained { .. })), "{future:?}");
    ship(&primary, &copy).await;
    same(&primary, &one.crashed().store.get(&name).unwrap());
}

#[tokio::test]
async fn a_branch_goes_its_own_way() {
    let node = Node::new();
    let main = create(&node, 4096);
    sql(&main, "CREATE TABLE t(x)").await;
    let early = sql(&main, "INSERT INTO t VALUES (1)").await;
    sql(&main, "INSERT INTO t VALUES (2)").await;
    let branch = node.store.branch(main.id(), &id("app/preview"), None).await.unwrap();
    assert_eq!(branch.checksum(), main.checksum());
    assert!(matches!(branch.role(), Role::Primary { .. }));
    sql(&branch, "INSERT INTO t VALUES (100)").await;
    sql(&main, "INSERT INTO t VALUES (3)").await;
    let target = Some(Target::Position(early));
    let old = node.store.branch(main.id(), &id("app/old"), target).await.unwrap();
    assert_eq!(number(&old, "SELECT sum(x) FROM t"), 1);
    sql(&old, "INSERT INTO t VALUES (10)").await;
    // With a reader that keeps the -wal from the file.
    let reader = main.reader().unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM t").unwrap();
    sql(&main, "INSERT INTO t VALUES (4)").await;
    let pinned = node.store.branch(main.id(), &id("app/pinned"), None).await.unwrap();
    assert_eq!(number(&pinned, "SELECT sum(x) FROM t"), 10);
    let taken = node.store.branch(main.id(), &id("app/old"), None).await;
    assert!(matches!(taken, Err(Error::Exists(_))));
    drop(reader);
    assert_eq!(number(&main, "SELECT sum(x) FROM t"), 10);
    assert_eq!(number(&branch, "SELECT sum(x) FROM t"), 103);
    let again = node.crashed();
    for one in [&main, &branch, &old, &pinned] {
        checksum_holds(one);
        same(one, &again.store.get(one.id()).unwrap());
    }
}

#[tokio::test]
async fn retention_keeps_images_and_names_what_is_gone() {
    let settings = Settings {
        log_file_bytes: 32 << 10,
        max_log_bytes: 256 << 10,
        checkpoint_bytes: 32 << 10,
        compression: verge_dataset::Compression::None,
        ..settings()
    };
    let (node, other) = (Node::with(settings), Node::new());
    let primary = create(&node, 4096);
    sql(&primary, "CREATE TABLE t(id INTEGER PRIMARY KEY, x)").await;
    let mut sums = Vec::new();
    for n in 0..300 {
        let position = sql(&primary, &format!("INSERT INTO t(x) VALUES ({n})")).await;
        sums.push((position, primary.checksum().1));
    }
    assert!(matches!(primary.subscribe(Position::default()), Err(Error::NeedSnapshot { .. })));
    let first = node.store.restore(primary.id(), Target::Position(sums[0].0)).await;
    assert!(matches!(first, Err(Error::NotRetained { .. })), "{first:?}");
    let log = node.folder.path().join("app+main/log");
    let bytes: u64 =
        std::fs::read_dir(log).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 400 << 10, "{bytes}");
    let (position, checksum) = sums[295];
    let target = Some(Target::Position(position));
    let branch = node.store.branch(primary.id(), &id("b"), target).await.unwrap();
    assert_eq!(branch.checksum().1, checksum);
    same(&primary, &node.crashed().store.get(primary.id()).unwrap());
    let copy = seed(&primary, &other.store).await;
    sql(&primary, "INSERT INTO t(x) VALUES (1)").await;
    ship(&primary, &copy).await;
}

/// The position before the first kept segment is of the epoch that the segment names, not of the
/// one that the removed file began with.
#[tokio::test]
async fn a_log_that_was_trimmed_across_terms_verifies() {
    let settings = Settings {
        log_file_bytes: 16 << 10,
        max_log_bytes: 64 << 10,
        checkpoint_bytes: 16 << 10,
        compression: verge_dataset::Compression::None,
        ..settings()
    };
    let node = Node::with(settings);
    let primary = create(&node, 4096);
    sql(&primary, "CREATE TABLE t(x)").await;
    for n in 0..120 {
        // One term or another begins in the middle of each file.
        primary.promote(primary.epoch() + 1).await.unwrap();
        sql(&primary, &format!("INSERT INTO t VALUES ({n})")).await;
        let kept = primary.verify_log().unwrap();
        assert!(kept > 0 && kept <= n + 2);
    }
    assert!(primary.verify_log().unwrap() < 100, "nothing was trimmed");
}

#[tokio::test]
async fn a_crash_while_a_replica_is_replaced_loses_no_tail() {
    let (one, other) = (Node::new(), Node::new());
    let (a, b) = (create(&one, 4096), replica(&other, 4096));
    sql(&a, "CREATE TABLE t(x)").await;
    ship(&a, &b).await;
    sql(&a, "INSERT INTO t VALUES ('lost')").await;
    b.promote(2).await.unwrap();
    sql(&b, "INSERT INTO t VALUES ('kept')").await;
    a.quarantine().await.unwrap();
    one.store.close(a.id());
    other.store.close(b.id());
    // The new folder is whole, the old one still in its place; and a branch was being copied.
    let folder = tempfile::tempdir().unwrap();
    copy(one.folder.path(), folder.path());
    copy(&other.folder.path().join("app+main"), &folder.path().join("~app+main"));
    std::fs::write(folder.path().join("~branch-x"), "half").unwrap();
    std::fs::create_dir_all(folder.path().join("~half/log")).unwrap();
    let store = open(folder.path(), settings());
    let a = store.get(a.id()).unwrap();
    assert_eq!(text(&a, "SELECT x FROM t"), "kept");
    let tails = a.set_aside_tails().unwrap();
    let mut tail = a.read_tail(&tails[0], None).unwrap();
    assert!(tail.next_segment().unwrap().is_some() && tail.next_segment().unwrap().is_some());
    assert!(tail.next_segment().unwrap().is_none());
    assert_eq!(store.list().unwrap().len(), 1);
}

/// Its log is cut every few writes.
async fn forgetful() -> (Store, tempfile::TempDir, Arc<Dataset>) {
    let (store, _, folder) = faulty_with(Settings {
        log_file_bytes: 16 << 10,
        max_log_bytes: 64 << 10,
        checkpoint_bytes: 16 << 10,
        compression: verge_dataset::Compression::None,
        ..Settings::default()
    });
    let dataset = store.create(&id("app/main"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x)").await;
    for _ in 0..60 {
        sql(&dataset, "INSERT INTO t VALUES (zeroblob(2000))").await;
    }
    (store, folder, dataset)
}

#[tokio::test]
async fn what_retention_takes_away_meanwhile_is_looked_for_again() {
    let (store, _folder, dataset) = forgetful().await;
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (dataset, done) = (dataset.clone(), done.clone());
        async move {
            while !done.load(Relaxed) {
                sql(&dataset, "INSERT INTO t VALUES (zeroblob(2000))").await;
            }
        }
    });
    let runtime = tokio::runtime::Handle::current();
    let looking = tokio::task::spawn_blocking(move || {
        let latest = Target::Time(u64::MAX);
        let branch =
            |name, target| runtime.block_on(store.branch(dataset.id(), &id(name), Some(target)));
        let old = Target::Position(store.locate(dataset.id(), latest).unwrap().0.position);
        LATE.set(true);
        let (oldest, found) = store.locate(dataset.id(), latest).unwrap();
        assert!(!LATE.get() && oldest.position < found.position);
        LATE.set(true);
        let made = branch("app/made", latest).unwrap();
        assert!(!LATE.get() && made.position() >= found.position);
        // What was there when the search began is gone for good.
        assert!(matches!(branch("app/gone", old), Err(Error::NotRetained { .. })));
        let gone = store.locate(dataset.id(), old);
        assert!(matches!(gone, Err(Error::NotRetained { .. })), "{gone:?}");
    });
    let looked = looking.await;
    done.store(true, Relaxed);
    writer.await.unwrap();
    looked.unwrap();
}

#[tokio::test]
async fn a_missing_file_is_damage_and_not_looked_for_forever() {
    let (store, folder, dataset) = forgetful().await;
    let oldest = store.locate(dataset.id(), Target::Time(u64::MAX)).unwrap().0.position;
    let files = |name: &str, extension: &str| -> Vec<_> {
        let folder = std::fs::read_dir(folder.path().join("app+main").join(name)).unwrap();
        let paths = folder.map(|file| file.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
    };
    let images = files("snapshots", "db");
    assert!(!images.is_empty());
    images.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let made = store.branch(dataset.id(), &id("app/b"), Some(Target::Position(oldest))).await;
    assert!(matches!(made, Err(Error::Corrupt { .. })));
    files("log", "log").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let found = store.locate(dataset.id(), Target::Time(u64::MAX));
    assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
}
