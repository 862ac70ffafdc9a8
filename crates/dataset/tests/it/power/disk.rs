//! A disk that forgets what was not synced, sector by sector, when its power fails.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use verge_dataset::{Disk, DiskFile, RealDisk, Settings, Store, StoreConfig};

use crate::harness::{copy, settings};

const SECTOR: usize = 512;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
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

/// Files that end so are not synced.
pub type Lazy = Option<&'static str>;

pub struct Machine {
    durable: Mutex<Durable>,
    /// Steps until the power fails; then every step is an error.
    steps: AtomicU64,
    /// For proving that the test can fail.
    lazy: Lazy,
}

impl Machine {
    /// A store in a folder whose files are all durable. Groups of more than `large_bytes` are large.
    pub fn start(
        folder: &Path,
        lazy: Lazy,
        large_bytes: u64,
    ) -> (Arc<Self>, Result<Store, verge_dataset::Error>) {
        let mut durable = Durable::default();
        let mut files = Vec::new();
        every_file(folder, &mut files);
        for path in files {
            let bytes = std::fs::read(&path).unwrap();
            durable.synced.insert(path, bytes);
        }
        let steps = AtomicU64::new(u64::MAX);
        let machine = Arc::new(Self { durable: Mutex::new(durable), steps, lazy });
        let config = StoreConfig {
            settings: Settings {
                checkpoint_bytes: 16 << 10,
                log_file_bytes: 24 << 10,
                max_log_bytes: 128 << 10,
                large_bytes,
                ..settings()
            },
            disk: Arc::new(SimDisk(machine.clone())),
            ..StoreConfig::new(folder)
        };
        (machine, Store::open(config))
    }

    /// The power fails after so many more steps.
    pub fn fails_after(&self, steps: u64) {
        self.steps.store(steps, Ordering::SeqCst);
    }

    /// What is found after the power is back: `from` with all that was not synced in doubt.
    pub fn after_the_loss(&self, from: &Path, to: &Path, random: &mut Random) {
        self.fails_after(0);
        copy(from, to);
        let durable = self.durable.lock();
        // The copies, for what runs on may still make and remove files.
        let mut files = Vec::new();
        every_file(to, &mut files);
        files.sort();
        for place in files {
            let path = from.join(place.strip_prefix(to).unwrap());
            if let Some(before) = durable.names.get(&path)
                && random.below(2) == 0
            {
                match before {
                    Some(bytes) => std::fs::write(&place, bytes).unwrap(),
                    None => std::fs::remove_file(&place).unwrap(),
                }
                continue;
            }
            let now = std::fs::read(&place).unwrap();
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

    fn step(&self) -> io::Result<()> {
        let left =
            self.steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the power has failed"))
    }

    pub fn is_on(&self) -> bool {
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
        let extension = self.path.extension().and_then(|extension| extension.to_str());
        if extension.is_none() || extension != self.machine.lazy {
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

fn every_file(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { every_file(&path, into) } else { into.push(path) }
    }
}
