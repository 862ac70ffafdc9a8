//! A database at two PoPs: a primary and a replica that is fed by hand.

use std::sync::Arc;
use std::time::Duration;

use verge_dataset::{CreateOptions, Dataset, Store, StoreConfig, Subscription};
use verge_services::sql::{
    Database, DatasetHome, ErrorKind, Forward, Freshness, Local, Node, Policy, Query, Rows,
    Session, SqlError, Value, migrate,
};
use verge_types::{BoxFuture, DatasetId, Position};

type Db = Database<DatasetHome>;

struct ToPrimary(Arc<Db>);

impl Forward for ToPrimary {
    fn forward(&self, _: &DatasetId, request: Vec<u8>) -> BoxFuture<Result<Vec<u8>, SqlError>> {
        let primary = self.0.clone();
        Box::pin(async move { Ok(primary.serve(&request, None).await) })
    }
}

struct World {
    primary: Arc<Db>,
    replica: Arc<Db>,
    copy: Arc<Dataset>,
    feed: Subscription,
    _stores: (Store, Store),
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let id: DatasetId = "app/main".parse().unwrap();
        let store = |name| Store::open(StoreConfig::new(folder.path().join(name))).unwrap();
        let (here, there) = (store("iad"), store("fra"));
        let dataset = here.create(&id, CreateOptions::default()).unwrap();
        let copy = there.create_replica(&id, CreateOptions::default()).unwrap();
        let feed = dataset.subscribe(Position::default()).unwrap();
        let node = |name: &str| Node { served_by: name.into(), region: format!("R-{name}") };
        let home = DatasetHome::new(dataset, None);
        let primary = Arc::new(Database::new(home, None, node("iad"), Policy::default()));
        let forward: Arc<dyn Forward> = Arc::new(ToPrimary(primary.clone()));
        let home = DatasetHome::new(copy.clone(), None);
        let replica = Arc::new(Database::new(home, Some(forward), node("fra"), Policy::default()));
        Self { primary, replica, copy, feed, _stores: (here, there), _folder: folder }
    }

    async fn ship(&mut self) {
        while let Some((_, segment)) = self.feed.try_next().unwrap() {
            self.copy.apply(vec![segment]).await.unwrap();
        }
    }
}

fn q(sql: &str) -> Query {
    Query::new(sql, vec![])
}

fn count(db: &Db, freshness: &Freshness) -> Option<i64> {
    let mut rows = Rows::default();
    match db.read(freshness, "SELECT count(*) FROM t", &(), None, &mut rows).ok()? {
        Local::Done { .. } => match rows.values[..] {
            [Value::Integer(count)] => Some(count),
            _ => None,
        },
        _ => None,
    }
}

/// The one number that a single read here gives.
fn number(db: &Db, sql: &str) -> Value {
    let mut rows = Rows::default();
    let local = db.read(&Freshness::default(), sql, &(), None, &mut rows).unwrap();
    assert!(matches!(local, Local::Done { .. }), "{sql}: {local:?}");
    rows.values.pop().unwrap_or(Value::Null)
}

#[tokio::test]
async fn pragmas_do_not_outlive_a_read_that_shares_a_transaction() {
    let world = World::new();
    let reads = ["PRAGMA case_sensitive_like = on", "SELECT 'a' LIKE 'A'", "PRAGMA foreign_keys"];
    for _ in 0..4 {
        let [_, like, foreign_keys] = reads.map(|sql| number(&world.primary, sql));
        assert_eq!([like, foreign_keys], [Value::Integer(1), Value::Integer(1)]);
    }
}

#[tokio::test]
async fn reads_are_local_and_writes_go_to_the_primary() {
    let mut world = World::new();
    let any = Freshness::default();
    let made = world.replica.query(&any, q("CREATE TABLE t (a)"), None).await.unwrap();
    assert!(made.served_by_primary);
    assert_eq!((&*made.node.served_by, &*made.node.region), ("iad", "R-iad"));
    world.ship().await;
    assert_eq!(count(&world.replica, &any), Some(0));
    let insert = Query::new("INSERT INTO t VALUES (?)", vec![Value::Integer(5)]);
    let answer = world.replica.query(&any, insert, None).await.unwrap();
    assert_eq!(answer.value.stats.changes, 1);
    // Not here yet: an unconstrained read is stale, a session's is not.
    assert_eq!(count(&world.replica, &any), Some(0));
    let fresh = Freshness { at_least: Some(answer.position), ..any };
    assert_eq!(count(&world.replica, &fresh), None);
    let read = world.replica.query(&fresh, q("SELECT count(*) FROM t"), None).await.unwrap();
    assert_eq!(read.value.rows.values, [Value::Integer(1)]);
    assert!(read.served_by_primary);
    world.ship().await;
    assert_eq!(count(&world.replica, &fresh), Some(1));
    let read = world.replica.query(&fresh, q("SELECT a FROM t"), None).await.unwrap();
    assert_eq!((read.served_by_primary, &*read.node.served_by), (false, "fra"));
    let strong = Freshness { strong: true, ..any };
    assert!(world.replica.query(&strong, q("SELECT 1"), None).await.unwrap().served_by_primary);
    // How old it is, this replica does not know.
    let bounded = Freshness { max_staleness: Some(Duration::from_secs(1)), ..any };
    assert_eq!(count(&world.replica, &bounded), None);
    assert_eq!(count(&world.primary, &bounded), Some(1));
}

