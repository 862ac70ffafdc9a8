//! A whole database at one position, as chunks of bytes: taken from a pinned reader while writes go
//! on, and turned into a replica on another node.
//!
//! The first chunk is a header, the others hold consecutive pages (about 1 MiB of them, zstd). Each
//! has a hash; the whole is checked against the rolling checksum before it takes its place.

use std::sync::Arc;

use bytes::Bytes;
use verge_types::{DatasetId, Position};

use crate::checksum::{hash, lock_page, page_hash};
use crate::core::Head;
use crate::dataset::Dataset;
use crate::disk::DiskFile;
use crate::error::Error;
use crate::genesis::is_page_size;
use crate::layout::Layout;
use crate::reader::Reader;
use crate::state::{Duty, State};
use crate::store::Store;

const HEADER_MAGIC: &[u8; 4] = b"VSH1";
const PAGES_MAGIC: &[u8; 4] = b"VSP1";
const HEADER_LEN: usize = 56;
const PAGES_HEAD: usize = 20;
/// Pages in a chunk, in bytes before compression.
const CHUNK: u32 = 1 << 20;
const LEVEL: i32 = 1;

/// A pinned state of a dataset. While it is held, the `-wal` cannot begin anew: read it without
/// long pauses, and after `reader_deadline` it may be interrupted.
pub struct Snapshot {
    reader: Reader,
    tag: u32,
    page_size: u32,
    head: Head,
    /// The next page; 0 before the header was given.
    next: u32,
}

impl Dataset {
    /// Pins the state at the current position.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let shared = self.shared.clone();
        self.control(move |core, _| {
            // Between two groups: every commit that this reader sees is in the log, at the head.
            let reader = Reader::check_out(&shared, false)?;
            reader.execute_batch("BEGIN")?;
            reader.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            Ok(Snapshot {
                reader,
                tag: core.state.id.tag(),
                page_size: core.state.page_size,
                head: core.head,
                next: 0,
            })
        })
        .await
    }

    /// Reads the whole database and compares it with the rolling checksum: the position at which
    /// they agree.
    ///
    /// # Errors
    /// `Corrupt` if they do not.
    pub async fn verify(&self) -> Result<Position, Error> {
        let snapshot = self.snapshot().await?;
        let lock = lock_page(snapshot.page_size);
        let mut checksum = 0;
        for number in (1..=snapshot.head.pages).filter(|number| *number != lock) {
            checksum ^= snapshot.page(number, |page| page_hash(number, page))?;
        }
        if checksum != snapshot.head.checksum {
            let why = format!("at {} its pages do not add up", snapshot.head.position);
            return Err(Error::corrupt("the database", why));
        }
        Ok(snapshot.head.position)
    }
}

impl Dataset {
    /// Reads the kept log through, until what is durable now: how many segments hold, each going on
    /// where the one before it ends. On the caller's thread, beside writes and retention.
    ///
    /// # Errors
    /// `Corrupt` at the first that does not.
    pub fn verify_log(&self) -> Result<u64, Error> {
        let log = self.shared.log_index.lock().clone();
        log.verify(log.base(), log.end())
    }
}

impl Snapshot {
    pub fn position(&self) -> Position {
        self.head.position
    }

