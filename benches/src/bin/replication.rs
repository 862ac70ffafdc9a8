//! Two PoPs of one process over a loopback link: how long a committed write takes to be visible
//! at the replica under a steady rate, and how a replica that was away catches up. Prints one
//! JSON object.
//!
//! `replication [SECONDS] [RATE] [AWAY]`: seconds of load, writes a second, transactions that
//! the replica misses.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use verge_bench::resident;
use verge_fabric::{Fabric, FabricConfig, NodeId, Peer, Security, Seed};
use verge_node::{Node, NodeConfig, NodeDatabase};
use verge_services::sql::{Freshness, Home, Query, Value};
use verge_types::{DatasetId, Position};

type Error = Box<dyn std::error::Error + Send + Sync>;

const INSERT: &str = "INSERT INTO entry (text) VALUES (?1)";
/// Writers that keep up the rate.
const WRITERS: u64 = 8;
/// How often the replica is looked at.
const LOOK: Duration = Duration::from_micros(100);
const PATIENCE: Duration = Duration::from_secs(120);

fn peer(name: &str) -> Result<Peer, Error> {
    Ok(Peer { node: name.parse::<NodeId>()?, pop: name[..3].parse()? })
}

async fn start(folder: &Path, name: &str, first: Option<&Fabric>) -> Result<(Fabric, Node), Error> {
    let Peer { node, pop } = peer(name)?;
    let listen = ([127, 0, 0, 1], 0).into();
    let mut config =
        FabricConfig::new("bench".parse()?, node.clone(), pop.clone(), listen, Security::Loopback);
    if let Some(first) = first {
        let address = first.local_addr().to_string();
        config.seeds.push(Seed { address, peer: Some(first.peer()) });
    }
    let fabric = Fabric::start(config).await?;
    let mut config = NodeConfig::new(folder.join(name), node, pop);
    config.fabric = Some(fabric.clone());
    config.voters = vec![peer("iad-1")?, peer("fra-1")?];
    config.placement = Some("iad".parse()?);
    Ok((fabric, Node::start(config).await?))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let seconds = numbers.next().unwrap_or(Ok(10))?;
    let rate = numbers.next().unwrap_or(Ok(1000))?;
    let away = numbers.next().unwrap_or(Ok(100_000))?;
    let folder = std::env::temp_dir().join(format!("verge-replication-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let done = measure(&folder, seconds, rate, away).await;
    std::fs::remove_dir_all(&folder)?;
    println!("{}", done?);
    Ok(())
}

async fn measure(
    folder: &Path,
    seconds: u64,
    rate: u64,
    away: u64,
) -> Result<serde_json::Value, Error> {
    let (first, iad) = start(folder, "iad-1", None).await?;
    let (_, fra) = start(folder, "fra-1", Some(&first)).await?;
    let id: DatasetId = "bench/main".parse()?;
    let primary = iad.database(&id).await?;
    let create = "CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT NOT NULL)";
    write(&primary, Query::new(create, vec![])).await?;
    let replica = fra.database(&id).await?;
    let begun = resident()?;
    let lags = steady(&primary, &replica, Duration::from_secs(seconds), rate).await?;
    let held = resident()?;

    let rates = durable(&primary, 64, Duration::from_secs(3)).await?;

    drop(replica);
    fra.kill().await;
    fill(&primary, away).await?;
    let (_, fra) = start(folder, "fra-1", Some(&first)).await?;
    let back = Instant::now();
    let replica = fra.database(&id).await?;
    let target = primary.home().position();
    let mut reads = 0u64;
    let mut slowest = Duration::ZERO;
    while replica.home().position() < target {
        let asked = Instant::now();
        count(&replica).await?;
        slowest = slowest.max(asked.elapsed());
        reads += 1;
        if back.elapsed() > PATIENCE {
            return Err("the replica did not catch up".into());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let caught_up = back.elapsed();
    let same = count(&primary).await? == count(&replica).await?;
    let at = |share| lags.at(share);
    Ok(serde_json::json!({
        "seconds": seconds,
        "rate": rate,
        "writes": lags.count(),
        "visible_ms": { "p50": at(500), "p99": at(990), "p999": at(999), "max": at(1000) },
        "resident_mb": { "before": begun >> 20, "after": held >> 20 },
        "durable_writes_per_s": rates,
        "away": away,
        "caught_up_ms": caught_up.as_millis() as u64,
        "reads_meanwhile": reads,
        "slowest_read_ms": slowest.as_secs_f64() * 1000.0,
        "equal": same,
    }))
}

/// How many writes took how long, to 10 µs; in memory that does not grow with their number.
struct Lags(Vec<u64>);

impl Default for Lags {
    /// Up to ten seconds; what takes longer counts as that.
    fn default() -> Self {
        Self(vec![0; 1_000_000])
    }
}

impl Lags {
    fn add(&mut self, lag: Duration) {
        let index = usize::try_from(lag.as_micros() / 10).unwrap_or(usize::MAX);
        let last = self.0.len() - 1;
        self.0[index.min(last)] += 1;
    }

    fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What so many thousandths took at most, ms.
    fn at(&self, share: u64) -> Option<f64> {
        let rank = self.count().checked_sub(1)? * share / 1000;
        let mut passed = 0;
        let index = self.0.iter().position(|count| {
            passed += count;
            passed > rank
        })?;
        Some((index + 1) as f64 / 100.0)
    }
}

async fn write(database: &Arc<NodeDatabase>, query: Query) -> Result<Position, Error> {
    Ok(database.query(&Freshness::default(), query, None).await?.position)
}

fn insert(n: u64) -> Query {
    Query::new(INSERT, vec![Value::Text(format!("an entry of guest {n}"))])
}

/// From the commit's acknowledgement to its being readable at the replica, ms, sorted.
async fn steady(
    primary: &Arc<NodeDatabase>,
    replica: &Arc<NodeDatabase>,
    time: Duration,
    rate: u64,
) -> Result<Lags, Error> {
    let every = Duration::from_nanos(1_000_000_000 * WRITERS / rate.max(1));
    let end = Instant::now() + time;
    let (told, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (primary, told) = (primary.clone(), told.clone());
        writers.push(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            while Instant::now() < end {
                ticks.tick().await;
                let position = write(&primary, insert(writer)).await?;
                told.send((position, Instant::now()))?;
            }
            Ok::<_, Error>(())
        }));
    }
    drop(told);
    let mut waiting = std::collections::VecDeque::new();
    let mut lags = Lags::default();
    loop {
        loop {
            match acknowledged.try_recv() {
                Ok(next) => waiting.push_back(next),
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => break,
                Err(_) if waiting.is_empty() => {
                    for writer in writers {
                        writer.await??;
                    }
                    return Ok(lags);
                }
                Err(_) => break,
            }
        }
        let (position, now) = (replica.home().position(), Instant::now());
        waiting.retain(|(wanted, since)| {
            let visible = *wanted <= position;
            if visible {
                lags.add(now.saturating_duration_since(*since));
            }
            !visible
        });
        if waiting.front().is_some_and(|(_, since)| since.elapsed() > PATIENCE) {
            return Err("a write did not reach the replica".into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Durable single-row writes a second by so many clients.
async fn durable(primary: &Arc<NodeDatabase>, clients: u64, time: Duration) -> Result<u64, Error> {
    let begun = Instant::now();
    let end = begun + time;
    let clients: Vec<_> = (0..clients)
        .map(|client| {
            let primary = primary.clone();
            tokio::spawn(async move {
                let mut done = 0u64;
                while Instant::now() < end {
                    write(&primary, insert(client)).await?;
                    done += 1;
                }
                Ok::<_, Error>(done)
            })
        })
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.await??;
    }
    Ok((done as f64 / begun.elapsed().as_secs_f64()) as u64)
}

/// So many transactions, by as many clients as make large groups.
async fn fill(primary: &Arc<NodeDatabase>, count: u64) -> Result<(), Error> {
    const CLIENTS: u64 = 64;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let primary = primary.clone();
            let share = count / CLIENTS + u64::from(client < count % CLIENTS);
            tokio::spawn(async move {
                for _ in 0..share {
                    write(&primary, insert(client)).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for client in clients {
        client.await??;
    }
    Ok(())
}

async fn count(database: &Arc<NodeDatabase>) -> Result<Vec<Value>, Error> {
    let query = Query::new("SELECT max(id) FROM entry", vec![]);
    let freshness = Freshness { wait: Duration::ZERO, ..Freshness::default() };
    Ok(database.query(&freshness, query, None).await?.value.rows.values)
}
