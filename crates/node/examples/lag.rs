//! Measures what replication adds: from a commit's acknowledgement at the primary until it is
//! visible at a replica, at a steady rate of writes; and what a forwarded write takes beyond the
//! same write at the primary. Two nodes in one process, real sockets, real fsyncs, no link delay.
//!
//! `cargo run --release -p verge-node --example lag [writes a second] [seconds]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use verge_fabric::{Fabric, FabricConfig, Peer, Security, Seed};
use verge_node::{FileRegister, Node, NodeConfig, NodeDatabase};
use verge_services::sql::{Freshness, Home, Query, Rows, Value, ValueRef};
use verge_types::Position;

type AnyError = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let rate: u32 = arguments.next().map_or(Ok(1000), |text| text.parse())?;
    let seconds: u32 = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let peers = ["iad", "fra"].map(|pop| -> Result<Peer, AnyError> {
        Ok(Peer { node: format!("{pop}-1").parse()?, pop: pop.parse()? })
    });
    let peers: Vec<Peer> = peers.into_iter().collect::<Result<_, _>>()?;
    let mut nodes: Vec<(Node, Fabric)> = Vec::new();
    for peer in &peers {
        let listen = "127.0.0.1:0".parse()?;
        let (node, pop) = (peer.node.clone(), peer.pop.clone());
        let mut config = FabricConfig::new(
            "lag".parse()?,
            node.clone(),
            pop.clone(),
            listen,
            Security::Loopback,
        );
        for (_, other) in &nodes {
            let address = other.local_addr().to_string();
            config.seeds.push(Seed { address, peer: Some(other.peer()) });
        }
        let fabric = Fabric::start(config).await?;
        let mut config = NodeConfig::new(folder.path().join(node.as_str()), node, pop);
        config.fabric = Some(fabric.clone());
        config.voters = peers.clone();
        config.placement = Some(peers[0].pop.clone());
        config.register = Some(Arc::new(FileRegister::open(folder.path().join("leases"))?));
        nodes.push((Node::start(config).await?, fabric));
    }
    nodes[0].1.wait_linked(&peers[1].node, Duration::from_secs(10)).await;
    let id = "app/main".parse()?;
    let primary = nodes[0].0.database(&id).await?;
    let script = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)".to_owned();
    let made = primary.exec(None, script, None).await?.position;
    let replica = nodes[1].0.database(&id).await?;
    replica.home().wait_for(made, Duration::from_secs(10)).await;

    let visible = lag(&primary, &replica, rate, seconds).await?;
    report(&format!("visible at the replica after its acknowledgement, {rate} writes/s"), visible);
    let (local, forwarded) = forwarding(&primary, &replica, 2000).await?;
    report("a write at the primary", local);
    report("the same, forwarded", forwarded);
    report("a point read at the replica", point_reads(&replica, 50_000)?);
    println!("round trip by the fabric: {:?}", nodes[1].1.rtt(&peers[0].node));
    for (node, _) in &nodes {
        node.shutdown().await;
    }
    Ok(())
}

fn write(value: u32) -> Query {
    let text = Value::Text(format!("a row that says {value}"));
    Query::new("INSERT INTO t (v) VALUES (?)", vec![text])
}

/// Writes at a steady pace; a watcher at the replica notes when each position becomes visible.
async fn lag(
    primary: &Arc<NodeDatabase>,
    replica: &Arc<NodeDatabase>,
    rate: u32,
    seconds: u32,
) -> Result<Vec<Duration>, AnyError> {
    let (sender, mut acknowledged) = tokio::sync::mpsc::unbounded_channel::<(Position, Instant)>();
    let watcher = {
        let replica = replica.clone();
        tokio::spawn(async move {
            let mut lags = Vec::new();
            while let Some((position, at)) = acknowledged.recv().await {
                replica.home().wait_for(position, Duration::from_secs(30)).await;
                lags.push(at.elapsed());
            }
            lags
        })
    };
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut writes = tokio::task::JoinSet::new();
    for value in 0..rate * seconds {
        pace.tick().await;
        let (primary, sender) = (primary.clone(), sender.clone());
        writes.spawn(async move {
            if let Ok(answer) = primary.query(&Freshness::default(), write(value), None).await {
                let _ = sender.send((answer.position, Instant::now()));
            }
        });
    }
    writes.join_all().await;
    drop(sender);
    Ok(watcher.await?)
}

async fn forwarding(
    primary: &NodeDatabase,
    replica: &NodeDatabase,
    count: u32,
) -> Result<(Vec<Duration>, Vec<Duration>), AnyError> {
    let (mut local, mut forwarded) = (Vec::new(), Vec::new());
    for value in 0..count {
        for (database, times) in [(primary, &mut local), (replica, &mut forwarded)] {
            let began = Instant::now();
            database.query(&Freshness::default(), write(value), None).await?;
            times.push(began.elapsed());
        }
    }
    Ok((local, forwarded))
}

/// One row by its key, on this thread.
fn point_reads(replica: &NodeDatabase, count: u32) -> Result<Vec<Duration>, AnyError> {
    let mut times = Vec::new();
    for key in 0..count {
        let mut rows = Rows::default();
        let parameters = [ValueRef::Integer(i64::from(key % 1000 + 1))];
        let began = Instant::now();
        let text = "SELECT v FROM t WHERE id = ?";
        replica.read(&Freshness::default(), text, &parameters, None, &mut rows)?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times.get(times.len().saturating_sub(1) * part / 1000);
    println!("{what}: p50 {:?}, p99 {:?}, max {:?} of {}", at(500), at(990), at(1000), times.len());
}
