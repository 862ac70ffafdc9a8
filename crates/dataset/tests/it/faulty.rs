//! A disk that does what a test wants with the files of the log.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use verge_dataset::{Disk, DiskFile, RealDisk, Settings, Store, StoreConfig};

/// What to do to files of the log.
#[derive(Default)]
pub struct Plan {
    pub fail_syncs: AtomicU32,
    /// Syncs are held, but for the first `released` of them.
    pub hold_syncs: AtomicBool,
    pub released: AtomicU32,
    /// Syncs that are held, or were.
    pub held: AtomicU32,
    /// Bytes that the log may still be written, if not 0.
    pub room: AtomicU64,
    pub free: AtomicU64,
}

thread_local! {
    /// The next file of the log that this thread opens, or the next one that it copies, is come
    /// to only after it was removed.
    pub static LATE: Cell<bool> = const { Cell::new(false) };
}

fn come_late(path: &Path) {
    if LATE.take() {
        let start = Instant::now();
        while path.exists() {
            assert!(start.elapsed() < Duration::from_secs(30), "{} stays", path.display());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct FaultyDisk(Arc<Plan>);

struct FaultyFile(Arc<dyn DiskFile>, Arc<Plan>);

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // Short reads, as a disk may give them.
        let len = buffer.len().min(1000);
        self.0.read_at(&mut buffer[..len], offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let room = self.1.room.load(Ordering::SeqCst);
        if room != 0 && room < bytes.len() as u64 {
            self.0.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from_raw_os_error(libc_enospc()));
        }
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.1.hold_syncs.load(Ordering::SeqCst) {
            let number = self.1.held.fetch_add(1, Ordering::SeqCst);
            while self.1.hold_syncs.load(Ordering::SeqCst)
                && number >= self.1.released.load(Ordering::SeqCst)
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let left = &self.1.fail_syncs;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok() {
            return Err(io::Error::other("input/output error"));
        }
        self.0.sync_data()
    }
}

fn libc_enospc() -> i32 {
    28
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension == Some("log") {
            come_late(path);
        }
        let file = RealDisk.open(path, create)?;
        let log = matches!(extension, Some("log" | "big" | "receiving"));
        Ok(if log { Arc::new(FaultyFile(file, self.0.clone())) } else { file })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
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
        RealDisk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        match self.0.free.load(Ordering::SeqCst) {
            0 => RealDisk.free_bytes(dir),
            free => Ok(free),
        }
    }

    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        come_late(from);
        RealDisk.clone_file(from, to)
    }
}

pub fn faulty() -> (Store, Arc<Plan>, tempfile::TempDir) {
    faulty_with(Settings::default())
}

pub fn faulty_with(settings: Settings) -> (Store, Arc<Plan>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let plan = Arc::new(Plan::default());
    let config = StoreConfig {
        disk: Arc::new(FaultyDisk(plan.clone())),
        settings,
        ..StoreConfig::new(folder.path())
    };
    (Store::open(config).unwrap(), plan, folder)
}
