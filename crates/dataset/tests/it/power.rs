//! Loss of power at any step, by seeds: real SQLite files and the real engine on a disk that
//! forgets what was not synced, sector by sector, in any mixture of old and new.
//!
//! A seed replays: `VERGE_POWER_SEED=42`. `VERGE_POWER_SEEDS=2000` runs more of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use verge_dataset::{Disk, DiskFile, RealDisk, Settings, Store, StoreConfig};

use crate::harness::*;

const SEEDS: u64 = 40;
const SECTOR: usize = 512;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

/// What of a folder is durable, beside the folder itself.
#[derive(Default)]
struct Durable {
    /// Content at a file's last sync. A name that is not here was never synced.
    synced: HashMap<PathBuf, Vec<u8>>,
    /// Names that a loss of power may take back: what was there before, if anything was.
    names: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

struct Machine {
    durable: Mutex<Durable>,
    /// Steps until the power fails; then every step is an error.
    steps: AtomicU64,
    /// For proving that the test can fail: syncs of the log are not done.
    lazy: bool,
}

impl Machine {
    fn step(&self) -> io::Result<()> {
        let left =
            self.steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the power has failed"))
    }

    fn on(&self) -> bool {
        self.steps.load(Ordering::SeqCst) > 0
    }
}

struct SimDisk(Arc<Machine>);

struct SimFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    machine: Arc<Machine>,
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(failed) = self.machine.step() {
            // The last write before it got to the cache in part.
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(failed);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.machine.step()?;
        self.file.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.machine.step()?;
        let log = self.path.extension().is_some_and(|extension| extension == "log");
        if !(log && self.machine.lazy) {
            let mut durable = self.machine.durable.lock();
            durable.synced.insert(self.path.clone(), std::fs::read(&self.path)?);
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        if create && !path.exists() {
            self.0.step()?;
            self.0.durable.lock().names.entry(path.to_owned()).or_insert(None);
        }
        let file = RealDisk.open(path, create)?;
        Ok(Arc::new(SimFile { file, path: path.to_owned(), machine: self.0.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step()?;
        let mut durable = self.0.durable.lock();
        if from.is_file() {
            let before = durable.synced.get(to).cloned();
            durable.names.entry(to.to_owned()).or_insert(before);
            durable.names.remove(from);
        }
        RealDisk.rename(from, to)?;
        // Folders: all that was known below moves along; their own renames are taken as durable.
        let moved: Vec<_> =
            durable.synced.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            let Some(bytes) = durable.synced.remove(&path) else { continue };
            let new = path.strip_prefix(from).map(|rest| to.join(rest)).unwrap_or_default();
            let new = if path == from { to.to_owned() } else { new };
            durable.synced.insert(new, bytes);
        }
        if to.is_dir() {
            durable.names.retain(|path, _| !path.starts_with(from));
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.step()?;
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.step()?;
        RealDisk.remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.step()?;
        self.0.durable.lock().names.retain(|path, _| path.parent() != Some(dir));
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }

    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step()?;
        self.0.durable.lock().names.entry(to.to_owned()).or_insert(None);
        RealDisk.clone_file(from, to)
    }
}

/// What is found after the power is back: `from` with everything that was not synced in doubt.
fn after_the_loss(machine: &Machine, from: &Path, to: &Path, random: &mut Random) {
    copy(from, to);
    let durable = machine.durable.lock();
    let mut files = Vec::new();
    every_file(from, &mut files);
    files.sort();
    for path in files {
        let place = to.join(path.strip_prefix(from).unwrap());
        if let Some(before) = durable.names.get(&path)
            && random.below(2) == 0
        {
            match before {
                Some(bytes) => std::fs::write(&place, bytes).unwrap(),
                None => std::fs::remove_file(&place).unwrap(),
            }
            continue;
        }
        let now = std::fs::read(&path).unwrap();
        let synced = durable.synced.get(&path).cloned().unwrap_or_default();
        // A length, too, is old or new, or anything between.
        let (short, long) = (now.len().min(synced.len()), now.len().max(synced.len()));
        let len = short + random.below((long - short) as u64 + 1) as usize;
        let mut bytes = vec![0; len];
        for (number, sector) in bytes.chunks_mut(SECTOR).enumerate() {
            let at = number * SECTOR;
            let source = if random.below(2) == 0 { &now } else { &synced };
            if let Some(source) = source.get(at..(at + sector.len()).min(source.len())) {
                sector[..source.len()].copy_from_slice(source);
            }
        }
        std::fs::write(&place, bytes).unwrap();
    }
}

fn every_file(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { every_file(&path, into) } else { into.push(path) }
    }
}

/// One run: writes until the power fails, several times on the same files. What breaks, if
/// anything does.
async fn run(seed: u64, lazy: bool) -> Result<u64, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut folder = tempfile::tempdir().unwrap();
    let (mut told, mut tried) = (BTreeSet::new(), BTreeSet::new());
    let mut losses = 0;
    for round in 0..4 {
        let mut durable = Durable::default();
        let mut files = Vec::new();
        every_file(folder.path(), &mut files);
        for path in files {
            let bytes = std::fs::read(&path).unwrap();
            durable.synced.insert(path, bytes);
        }
        let steps = AtomicU64::new(u64::MAX);
        let machine = Arc::new(Machine { durable: Mutex::new(durable), steps, lazy });
        let config = StoreConfig {
            settings: Settings {
                checkpoint_bytes: 16 << 10,
                log_file_bytes: 24 << 10,
                max_log_bytes: 128 << 10,
                ..settings()
            },
            disk: Arc::new(SimDisk(machine.clone())),
            ..StoreConfig::new(folder.path())
        };
        let store = Store::open(config).map_err(|error| format!("round {round}: {error}"))?;
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
        // Also in the middle of a recovery, now and then.
        machine.steps.store(1 + random.below(90), Ordering::SeqCst);
        for _ in 0..200 {
            let n = tried.len() as i64 + 1;
            tried.insert(n);
            let (give, size) = (random.below(9), random.below(6000));
            let text = format!(
                "INSERT INTO ack VALUES ({n}, randomblob({size})); \
                 UPDATE bank SET has = has - {give} WHERE who = 'a'; \
                 UPDATE bank SET has = has + {give} WHERE who = 'b'"
            );
            let done = match random.below(25) {
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
            if !done && !machine.on() {
                losses += 1;
                break;
            }
        }
        machine.steps.store(0, Ordering::SeqCst);
        let next = tempfile::tempdir().unwrap();
        after_the_loss(&machine, folder.path(), next.path(), &mut random);
        drop(dataset);
        drop(store);
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

#[tokio::test]
async fn what_was_acknowledged_survives_a_loss_of_power_at_any_step() {
    if let Some(seed) = number_of("VERGE_POWER_SEED") {
        println!("{:?}", run(seed, false).await.unwrap());
        return;
    }
    let (mut losses, mut broken) = (0, Vec::new());
    for seed in 1..=number_of("VERGE_POWER_SEEDS").unwrap_or(SEEDS) {
        match run(seed, false).await {
            Ok(count) => losses += count,
            Err(why) => broken.push(format!("VERGE_POWER_SEED={seed}: {why}")),
        }
    }
    println!("{losses} losses of power");
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(losses > SEEDS, "the power is to fail in most rounds");
}

/// The test can fail: a log that is not synced loses what was acknowledged.
#[tokio::test]
async fn a_log_that_is_not_synced_is_caught() {
    for seed in 1..50 {
        if run(seed, true).await.is_err() {
            return;
        }
    }
    panic!("no seed noticed that the log was never synced");
}
