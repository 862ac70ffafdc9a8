//! A disk that forgets what was not synced, sector by sector, when its power fails. Real files in
//! a folder, seen through [`Disk`], with notes of what of them is durable.
//!
//! Not on it: what SQLite itself writes (its `-wal` counts for nothing after a loss, and the
//! database file is in doubt until the engine has synced it). Removed files, and renamed folders,
//! are taken as durable at once.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use verge_dataset::{Disk, DiskFile, RealDisk};

use crate::rng::Rng;

const SECTOR: usize = 512;
/// Most bytes that one read gives.
const SHORT: usize = 1500;
const NO_SPACE: i32 = 28;

/// A mistake of the disk, put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A sync of a file that ends so is told and not done.
    Sync(&'static str),
    /// While a dataset is opened, nothing is written into its database file.
    Redo,
}

/// What of a folder is durable, beside the folder itself.
#[derive(Default)]
struct Durable {
    /// Content at a file's last sync. A name that is not here was never synced.
    synced: HashMap<PathBuf, Vec<u8>>,
    /// Names that a loss of power may take back: what was there before, if anything was.
    names: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

/// A machine's power and its disk.
pub struct Machine {
    durable: Mutex<Durable>,
    /// Steps until the power fails; then every step is an error.
    steps: AtomicU64,
    lie: Option<Lie>,
    /// A dataset is being opened.
    pub opening: AtomicBool,
    /// Nothing can be written.
    pub full: AtomicBool,
    /// What is free is told, so that writes are refused before they begin.
    pub tells: AtomicBool,
    /// The next sync fails.
    pub sync_fails: AtomicBool,
    /// Called once, in the middle of the next sync of a log.
    pub in_sync: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Machine {
    /// A machine whose files in `folder` are all durable.
    pub fn start(folder: &Path, lie: Option<Lie>) -> io::Result<Arc<Self>> {
        let mut durable = Durable::default();
        for path in every_file(folder)? {
            durable.synced.insert(path.clone(), fs::read(&path)?);
        }
        Ok(Arc::new(Self {
            durable: Mutex::new(durable),
            steps: AtomicU64::new(u64::MAX),
            lie,
            opening: AtomicBool::new(false),
            full: AtomicBool::new(false),
            tells: AtomicBool::new(true),
            sync_fails: AtomicBool::new(false),
            in_sync: Mutex::new(None),
        }))
    }

    /// Its disk, for a store.
    pub fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        Arc::new(PoweredDisk(self.clone()))
    }

    /// The power fails after so many more steps.
    pub fn fails_after(&self, steps: u64) {
        self.steps.store(steps, Ordering::SeqCst);
    }

    pub fn is_on(&self) -> bool {
        self.steps.load(Ordering::SeqCst) > 0
    }

    /// What is found after the power is back: `from` with all that was not synced in doubt.
    pub fn after_the_loss(&self, from: &Path, to: &Path, rng: &mut Rng) -> io::Result<()> {
        self.fails_after(0);
        copy(from, to)?;
        let durable = self.durable.lock();
        // The copies, for what runs on may still make and remove files.
        for place in every_file(to)? {
            let path = from.join(place.strip_prefix(to).map_err(io::Error::other)?);
            if let Some(before) = durable.names.get(&path)
                && rng.chance(500)
            {
                match before {
                    Some(bytes) => fs::write(&place, bytes)?,
                    None => fs::remove_file(&place)?,
                }
                continue;
            }
            let now = fs::read(&place)?;
            let synced = durable.synced.get(&path).map_or(&[][..], Vec::as_slice);
            if now != synced {
                fs::write(&place, mixture(&now, synced, rng))?;
            }
        }
        Ok(())
    }

    /// What is found after the process alone has ended: all that was written.
    pub fn after_a_kill(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fails_after(0);
        copy(from, to)
    }

    fn step(&self) -> io::Result<()> {
        let left =
            self.steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("the power has failed"))
    }

    fn room(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::Error::from_raw_os_error(NO_SPACE)),
            false => Ok(()),
        }
    }
}

/// Each sector is of the one or of the other; a length, too, is either or anything between.
fn mixture(now: &[u8], synced: &[u8], rng: &mut Rng) -> Vec<u8> {
    let (short, long) = (now.len().min(synced.len()), now.len().max(synced.len()));
    let len = short + rng.range(0, (long - short) as u64 + 1) as usize;
    let mut bytes = vec![0; len];
    for (number, sector) in bytes.chunks_mut(SECTOR).enumerate() {
        let at = number * SECTOR;
        let source = if rng.chance(500) { now } else { synced };
        if let Some(source) = source.get(at..(at + sector.len()).min(source.len())) {
            sector[..source.len()].copy_from_slice(source);
        }
    }
    bytes
}

struct PoweredDisk(Arc<Machine>);

struct PoweredFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    machine: Arc<Machine>,
}

impl PoweredFile {
    fn is_log(&self) -> bool {
        self.ends_in("log")
    }

    fn ends_in(&self, wanted: &str) -> bool {
        self.path.extension().is_some_and(|extension| extension == wanted)
    }

    /// In its place, not in a folder that is being made.
    fn is_database(&self) -> bool {
        let folder = self.path.parent().and_then(Path::file_name).unwrap_or_default();
        self.path.ends_with("db") && !folder.to_string_lossy().starts_with('~')
    }

    fn forgets(&self) -> bool {
        self.machine.lie == Some(Lie::Redo)
            && self.machine.opening.load(Ordering::SeqCst)
            && self.is_database()
    }
}

impl DiskFile for PoweredFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Short reads, as a disk may give them.
        let len = buffer.len().min(SHORT);
        self.file.read_at(&mut buffer[..len], offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.forgets() {
            return Ok(());
        }
        if let Err(failed) = self.machine.step().and_then(|()| self.machine.room()) {
            // The last write before it got to the cache in part.
            self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(failed);
        }
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.forgets() {
            return Ok(());
        }
        self.machine.step()?;
        self.file.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.is_log()
            && let Some(look) = self.machine.in_sync.lock().take()
        {
            look();
        }
        self.machine.step()?;
        if self.machine.sync_fails.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("input/output error"));
        }
        if !matches!(self.machine.lie, Some(Lie::Sync(of)) if self.ends_in(of)) {
            let mut durable = self.machine.durable.lock();
            durable.synced.insert(self.path.clone(), fs::read(&self.path)?);
        }
        Ok(())
    }
}

impl Disk for PoweredDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        if create && !path.exists() {
            self.0.step()?;
            self.0.durable.lock().names.entry(path.to_owned()).or_insert(None);
        }
        let file = RealDisk.open(path, create)?;
        Ok(Arc::new(PoweredFile { file, path: path.to_owned(), machine: self.0.clone() }))
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
        // All that was known below moves along.
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
        // In an order that is the same in each run.
        let mut names = RealDisk.list(dir)?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        RealDisk.exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.step()?;
        self.0.durable.lock().names.retain(|path, _| path.parent() != Some(dir));
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let full = self.0.full.load(Ordering::SeqCst) && self.0.tells.load(Ordering::SeqCst);
        Ok(if full { 0 } else { u64::MAX })
    }

    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step()?;
        self.0.room()?;
        self.0.durable.lock().names.entry(to.to_owned()).or_insert(None);
        RealDisk.clone_file(from, to)
    }
}

/// All files below, in order.
fn every_file(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(every_file(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
