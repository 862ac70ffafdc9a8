//! Replicated SQLite: one writer with group commit, a log of page images, replicas, restore.
//!
//! # What it is
//! A [`Store`] is a node's folder of datasets. A [`Dataset`] is one SQLite database with a log. On
//! its primary, [`Dataset::write`] runs a job in a transaction of its own; waiting transactions
//! share one *segment* (the pages they changed) and one sync of the log. Elsewhere, replicas take
//! the segments ([`Dataset::subscribe`] there, [`Dataset::apply`] here). One that is too large for
//! memory is a small record and a file ([`Dataset::large_file`], [`Dataset::receive`]). Reads run on the caller's
//! thread ([`Dataset::reader`]).
//!
//! # What always holds
//! - **The log is the truth, SQLite's `-wal` is a cache.** Nothing is acknowledged before its
//!   segment was synced; nothing enters the database file before that either. Opening removes the
//!   `-wal` and writes every segment after the checkpoint again.
//! - A position (epoch, txid) names one state, and every segment carries the rolling checksum
//!   before and after it. A replica that disagrees goes into quarantine.
//! - One thread at a time has the write connection, checkpoints included.
//! - What a reader saw is told ([`Reader::glimpse`]) only once it is durable: SQLite shows a commit
//!   before our log has it on the disk.
//! - If the log cannot be made durable, the dataset stops: no acknowledgement, no readers, until
//!   it was recovered from what is durable.
//!
//! # Simulation
//! Everything but SQLite's own files goes through [`Disk`]; SQLite's go through the VFS named in
//! [`StoreConfig::vfs`], and its time is the [`Clock`]'s. See the module `disk` for what counts as
//! durable.

mod archive;
mod boot;
mod checksum;
mod clock;
mod config;
mod core;
mod crashsafe;
mod dataset;
mod disk;
mod error;
mod flight;
mod genesis;
mod large;
mod layout;
mod log;
mod places;
mod quarantine;
mod queue;
mod reader;
mod restore;
mod segment;
mod shared;
mod snapshot;
mod sqlite;
mod state;
mod store;
mod transaction;
mod wal;

pub use rusqlite;

pub use archive::{Point, Target};
pub use boot::BootTime;
pub use checksum::{lock_page, page_hash};
pub use clock::{Clock, RealClock};
pub use config::{Settings, StoreConfig};
pub use dataset::{Ack, Committed, Dataset, Role, Subscription};
pub use disk::{Disk, DiskFile, RealDisk};
pub use error::{Error, WriteError};
pub use large::{LargeFile, Receiving};
pub use log::LogReader;
pub use quarantine::SetAside;
pub use reader::{Glimpse, Reader};
pub use segment::{Compression, DecodeError, Draft, HEADER_LEN, Header, MAX_RAW_BODY, Segment};
pub use snapshot::{Seeding, Snapshot};
pub use store::{CreateOptions, Store};
pub use transaction::WriteTransaction;
