//! Measures the engine on this machine's disk: durable writes by 64 clients, point reads, a
//! replica's apply rate, and what cold datasets cost.
//!
//! `cargo run --release -p verge-dataset --example measure [FOLDER]`

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use verge_dataset::{Compression, CreateOptions, Dataset, Settings, Store, StoreConfig, rusqlite};
use verge_types::{DatasetId, Position};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CLIENTS: usize = 64;
const RUN: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> Outcome<()> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("measure-{}", std::process::id()));
    let outcome = measure(&dir).await;
    let _ = std::fs::remove_dir_all(&dir);
    outcome
}

async fn measure(dir: &std::path::Path) -> Outcome<()> {
    for compression in [Compression::None, Compression::Zstd(1)] {
        let settings = Settings { compression, ..Settings::default() };
        let config =
            StoreConfig { settings, ..StoreConfig::new(dir.join(format!("{compression:?}"))) };
        let store = Store::open(config)?;
        let id: DatasetId = "app/main".parse()?;
        let primary = store.create(&id, CreateOptions::default())?;
        println!("{compression:?}");
        writes(&primary).await?;
        reads(&primary)?;
        let copies = Store::open(StoreConfig::new(dir.join(format!("{compression:?}-copy"))))?;
        let copy = copies.create_replica(&id, CreateOptions::default())?;
        apply(&primary, &copy).await?;
        store.close_all();
        copies.close_all();
    }
    cold(&dir.join("cold"))
}

async fn writes(dataset: &Arc<Dataset>) -> Outcome<()> {
    dataset
        .write(|db| {
            db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, at INTEGER)")
        })
        .await?;
    let (from, began) = (dataset.position(), Instant::now());
    let mut clients = Vec::new();
    let next = Arc::new(AtomicI64::new(0));
    for _ in 0..CLIENTS {
        let (dataset, next) = (dataset.clone(), next.clone());
        clients.push(tokio::spawn(async move {
            let mut waits = Vec::new();
            while began.elapsed() < RUN {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let asked = Instant::now();
                let written = dataset.write(move |db| {
                    let mut insert = db.prepare_cached("INSERT INTO t VALUES (?1, ?2, ?3)")?;
                    insert.execute((n, "a name of some length", n * 3))
                });
                written.await.map_err(|error| error.to_string())?;
                waits.push(asked.elapsed());
            }
            Ok::<_, String>(waits)
        }));
    }
    let mut waits = Vec::new();
    for client in clients {
        waits.extend(client.await??);
    }
    let took = began.elapsed();
    waits.sort();
    println!(
        "  durable single-row writes, {CLIENTS} clients: {:.0}/s, p50 {:?}, p99 {:?}, {:.1} a sync",
        waits.len() as f64 / took.as_secs_f64(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        waits.len() as f64 / (dataset.position().txid - from.txid) as f64,
    );
    Ok(())
}

fn reads(dataset: &Dataset) -> Outcome<()> {
    let point = |db: &rusqlite::Connection, n: i64| -> rusqlite::Result<i64> {
        let mut get = db.prepare_cached("SELECT name, at FROM t WHERE id = ?1")?;
        get.query_row([n], |row| Ok(row.get_ref(0)?.as_str()?.len() as i64 + row.get::<_, i64>(1)?))
    };
    let rows: i64 = dataset.reader()?.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?;
    let count = 200_000;
    for round in ["first", "warm"] {
        let began = Instant::now();
        let mut sum = 0;
        for n in 0..count {
            sum += point(&*dataset.reader()?, n * 7919 % rows)?;
        }
        let each = began.elapsed() / u32::try_from(count)?;
        println!("  point read, reader checked out each time ({round}): {each:?} ({sum})");
    }
    let reader = dataset.reader()?;
    let began = Instant::now();
    for n in 0..count {
        point(&reader, n * 7919 % rows)?;
    }
    println!("  point read, one reader: {:?}", began.elapsed() / u32::try_from(count)?);
    Ok(())
}

async fn apply(primary: &Dataset, copy: &Dataset) -> Outcome<()> {
    let mut log = primary.subscribe(Position::default())?;
    let (mut segments, mut bytes) = (Vec::new(), 0);
    while let Some((_, segment)) = log.try_next()? {
        bytes += segment.len();
        segments.push(segment);
    }
    let count = segments.len();
    let one_by_one = (count / 4).min(1000);
    let began = Instant::now();
    for segment in segments.drain(..one_by_one) {
        copy.apply(vec![segment]).await?;
    }
    let each = began.elapsed() / u32::try_from(one_by_one)?;
    let (began, rest) = (Instant::now(), segments.len());
    for batch in segments.chunks(64) {
        copy.apply(batch.to_vec()).await?;
    }
    println!(
        "  apply: one by one {each:?} a segment; catching up {:.0} segments/s; {:.1} KiB a segment",
        rest as f64 / began.elapsed().as_secs_f64(),
        bytes as f64 / count as f64 / 1024.0,
    );
    if copy.checksum() != primary.checksum() {
        return Err("the replica is not what the primary is".into());
    }
    Ok(())
}

fn cold(dir: &std::path::Path) -> Outcome<()> {
    let count = 10_000;
    let began = Instant::now();
    let store = Store::open(StoreConfig::new(dir))?;
    for n in 0..count {
        store.create(&format!("t{n}/db").parse()?, CreateOptions::default())?;
    }
    println!("{count} datasets made in {:?}", began.elapsed());
    store.close_all();
    drop(store);
    let began = Instant::now();
    let store = Store::open(StoreConfig::new(dir))?;
    let found = store.list()?.len();
    println!("  start-up with {found} of them: {:?}", began.elapsed());
    let began = Instant::now();
    for n in 0..count {
        let dataset = store.get(&format!("t{n}/db").parse()?)?;
        dataset.reader()?.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    println!("  each read once in {:?}, {} open, {resident}", began.elapsed(), store.open_count());
    Ok(())
}
