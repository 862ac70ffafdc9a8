//! Fleets for tests: nodes of one process, with real sockets, shaped links and folders of their
//! own, which outlive their nodes.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use verge_fabric::{Fabric, FabricConfig, Links, Peer, Security, Seed, Timing as FabricTiming};
use verge_node::{FileRegister, Node, NodeConfig, NodeDatabase, Timing};
use verge_replicate::AckMode;
use verge_services::sql::{Freshness, Home, Query, SqlError, Value};
use verge_types::{DatasetId, Position};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn id(name: &str) -> DatasetId {
    name.parse().unwrap()
}

pub fn peer(name: &str) -> Peer {
    Peer { node: name.parse().unwrap(), pop: name[..3].parse().unwrap() }
}

/// What a fleet is made of.
pub struct World {
    folder: TempDir,
    pub links: Links,
    pub ack: AckMode,
    pub register: bool,
    pub settings: verge_dataset::Settings,
    pub idle_after: Duration,
    names: Vec<String>,
    fabrics: Vec<(String, Fabric)>,
}

impl World {
    /// Of nodes `iad-1`, `fra-1`, …; the first one's PoP is where datasets begin.
    pub fn new(names: &[&str]) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            links: Links::new(7),
            ack: AckMode::Local,
            register: true,
            settings: verge_dataset::Settings::default(),
            idle_after: Duration::from_secs(60),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            fabrics: Vec::new(),
        }
    }

    pub fn data(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a node, on what its folder holds.
    pub async fn start(&mut self, name: &str) -> Node {
        let Peer { node, pop } = peer(name);
        let listen = "127.0.0.1:0".parse().unwrap();
        let fleet = "test".parse().unwrap();
        let mut config =
            FabricConfig::new(fleet, node.clone(), pop.clone(), listen, Security::Loopback);
        config.links = Some(self.links.clone());
        config.timing = FabricTiming {
            heartbeat: Duration::from_millis(200),
            suspect_after: Duration::from_millis(1500),
            down_after: Duration::from_secs(3),
            backoff_max: Duration::from_millis(500),
            dial_grace: Duration::from_millis(300),
            ..FabricTiming::default()
        };
        self.fabrics.retain(|(other, _)| other != name);
        for (_, fabric) in &self.fabrics {
            let address = fabric.local_addr().to_string();
            config.seeds.push(Seed { address, peer: Some(fabric.peer()) });
        }
        let fabric = Fabric::start(config).await.unwrap();
        self.fabrics.push((name.to_owned(), fabric.clone()));
        let mut config = NodeConfig::new(self.data(name), node, pop);
        config.fabric = Some(fabric);
        config.voters = self.names.iter().map(|name| peer(name)).collect();
        config.placement = Some(peer(&self.names[0]).pop);
        config.ack = self.ack;
        config.settings = self.settings.clone();
        if self.register {
            let register = FileRegister::open(self.folder.path().join("leases")).unwrap();
            config.register = Some(Arc::new(register));
        }
        config.timing = Timing {
            lease_ttl: Duration::from_millis(2500),
            lease_margin: Duration::from_millis(300),
            lease_renew_every: Duration::from_millis(500),
            open_patience: PATIENCE,
            idle_after: self.idle_after,
            ..Timing::default()
        };
        config.control = true;
        Node::start(config).await.unwrap()
    }

    /// Starts all nodes, and waits until they are linked.
    pub async fn start_all(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for name in self.names.clone() {
            nodes.push(self.start(&name).await);
        }
        self.linked().await;
        nodes
    }

    /// Waits until all that run are linked.
    pub async fn linked(&self) {
        for (a, fabric) in &self.fabrics {
            for (b, other) in &self.fabrics {
                if a != b {
                    assert!(fabric.wait_linked(other.node(), PATIENCE).await, "{a} to {b}");
                }
            }
        }
    }

    /// A crash.
    pub async fn kill(&mut self, name: &str, node: Node) {
        node.kill().await;
        self.fabrics.retain(|(other, _)| other != name);
    }

    /// An end in good order.
    pub async fn stop(&mut self, name: &str, node: Node) {
        node.shutdown().await;
        for (other, fabric) in &self.fabrics {
            if other == name {
                fabric.shutdown(Duration::from_secs(1)).await;
            }
        }
        self.fabrics.retain(|(other, _)| other != name);
    }
}

/// Waits until something holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn exec(db: &NodeDatabase, text: &str) -> Result<Position, SqlError> {
    db.exec(None, text.to_owned(), None).await.map(|answer| answer.position)
}

/// Makes the table, and waits until the copy here has it.
pub async fn create(db: &NodeDatabase) {
    create_as(db, "CREATE TABLE t (v INTEGER)").await;
}

pub async fn create_as(db: &NodeDatabase, text: &str) {
    let position = exec(db, text).await.unwrap();
    assert!(db.home().wait_for(position, PATIENCE).await);
}

pub async fn insert(db: &NodeDatabase, value: i64) -> Result<Position, SqlError> {
    let query = Query::new("INSERT INTO t (v) VALUES (?)", vec![Value::Integer(value)]);
    db.query(&Freshness::default(), query, None).await.map(|answer| answer.position)
}

/// What the copy here has, by a read that must not leave it.
pub fn values(db: &NodeDatabase) -> Vec<i64> {
    numbers(db, "SELECT v FROM t ORDER BY v")
}

/// The same of any numbers.
pub fn numbers(db: &NodeDatabase, text: &str) -> Vec<i64> {
    let mut rows = verge_services::sql::Rows::default();
    let read = db.read(&Freshness::default(), text, &(), None, &mut rows);
    match read {
        Ok(verge_services::sql::Local::Done { .. }) => {}
        _ => return Vec::new(),
    }
    rows.values
        .iter()
        .map(|value| match value {
            Value::Integer(value) => *value,
            other => panic!("{other:?}"),
        })
        .collect()
}

/// All nodes stand at one position with one checksum, read from their pages.
pub async fn converged(nodes: &[&Node], id: &DatasetId) {
    until("all copies stand at one position", || async {
        let all: Vec<_> = nodes.iter().map(|node| node.status_of(id).ok()).collect();
        let at: Vec<_> = all.iter().flatten().map(|s| (s.epoch, s.txid)).collect();
        at.len() == nodes.len() && at.iter().all(|position| *position == at[0])
    })
    .await;
    let mut checksums = Vec::new();
    for node in nodes {
        let verified = node.verify_here(id).await.unwrap();
        assert!(verified.pages_agree, "{verified:?}");
        checksums.push((verified.epoch, verified.txid, verified.checksum));
    }
    assert!(checksums.iter().all(|c| *c == checksums[0]), "{checksums:?}");
}