    /// Bytes of the database.
    pub fn size(&self) -> u64 {
        u64::from(self.head.pages) * u64::from(self.page_size)
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// The next chunk, or `None` after the last. Reads from disk on this thread.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.next == 0 {
            self.next = 1;
            return Ok(Some(self.header()));
        }
        if self.next > self.head.pages {
            return Ok(None);
        }
        let first = self.next;
        let count = (CHUNK / self.page_size).max(1).min(self.head.pages - first + 1);
        let mut raw = Vec::with_capacity((count * self.page_size) as usize);
        for number in first..first + count {
            if number == lock_page(self.page_size) {
                raw.resize(raw.len() + self.page_size as usize, 0);
            } else {
                self.page(number, |page| raw.extend_from_slice(page))?;
            }
        }
        let body = zstd::bulk::compress(&raw, LEVEL).map_err(Error::io("compressing pages"))?;
        let mut chunk = Vec::with_capacity(PAGES_HEAD + body.len());
        chunk.extend_from_slice(PAGES_MAGIC);
        chunk.extend_from_slice(&first.to_le_bytes());
        chunk.extend_from_slice(&count.to_le_bytes());
        chunk.extend_from_slice(&(hash(&body) ^ u64::from(first)).to_le_bytes());
        chunk.extend_from_slice(&body);
        self.next += count;
        Ok(Some(chunk.into()))
    }

    fn page<T>(&self, number: u32, take: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        let mut get =
            self.reader.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        Ok(get.query_row([number], |row| Ok(take(row.get_ref(0)?.as_blob()?)))?)
    }

    /// All pages into an empty file. Not synced.
    pub(crate) fn write_to(&self, file: &dyn DiskFile) -> Result<(), Error> {
        let lock = lock_page(self.page_size);
        for number in (1..=self.head.pages).filter(|number| *number != lock) {
            let at = u64::from(number - 1) * u64::from(self.page_size);
            self.page(number, |page| file.write_all_at(page, at))?
                .map_err(Error::io("copying a database"))?;
        }
        file.set_len(self.size()).map_err(Error::io("copying a database"))
    }

    fn header(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(HEADER_MAGIC);
        for value in [self.tag, self.page_size, self.head.pages] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let Position { epoch, txid } = self.head.position;
        for value in [epoch, txid, self.head.checksum, self.head.wall_ms] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let own = hash(&bytes);
        bytes.extend_from_slice(&own.to_le_bytes());
        bytes.into()
    }
}

/// `(tag, page size, head)` of a header chunk.
fn read_header(bytes: &[u8]) -> Option<(u32, u32, Head)> {
    let bytes: &[u8; HEADER_LEN] = bytes.try_into().ok()?;
    let u32_at = |at: usize| bytes[at..at + 4].try_into().ok().map(u32::from_le_bytes);
    let u64_at = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
    let holds = &bytes[..4] == HEADER_MAGIC && hash(&bytes[..48]) == u64_at(48)?;
    let (tag, page_size, pages) = (u32_at(4)?, u32_at(8)?, u32_at(12)?);
    let position = Position::new(u64_at(16)?, u64_at(24)?);
    let head = Head { position, checksum: u64_at(32)?, pages, wall_ms: u64_at(40)? };
    (holds && is_page_size(page_size) && pages > 0).then_some((tag, page_size, head))
}

/// A replica in the making. Dropped unfinished, it leaves what was there untouched.
pub struct Seeding {
    store: Store,
    id: DatasetId,
    building: Layout,
    file: Arc<dyn DiskFile>,
    header: Option<(u32, Head)>,
    next: u32,
    checksum: u64,
}

impl Store {
    /// Begins to make a replica from a snapshot's chunks. One that is there already goes on being
    /// read until [`Seeding::finish`] replaces it.
    pub fn seed(&self, id: &DatasetId) -> Result<Seeding, Error> {
        let building = Layout { dir: self.building(id) };
        let disk = self.disk();
        let io = |error| Error::io("making a replica's folder")(error);
        if disk.exists(&building.dir) {
            disk.remove_dir_all(&building.dir).map_err(io)?;
        }
        disk.create_dir_all(&building.log()).map_err(io)?;
        let file = disk.open(&building.db(), true).map_err(io)?;
        let (store, id) = (self.clone(), id.clone());
        Ok(Seeding { store, id, building, file, header: None, next: 1, checksum: 0 })
    }
}

