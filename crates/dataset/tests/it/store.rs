//! Many datasets, few of them open.

use verge_dataset::{CreateOptions, Error, Store, StoreConfig};

use crate::harness::*;

#[tokio::test]
async fn cold_datasets_are_closed_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        StoreConfig { max_open: 8, settings: settings(), ..StoreConfig::new(folder.path()) };
    let store = Store::open(config).unwrap();
    for n in 0..40 {
        let dataset = store.create(&id(&format!("t{n}/db")), CreateOptions::default()).unwrap();
        sql(&dataset, &format!("CREATE TABLE t(x); INSERT INTO t VALUES ({n})")).await;
    }
    let held = store.get(&id("t0/db")).unwrap();
    for n in 0..40 {
        let dataset = store.get(&id(&format!("t{n}/db"))).unwrap();
        assert_eq!(number(&dataset, "SELECT x FROM t"), n);
        checksum_holds(&dataset);
    }
    assert!(store.open_count() <= 9, "{}", store.open_count());
    assert_eq!(number(&held, "SELECT x FROM t"), 0, "one that is in use stays open");
    assert_eq!(store.list().unwrap().len(), 40);
}

#[tokio::test]
async fn datasets_are_found_made_once_and_deleted() {
    let node = Node::new();
    let name = id("app/main");
    assert!(matches!(node.store.get(&name), Err(Error::NotFound(_))));
    let dataset = create(&node, 4096);
    let again = node.store.create(&name, CreateOptions::default());
    assert!(matches!(again, Err(Error::Exists(_))));
    let odd = node.store.create(&id("odd"), CreateOptions { page_size: 5000 });
    assert!(matches!(odd, Err(Error::InvalidOption { .. })));
    // Parts of an id do not meet in one folder.
    node.store.create(&id("app"), CreateOptions::default()).unwrap();
    sql(&dataset, "CREATE TABLE t(x)").await;
    let reader = dataset.reader().unwrap();
    assert!(node.store.delete(&name).is_err());
    drop(reader);
    node.store.delete(&name).unwrap();
    assert!(matches!(node.store.get(&name), Err(Error::NotFound(_))));
    assert!(matches!(dataset.reader(), Err(Error::Closed)));
    assert_eq!(node.store.list().unwrap(), [id("app")]);
    create(&node, 4096);
}

#[tokio::test]
async fn idle_datasets_have_no_thread() {
    let settings =
        verge_dataset::Settings { writer_idle: std::time::Duration::from_millis(20), ..settings() };
    let node = Node::with(settings);
    let mut held = Vec::new();
    for n in 0..20 {
        let dataset = node.store.create(&id(&format!("d{n}")), CreateOptions::default()).unwrap();
        sql(&dataset, "CREATE TABLE t(x)").await;
        held.push(dataset);
    }
    let writers = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("dataset-writer")).count()
    };
    for _ in 0..200 {
        if writers() == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(writers(), 0);
    for dataset in &held {
        sql(dataset, "INSERT INTO t VALUES (1)").await;
    }
}
