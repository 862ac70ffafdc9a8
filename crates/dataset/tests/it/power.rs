//! Loss of power at any step, by seeds: real SQLite files and the real engine on a disk that
//! forgets what was not synced, sector by sector, in any mixture of old and new.
//!
//! A seed replays: `VERGE_POWER_SEED=42`. `make power SEEDS=2000` runs more of them.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use verge_dataset::{CreateOptions, Error, Settings, Store, StoreConfig};
use verge_sim::power::{Lie, Machine};
use verge_sim::rng::Rng;
use verge_types::Position;

use crate::harness::*;

const SEEDS: u64 = 40;

/// Bytes beyond which a group is a large one: with every other seed most are.
fn large_bytes(seed: u64) -> u64 {
    if seed.is_multiple_of(2) { 1 << 20 } else { 3000 }
}

/// A store in a folder whose files are all durable, on a disk that may lie, to show that the test
/// can fail. Groups of more than `large_bytes` are large.
fn start(
    folder: &Path,
    lie: Option<Lie>,
    large_bytes: u64,
) -> (Arc<Machine>, Result<Store, Error>) {
    let machine = Machine::start(folder, lie).unwrap();
    let settings = Settings {
        checkpoint_bytes: 16 << 10,
        log_file_bytes: 24 << 10,
        max_log_bytes: 128 << 10,
        large_bytes,
        ..settings()
    };
    let config = StoreConfig { settings, disk: machine.disk(), ..StoreConfig::new(folder) };
    (machine, Store::open(config))
}

/// One run: writes until the power fails, several times on the same files. What breaks, if
/// anything does.
async fn run(seed: u64, lie: Option<Lie>) -> Result<u64, String> {
    let mut random = Rng::new(seed);
    let mut folder = tempfile::tempdir().unwrap();
    let (mut told, mut tried) = (BTreeSet::new(), BTreeSet::new());
    let mut losses = 0;
    for round in 0..4 {
        let (machine, store) = start(folder.path(), lie, large_bytes(seed));
        let store = store.map_err(|error| format!("round {round}: {error}"))?;
        let name = id("app/main");
        let opened = store.get(&name).or_else(|error| match error {
            verge_dataset::Error::NotFound(_) => store.create(&name, Default::default()),
            other => Err(other),
        });
        let dataset = opened.map_err(|error| format!("round {round}: {error}"))?;
        if told.is_empty() {
            sql(
                &dataset,
                "CREATE TABLE IF NOT EXISTS ack(n INTEGER PRIMARY KEY, pad); \
                 CREATE TABLE IF NOT EXISTS bank(who PRIMARY KEY, has); \
                 INSERT OR IGNORE INTO bank VALUES ('a', 500), ('b', 500)",
            )
            .await;
        }
        look(&dataset, &told, &tried).map_err(|why| format!("round {round}: {why}"))?;
        machine.fails_after(1 + random.range(0, 90));
        for _ in 0..200 {
            let n = tried.len() as i64 + 1;
            tried.insert(n);
            let (give, size) = (random.range(0, 9), random.range(0, 6000));
            let text = format!(
                "INSERT INTO ack VALUES ({n}, randomblob({size})); \
                 UPDATE bank SET has = has - {give} WHERE who = 'a'; \
                 UPDATE bank SET has = has + {give} WHERE who = 'b'"
            );
            let done = match random.range(0, 25) {
                0 => dataset.vacuum().await.is_ok(),
                1 => dataset.checkpoint().await.is_ok(),
                2 => try_sql(&dataset, "UPDATE ack SET pad = NULL WHERE n % 2").await.is_ok(),
                _ => {
                    let kept = try_sql(&dataset, &text).await.is_ok();
                    if kept {
                        told.insert(n);
                    }
                    kept
                }
            };
            if !done && !machine.is_on() {
                losses += 1;
                break;
            }
        }
        let next = tempfile::tempdir().unwrap();
        machine.after_the_loss(folder.path(), next.path(), &mut random).unwrap();
        drop(dataset);
        drop(store);
        folder = next;
    }
    Ok(losses)
}