impl Seeding {
    /// Takes the next chunk, in order.
    ///
    /// # Errors
    /// `Corrupt` if it is not the next chunk of a snapshot of this dataset.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let wrong = |why: &str| Error::corrupt("a snapshot", why);
        let Some((page_size, head)) = self.header else {
            let (tag, page_size, head) =
                read_header(chunk).ok_or_else(|| wrong("it has no header"))?;
            if tag != self.id.tag() {
                return Err(wrong("it is another dataset's"));
            }
            self.header = Some((page_size, head));
            return Ok(());
        };
        let (first, count, body) = read_pages(chunk).ok_or_else(|| wrong("a chunk is damaged"))?;
        let fits = first == self.next
            && count > 0
            && count <= (CHUNK / page_size).max(1)
            && count <= head.pages - self.next + 1;
        if !fits {
            return Err(wrong("a chunk is out of order"));
        }
        let raw_len = (count * page_size) as usize;
        let raw = zstd::bulk::decompress(body, raw_len)
            .ok()
            .filter(|raw| raw.len() == raw_len)
            .ok_or_else(|| wrong("a chunk cannot be decompressed"))?;
        let lock = lock_page(page_size);
        for (number, page) in (first..).zip(raw.chunks_exact(page_size as usize)) {
            if number != lock {
                self.checksum ^= page_hash(number, page);
            }
        }
        let at = u64::from(first - 1) * u64::from(page_size);
        self.file.write_all_at(&raw, at).map_err(Error::io("writing a replica's file"))?;
        self.next += count;
        Ok(())
    }

    /// Checks the whole, puts it in the place of what is there, and opens it as a replica. A
    /// history that is not the snapshot's is set aside, see [`Dataset::set_aside_tails`].
    ///
    /// # Errors
    /// `Overloaded` while readers of the old one are out: call it again.
    pub fn finish(&mut self) -> Result<Arc<Dataset>, Error> {
        let wrong = |why: &str| Error::corrupt("a snapshot", why);
        let (page_size, head) = self.header.ok_or_else(|| wrong("it has no header"))?;
        if self.next != head.pages + 1 {
            return Err(wrong("it is not complete"));
        }
        if self.checksum != head.checksum {
            return Err(wrong("its pages do not add up to its checksum"));
        }
        self.file.sync_data().map_err(Error::io("syncing a replica's file"))?;
        let store = self.store.clone();
        store.replace(&self.id, |layout| {
            let disk = store.disk();
            let there = disk.exists(&layout.state());
            let old = if there { State::load(disk, &layout.state()).ok() } else { None };
            let state = State {
                id: self.id.clone(),
                page_size,
                duty: Duty::Replica,
                epoch: old.map_or(0, |old| old.epoch).max(head.position.epoch),
                checkpoint: head.position,
                checksum: head.checksum,
                pages: head.pages,
                wall_ms: head.wall_ms,
            };
            state.save(disk, &self.building.state())?;
            if there {
                crate::quarantine::keep_old(disk, layout, &self.building)?;
            }
            store.settle(&self.building, layout)
        })
    }
}

impl Drop for Seeding {
    fn drop(&mut self) {
        // Whole, it may hold what was set aside: the next opening of the store finishes it.
        let disk = self.store.disk();
        if disk.exists(&self.building.dir) && !disk.exists(&self.building.state()) {
            // Left over, it is removed when the store is opened.
            let _ = self.store.disk().remove_dir_all(&self.building.dir);
        }
    }
}

/// `(first page, count, body)` of a chunk of pages whose hash holds.
fn read_pages(chunk: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (head, body) = chunk.split_at_checked(PAGES_HEAD)?;
    let u32_at = |at: usize| head[at..at + 4].try_into().ok().map(u32::from_le_bytes);
    let (first, count) = (u32_at(4)?, u32_at(8)?);
    let stored = head[12..20].try_into().ok().map(u64::from_le_bytes)?;
    let holds = &head[..4] == PAGES_MAGIC && stored == hash(body) ^ u64::from(first);
    holds.then_some((first, count, body))
}