#[tokio::test]
async fn a_read_waits_for_its_replica() {
    let mut world = World::new();
    let any = Freshness::default();
    let made = world.primary.query(&any, q("CREATE TABLE t (a)"), None).await.unwrap();
    let fresh = Freshness { at_least: Some(made.position), wait: Duration::from_secs(30), ..any };
    let replica = Database::new(
        DatasetHome::new(world.copy.clone(), None),
        None,
        Node { served_by: "fra".into(), region: String::new() },
        Policy::default(),
    );
    let read = tokio::spawn(async move {
        replica.query(&fresh, q("SELECT count(*) FROM t"), None).await.map(|a| a.served_by_primary)
    });
    tokio::task::yield_now().await;
    world.ship().await;
    assert!(!read.await.unwrap().unwrap());
}

#[tokio::test]
async fn batches_and_errors_travel() {
    let mut world = World::new();
    let any = Freshness::default();
    let batch = vec![
        q("CREATE TABLE t (a UNIQUE)"),
        q("INSERT INTO t VALUES (1), (2)"),
        q("SELECT a FROM t ORDER BY a"),
    ];
    let answer = world.replica.batch(&any, batch, None).await.unwrap();
    assert_eq!(answer.value[2].rows.values, [Value::Integer(1), Value::Integer(2)]);
    let bad = vec![q("INSERT INTO t VALUES (3)"), q("INSERT INTO t VALUES (1)")];
    let away = world.replica.batch(&any, bad.clone(), None).await.unwrap_err();
    let here = world.primary.batch(&any, bad, None).await.unwrap_err();
    assert_eq!(away, here);
    assert!(away.to_string().starts_with("D1_ERROR: UNIQUE constraint failed: t.a"));
    assert_eq!(count(&world.primary, &any), Some(2));
    world.ship().await;
    let reads = vec![q("SELECT count(*) FROM t"), q("SELECT 1")];
    assert!(!world.replica.batch(&any, reads, None).await.unwrap().served_by_primary);
    let done = world.replica.exec(None, "INSERT INTO t VALUES (7);\nSELECT 1".into(), None).await;
    assert_eq!(done.unwrap().value.count, 2);
    let error = world.replica.exec(None, "SELEKT".into(), None).await.unwrap_err();
    assert!(error.to_string().starts_with("D1_EXEC_ERROR: Error in line 1: SELEKT: near"));
}

#[tokio::test]
async fn transactions_are_held_at_the_primary() {
    let world = World::new();
    let any = Freshness::default();
    world.primary.query(&any, q("CREATE TABLE t (a UNIQUE)"), None).await.unwrap();
    for db in [&world.primary, &world.replica] {
        let before = count(&world.primary, &any).unwrap();
        let mut tx = db.begin(None, Duration::from_secs(20)).await.unwrap();
        let insert = || vec![q("INSERT INTO t SELECT ifnull(max(a), 0) + 1 FROM t")];
        tx.run(insert(), None).await.unwrap();
        // A statement that fails leaves it open.
        tx.run(vec![q("INSERT INTO t SELECT a FROM t")], None).await.unwrap_err();
        let seen = tx.run(vec![q("SELECT count(*) FROM t")], None).await.unwrap();
        assert_eq!(seen.value[0].rows.values, [Value::Integer(before + 1)]);
        assert_eq!(count(&world.primary, &any), Some(before));
        assert!(tx.commit().await.unwrap() > Position::default());
        assert_eq!(count(&world.primary, &any), Some(before + 1));
        let mut tx = db.begin(None, Duration::from_secs(20)).await.unwrap();
        tx.run(insert(), None).await.unwrap();
        let refused = tx.run(vec![q("COMMIT")], None).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Refused);
        tx.rollback().await.unwrap();
        assert_eq!(count(&world.primary, &any), Some(before + 1));
    }
    // One whose time is up is over.
    let mut tx = world.replica.begin(None, Duration::from_millis(1)).await;
    if let Ok(tx) = &mut tx {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let error = tx.run(vec![q("SELECT 1")], None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Deadline);
    }
}