/// A replica on such a disk, beside a primary on a good one. After each loss it stands at a state
/// that its primary had, not before the last one that it confirmed, and goes on from there.
async fn follow(seed: u64) -> Result<u64, String> {
    let mut random = Rng::new(seed);
    let primary = Node::with(Settings { large_bytes: large_bytes(seed), ..settings() });
    let source = create(&primary, 512);
    sql(&source, "CREATE TABLE t(x)").await;
    let mut sums = HashMap::from([(source.position(), source.checksum().1)]);
    let mut folder = tempfile::tempdir().unwrap();
    let (mut confirmed, mut losses) = (Position::default(), 0);
    for round in 0..5 {
        let (machine, store) = start(folder.path(), None, large_bytes(seed));
        let store = store.map_err(|error| format!("round {round}: {error}"))?;
        let name = id("app/main");
        let opened = store.get(&name).or_else(|error| match error {
            verge_dataset::Error::NotFound(_) if confirmed == Position::default() => {
                store.create_replica(&name, CreateOptions { page_size: 512 })
            }
            other => Err(other),
        });
        let copy = opened.map_err(|error| format!("round {round}: {error}"))?;
        let (at, sum) = copy.checksum();
        let known = at == Position::default() || sums.get(&at) == Some(&sum);
        let whole = pages(&copy).into_iter().fold(0, |all, page| all ^ page) == sum;
        if at < confirmed || !known || !whole {
            return Err(format!("round {round}: at {at} after {confirmed}: {known}, {whole}"));
        }
        machine.fails_after(1 + random.range(0, 60));
        while machine.is_on() {
            let text = match random.range(0, 12) {
                0 => "DELETE FROM t WHERE rowid % 3 = 0".to_owned(),
                1 => format!("CREATE TABLE t{}(x)", sums.len()),
                _ => format!("INSERT INTO t VALUES (randomblob({}))", random.range(0, 3000)),
            };
            sql(&source, &text).await;
            sums.insert(source.position(), source.checksum().1);
            if random.range(0, 20) == 0 {
                source.vacuum().await.unwrap();
                sums.insert(source.position(), source.checksum().1);
            }
            match try_ship(&source, &copy).await {
                Ok(position) => confirmed = position,
                Err(error) if machine.is_on() => return Err(format!("round {round}: {error}")),
                Err(_) => losses += 1,
            }
            if random.range(0, 8) == 0 {
                let _ = copy.checkpoint().await;
            }
        }
        let next = tempfile::tempdir().unwrap();
        machine.after_the_loss(folder.path(), next.path(), &mut random).unwrap();
        drop((copy, store));
        folder = next;
    }
    Ok(losses)
}

/// All that was told is there, nothing that was never tried, and every state is whole.
fn look(
    dataset: &verge_dataset::Dataset,
    told: &BTreeSet<i64>,
    tried: &BTreeSet<i64>,
) -> Result<(), String> {
    let reader = dataset.reader().map_err(|error| error.to_string())?;
    let failed = |error: verge_dataset::rusqlite::Error| error.to_string();
    let mut kept = reader.prepare("SELECT n FROM ack").map_err(failed)?;
    let kept: BTreeSet<i64> =
        kept.query_map([], |row| row.get(0)).map_err(failed)?.filter_map(Result::ok).collect();
    let lost: Vec<_> = told.difference(&kept).collect();
    let strange: Vec<_> = kept.difference(tried).collect();
    if !lost.is_empty() || !strange.is_empty() {
        return Err(format!("lost {lost:?}, never written {strange:?}"));
    }
    let get = |text: &str| reader.query_row(text, [], |row| row.get::<_, i64>(0)).map_err(failed);
    if get("SELECT sum(has) FROM bank")? != 1000 {
        return Err("the bank's total is another".to_owned());
    }
    let check: String =
        reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(failed)?;
    let sum = pages(dataset).into_iter().fold(0, |all, page| all ^ page);
    if check != "ok" || sum != dataset.checksum().1 {
        return Err(format!("{check}; checksum {:x}, pages {sum:x}", dataset.checksum().1));
    }
    Ok(())
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs the seeds that were asked for; each that breaks is named.
async fn seeds<F: Future<Output = Result<u64, String>>>(one: impl Fn(u64) -> F) {
    if let Some(seed) = number_of("VERGE_POWER_SEED") {
        println!("{:?}", one(seed).await.unwrap());
        return;
    }
    let (mut losses, mut broken) = (0, Vec::new());
    let count = number_of("VERGE_POWER_SEEDS").unwrap_or(SEEDS);
    for seed in 1..=count {
        match one(seed).await {
            Ok(count) => losses += count,
            Err(why) => broken.push(format!("VERGE_POWER_SEED={seed}: {why}")),
        }
    }
    println!("{count} seeds, {losses} losses of power");
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(losses > count, "the power is to fail in most rounds");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_loss_of_power_at_any_step() {
    seeds(|seed| run(seed, None)).await;
}

#[tokio::test]
async fn a_replica_that_lost_its_power_stands_where_its_primary_stood() {
    seeds(follow).await;
}

/// The test can fail: a log that is not synced loses what was acknowledged, and so does a large
/// segment's file.
#[tokio::test]
async fn a_log_that_is_not_synced_is_caught() {
    for lazy in ["log", "big"] {
        let mut seeds = (1..50).map(|seed| 2 * seed + 1);
        let caught = loop {
            match seeds.next() {
                Some(seed) if run(seed, Some(Lie::Sync(lazy))).await.is_err() => break true,
                Some(_) => {}
                None => break false,
            }
        };
        assert!(caught, "no seed noticed that no .{lazy} file was ever synced");
    }
}
