//! What a node can set: every limit has a name, a unit, a default and a reason.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, RealClock};
use crate::disk::{Disk, RealDisk};
use crate::segment::Compression;

const MIB: u64 = 1 << 20;

/// A node's store of datasets.
#[derive(Clone)]
pub struct StoreConfig {
    /// Folder that holds one folder a dataset. Only one process may use it.
    pub dir: PathBuf,
    /// Datasets that are kept open; the least recently used are closed beyond that, if nobody
    /// uses them.
    pub max_open: usize,
    pub settings: Settings,
    /// Where log, sidecars and the engine's own reads and writes of the database go.
    pub disk: Arc<dyn Disk>,
    /// Name of a registered SQLite VFS; `None` is the system's. For simulations.
    pub vfs: Option<String>,
    /// Stamps segments and judges leases.
    pub clock: Arc<dyn Clock>,
    /// Whether the database file is copied (an image of it, for restores) beside the writer. A
    /// simulation wants every step in its order.
    pub images_beside: bool,
}

impl StoreConfig {
    /// Defaults on the machine's own disk.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            max_open: 512,
            settings: Settings::default(),
            disk: Arc::new(RealDisk),
            vfs: None,
            clock: Arc::new(RealClock),
            images_beside: true,
        }
    }
}

/// Limits of each dataset.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Transactions that may wait for the writer; more are refused as overloaded.
    pub max_waiting: usize,
    /// Transactions that share one sync of the log.
    pub max_group: usize,
    /// Longest a job may run on the writer before it is interrupted.
    pub job_deadline: Duration,
    /// Longest interactive transaction, whatever its caller asks for.
    pub max_transaction: Duration,
    /// The `-wal` is moved into the database file once it is this long, bytes.
    pub checkpoint_bytes: u64,
    /// Writes are refused once the `-wal` is this long because readers pin it, bytes.
    pub max_wal_bytes: u64,
    /// Readers older than this are interrupted once the `-wal` is half of its limit.
    pub reader_deadline: Duration,
    /// Readers at a time; more are refused as overloaded.
    pub max_readers: usize,
    /// Connections kept for the next readers.
    pub idle_readers: usize,
    /// A writer thread without work ends after this long.
    pub writer_idle: Duration,
    /// A log file is closed once it is this long, bytes.
    pub log_file_bytes: u64,
    /// Room for the log, bytes: an image of the database is kept after each half of it, and what
    /// lies before the image before that is removed, even if somebody still reads it.
    pub max_log_bytes: u64,
    /// Writes are refused while less is free on the disk, bytes: the log of what was accepted and
    /// its recovery must always find room.
    pub min_free_bytes: u64,
    /// Groups of transactions that change more than this, in bytes of pages, are written to a file
    /// beside the log, and never held in memory as a whole.
    pub large_bytes: u64,
    /// How segments are written.
    pub compression: Compression,
    /// Page cache of the write connection and of each reader, KiB.
    pub cache_kib: u32,
    /// Longest wait for others to confirm a write where [`crate::Ack::Remote`] asks for it.
    pub confirm_deadline: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_waiting: 4096,
            max_group: 256,
            job_deadline: Duration::from_secs(30),
            max_transaction: Duration::from_secs(30),
            checkpoint_bytes: 4 * MIB,
            max_wal_bytes: 512 * MIB,
            reader_deadline: Duration::from_secs(60),
            max_readers: 256,
            idle_readers: 8,
            writer_idle: Duration::from_secs(2),
            log_file_bytes: 8 * MIB,
            max_log_bytes: 256 * MIB,
            min_free_bytes: 64 * MIB,
            large_bytes: 8 * MIB,
            compression: Compression::Zstd(1),
            cache_kib: 2048,
            confirm_deadline: Duration::from_secs(10),
        }
    }
}
