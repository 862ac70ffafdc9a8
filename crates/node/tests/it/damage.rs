//! Files that somebody or something has damaged: told, set aside, and seeded again; nothing that
//! was acknowledged is lost.

use std::path::{Path, PathBuf};

use verge_dataset::{CreateOptions, Store, StoreConfig};
use verge_node::Node;
use verge_replicate::AckMode;
use verge_types::DatasetId;

use crate::world::{World, converged, create, id, insert, until, values};

/// The dataset's folder on a node.
fn folder(world: &World, node: &str) -> PathBuf {
    world.data(node).join("datasets/app+main")
}

fn first_log(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder.join("log")).unwrap();
    files.map(|file| file.unwrap().path()).min().unwrap()
}

fn kept(world: &World, node: &str) -> usize {
    let names = std::fs::read_dir(world.data(node).join("datasets")).unwrap();
    let names = names.map(|name| name.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("!damaged-")).count()
}

/// A fleet of three with writes acknowledged by a quorum; small log files, so that there are some.
async fn fleet() -> (World, Vec<Node>, DatasetId) {
    let mut world = World::new(&["iad-1", "fra-1", "nrt-1"]);
    world.ack = AckMode::Quorum;
    let nodes = world.start_all().await;
    let app = id("app/main");
    let iad = nodes[0].database(&app).await.unwrap();
    create(&iad).await;
    for node in &nodes[1..] {
        node.database(&app).await.unwrap();
    }
    for v in 0..20 {
        insert(&iad, v).await.unwrap();
    }
    let refs: Vec<_> = nodes.iter().collect();
    converged(&refs, &app).await;
    (world, nodes, app)
}

/// Damages what a node of the fleet has while it is down, and sees it come back whole.
async fn comes_back(at: usize, damage: impl Fn(&Path)) {
    let names = ["iad-1", "fra-1", "nrt-1"];
    let (mut world, mut nodes, app) = fleet().await;
    let node = nodes.remove(at);
    world.kill(names[at], node).await;
    damage(&folder(&world, names[at]));
    let other = nodes[1].database(&app).await.unwrap();
    until("writes go on", || async { insert(&other, 100).await.is_ok() }).await;
    let node = world.start(names[at]).await;
    let db = node.existing(&app).await.unwrap();
    until("it is seeded again", || async { values(&db).contains(&100) }).await;
    nodes.push(node);
    let refs: Vec<_> = nodes.iter().collect();
    converged(&refs, &app).await;
    let mut found = values(&db);
    found.dedup();
    assert_eq!(found, (0..20).chain([100]).collect::<Vec<_>>(), "nothing acknowledged is lost");
    assert_eq!(kept(&world, names[at]), 1, "the damaged files are kept for somebody to look at");
    for node in &nodes {
        node.shutdown().await;
    }
}

fn flip(path: &Path, at: impl Fn(usize) -> usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_corrupt_segment_is_seeded_again() {
    comes_back(1, |folder| flip(&first_log(folder), |len| len / 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_with_a_corrupt_segment_follows_another_and_loses_nothing() {
    comes_back(0, |folder| flip(&first_log(folder), |len| len / 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_its_log_or_its_state_is_seeded_again() {
    comes_back(2, |folder| {
        std::fs::remove_file(first_log(folder)).unwrap();
        std::fs::remove_file(folder.join("state")).unwrap();
    })
    .await;
}

/// A tail of the log that is gone cannot be told from one that was never written: the copy stands
/// where its log ends, and catches up.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_truncated_log_catches_up() {
    let (mut world, mut nodes, app) = fleet().await;
    let node = nodes.remove(1);
    world.kill("fra-1", node).await;
    let log = first_log(&folder(&world, "fra-1"));
    let len = std::fs::metadata(&log).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(len - 100).unwrap();
    let node = world.start("fra-1").await;
    node.existing(&app).await.unwrap();
    converged(&[&node, &nodes[0], &nodes[1]], &app).await;
    nodes.push(node);
    for node in &nodes {
        node.shutdown().await;
    }
}

/// A new copy has the default page size; the database has another.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_wrong_page_size_is_seeded_again() {
    let mut world = World::new(&["iad-1", "fra-1"]);
    let app = id("app/main");
    {
        let dir = world.data("iad-1").join("datasets");
        std::fs::create_dir_all(&dir).unwrap();
        let store = Store::open(StoreConfig::new(dir)).unwrap();
        let made = store.create(&app, CreateOptions { page_size: 65_536 }).unwrap();
        made.write(|db| db.execute_batch("CREATE TABLE t (v INTEGER)")).await.unwrap();
        drop(made);
        store.close_all();
    }
    let nodes = world.start_all().await;
    let iad = nodes[0].database(&app).await.unwrap();
    until("iad leads", || async { insert(&iad, 1).await.is_ok() }).await;
    let fra = nodes[1].database(&app).await.unwrap();
    until("fra has it", || async { values(&fra) == [1] }).await;
    insert(&fra, 2).await.unwrap();
    converged(&[&nodes[0], &nodes[1]], &app).await;
    for node in &nodes {
        node.shutdown().await;
    }
}

/// Without others there is nobody to seed it: the error says what is wrong, and the files stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_says_that_its_data_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let start = async || {
        let (node, pop) = ("iad-1".parse().unwrap(), "iad".parse().unwrap());
        Node::start(verge_node::NodeConfig::new(folder.path(), node, pop)).await.unwrap()
    };
    let app = id("app/main");
    let node = start().await;
    let db = node.database(&app).await.unwrap();
    create(&db).await;
    for v in 0..5 {
        insert(&db, v).await.unwrap();
    }
    drop(db);
    node.kill().await;
    let dataset = folder.path().join("datasets/app+main");
    flip(&first_log(&dataset), |_| 30);
    let node = start().await;
    let error = node.database(&app).await.err().unwrap();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(dataset.join("db").exists());
    node.shutdown().await;
}