#[tokio::test]
async fn a_script_and_a_transaction_are_refused_where_what_was_seen_is_not() {
    let world = World::new();
    let any = Freshness::default();
    let made = world.primary.query(&any, q("CREATE TABLE t (a)"), None).await.unwrap().position;
    let later = Some(Position::new(made.epoch, made.txid + 5));
    for db in [&world.primary, &world.replica] {
        let script = "INSERT INTO t VALUES (1)";
        let error = db.exec(later, script.into(), None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        let error = db.begin(later, Duration::from_secs(20)).await.map(drop).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert_eq!(count(&world.primary, &any), Some(0));
        // What it has seen is there, and the writer is free.
        db.begin(Some(made), Duration::from_secs(20)).await.unwrap().rollback().await.unwrap();
        db.exec(Some(made), "DELETE FROM t".into(), None).await.unwrap();
    }
}

/// The replica would have to wait for what the primary has.
#[tokio::test]
async fn a_write_does_not_wait_for_the_replica() {
    let mut world = World::new();
    let any = Freshness::default();
    world.primary.query(&any, q("CREATE TABLE t (a)"), None).await.unwrap();
    world.ship().await;
    let insert = q("INSERT INTO t VALUES (0)");
    let seen = world.primary.query(&any, insert, None).await.unwrap().position;
    let patient =
        Freshness { at_least: Some(seen), wait: Duration::from_secs(3600), ..Freshness::default() };
    let insert = world.replica.query(&patient, q("INSERT INTO t VALUES (1)"), None);
    let wrote = tokio::time::timeout(Duration::from_secs(60), insert).await.expect("at once");
    assert!(wrote.unwrap().position > seen);
}

#[tokio::test]
async fn sessions_speak_d1() {
    let world = World::new();
    let wait = Duration::ZERO;
    let db = &world.primary;
    let mut session = Session::new(db, "first-primary", wait).unwrap();
    assert!(session.freshness().strong && session.bookmark(db).is_none());
    let answer = db.query(&session.freshness(), q("CREATE TABLE t (a)"), None).await.unwrap();
    session.saw(answer.position);
    session.saw(Position::default());
    let bookmark = session.bookmark(db).unwrap();
    assert_eq!(bookmark.position, answer.position);
    assert!(!session.freshness().strong);
    let next = Session::new(db, &bookmark.to_string(), wait).unwrap();
    assert_eq!(next.freshness().at_least, Some(answer.position));
    assert!(Session::new(db, " ", wait).unwrap().bookmark(db).is_none());
    for bad in ["first-second", "00000001-0000000000000001-00000000", "x"] {
        let error = Session::new(db, bad, wait).unwrap_err();
        assert_eq!(error.to_string(), "D1_SESSION_ERROR: invalid bookmark or constraint");
    }
    // A bookmark from beyond the primary's history is not served as if it were there.
    let future = Freshness { at_least: Some(Position::new(9, 9)), ..Freshness::default() };
    for db in [&*world.primary, &world.replica] {
        let error = db.query(&future, q("SELECT 1"), None).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_vacuum_of_the_platform_still_works() {
    let mut world = World::new();
    let any = Freshness::default();
    world
        .primary
        .exec(None, "CREATE TABLE t (a); INSERT INTO t VALUES (1)".into(), None)
        .await
        .unwrap();
    world.primary.home().dataset().vacuum().await.unwrap();
    world.ship().await;
    assert_eq!(count(&world.replica, &any), Some(1));
    let dumped = world.replica.dump(1 << 20).unwrap();
    assert!(dumped.starts_with(b"SQLite format 3\0"));
    let file = |name: &str, sql: &str| migrate::Migration { name: name.into(), sql: sql.into() };
    let files =
        vec![file("0002.sql", "INSERT INTO m VALUES (1)"), file("0001.sql", "CREATE TABLE m (a)")];
    let done = world.primary.migrate(files.clone()).await.unwrap();
    assert_eq!(done.value, ["0001.sql", "0002.sql"]);
    assert!(world.primary.migrate(files).await.unwrap().value.is_empty());
}

/// A forwarded write that nobody answered is in doubt; a forwarded read changed nothing.
#[tokio::test]
async fn only_a_write_without_an_answer_is_in_doubt() {
    struct Silent;
    impl Forward for Silent {
        fn forward(&self, _: &DatasetId, _: Vec<u8>) -> BoxFuture<Result<Vec<u8>, SqlError>> {
            Box::pin(async { Err(SqlError::outcome_unknown("the link broke")) })
        }
    }
    let mut world = World::new();
    let any = Freshness::default();
    world.primary.query(&any, q("CREATE TABLE t (a)"), None).await.unwrap();
    world.ship().await;
    let home = DatasetHome::new(world.copy.clone(), None);
    let there = Node { served_by: "fra".into(), region: String::new() };
    let replica = Database::new(home, Some(Arc::new(Silent)), there, Policy::default());
    let strong = Freshness { strong: true, ..any };
    let read = replica.query(&strong, q("SELECT count(*) FROM t"), None).await.unwrap_err();
    assert!(read.retryable(), "{read}");
    // Nor does one of a table that has not come here yet.
    let blind = replica.query(&strong, q("SELECT count(*) FROM later"), None).await.unwrap_err();
    assert!(blind.retryable(), "{blind}");
    let write = replica.query(&any, q("INSERT INTO t VALUES (1)"), None).await.unwrap_err();
    assert_eq!((write.kind, write.retryable()), (ErrorKind::OutcomeUnknown, false), "{write}");
}
