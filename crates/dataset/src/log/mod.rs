//! The log: every committed segment, in files that are only ever appended to. It is the truth; a
//! segment counts once its file was synced.
//!
//! Files are named after their first segment, `<epoch>-<txid>.log` in hexadecimal. The pages of a
//! large segment are in a file of their own beside them, `<epoch>-<txid>.big`. The writer has the
//! [`Log`]; readers share its [`LogIndex`].

mod open;
mod reader;
mod record;
mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use verge_types::Position;

pub use reader::LogReader;
pub(crate) use reader::Stored;

use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use record::{HEAD_LEN, Head};

/// Records up to this size are written in one call, head and all.
const ONE_WRITE: usize = 1 << 20;
/// End of the names of files with the pages of a large segment.
const LARGE: &str = ".big";
/// End of the names of such files while they come in.
pub(crate) const RECEIVING: &str = ".receiving";

/// The name of a large segment's file.
pub(crate) fn large_name(position: Position) -> String {
    format!("{:016x}-{:016x}{LARGE}", position.epoch, position.txid)
}

/// What readers and the writer know together.
pub(crate) struct LogIndex {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    files: Mutex<Files>,
}

struct Files {
    /// Rising; the last is the one that is written.
    list: Vec<FileEntry>,
    /// The position before the first kept segment.
    base: Position,
    /// The last durable segment.
    end: Position,
}

#[derive(Clone, Debug)]
struct FileEntry {
    first: Position,
    /// Durable bytes.
    len: u64,
    /// Large segments in it, and the bytes of their own files.
    large: Vec<(Position, u64)>,
}

impl FileEntry {
    /// Durable bytes, with those of the large segments' files.
    fn bytes(&self) -> u64 {
        self.len + self.large.iter().map(|(_, len)| len).sum::<u64>()
    }
}

impl LogIndex {
    fn path(&self, first: Position) -> PathBuf {
        self.dir.join(format!("{:016x}-{:016x}.log", first.epoch, first.txid))
    }

    pub(crate) fn large_path(&self, position: Position) -> PathBuf {
        self.dir.join(large_name(position))
    }

    /// The file with a large segment's pages; `NeedSnapshot` once retention has passed it by.
    pub(crate) fn open_large(&self, position: Position) -> Result<Arc<dyn DiskFile>, Error> {
        match self.disk.open(&self.large_path(position), false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Retention moves the base before it removes files.
                let gone = position.txid <= self.base().txid;
                let damaged = || Error::corrupt("a large segment", "its file is missing");
                Err(if gone { Error::NeedSnapshot { from: position } } else { damaged() })
            }
            other => other.map_err(Error::io("opening a large segment's file")),
        }
    }

    /// The position before the first kept segment.
    pub(crate) fn base(&self) -> Position {
        self.files.lock().base
    }

    /// The last durable segment.
    pub(crate) fn end(&self) -> Position {
        self.files.lock().end
    }

    /// Durable bytes of the files that begin after `position`.
    pub(crate) fn bytes_after(&self, position: Position) -> u64 {
        let files = self.files.lock();
        let after = files.list.iter().filter(|file| file.first.txid > position.txid);
        after.map(FileEntry::bytes).sum()
    }

    /// Durable bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.lock().list.iter().map(FileEntry::bytes).sum()
    }
}

/// The writer's side.
pub(crate) struct Log {
    index: Arc<LogIndex>,
    tail: Option<Arc<dyn DiskFile>>,
    /// A file is closed once it is this long, in bytes.
    file_limit: u64,
}

impl Log {
    pub(crate) fn index(&self) -> &Arc<LogIndex> {
        &self.index
    }

    pub(crate) fn end(&self) -> Position {
        self.index.end()
    }

    /// Appends segments that follow each other and the log's end, and makes them durable. On
    /// error nothing of it counts; call [`Self::cut_tail`], and stop acknowledging.
    pub(crate) fn append(&mut self, segments: &[(Position, Bytes)]) -> io::Result<()> {
        let Some((first, _)) = segments.first() else { return Ok(()) };
        let (mut tail_len, tail_bytes, end) = {
            let files = self.index.files.lock();
            let last = files.list.last();
            (last.map_or(0, |file| file.len), last.map_or(0, FileEntry::bytes), files.end)
        };
        assert_eq!(first.txid, end.txid + 1, "a segment is appended out of turn");
        let fresh = self.tail.is_none() || tail_bytes >= self.file_limit;
        if fresh {
            // A file left over by a failed append is written over from its beginning.
            let file = self.index.disk.open(&self.index.path(*first), true)?;
            file.set_len(0)?;
            self.tail = Some(file);
            tail_len = 0;
        }
        let Some(file) = &self.tail else { return Ok(()) };
        let mut at = tail_len;
        let mut buffer = Vec::new();
        for (_, segment) in segments {
            let len = u32::try_from(segment.len()).map_err(io::Error::other)?;
            buffer.extend_from_slice(&Head { len, durable: end.txid }.encode());
            if segment.len() <= ONE_WRITE {
                buffer.extend_from_slice(segment);
            }
            if buffer.len() > ONE_WRITE || segment.len() > ONE_WRITE {
                file.write_all_at(&buffer, at)?;
                at += buffer.len() as u64;
                buffer.clear();
            }
            if segment.len() > ONE_WRITE {
                file.write_all_at(segment, at)?;
                at += segment.len() as u64;
            }
        }
        file.write_all_at(&buffer, at)?;
        at += buffer.len() as u64;
        file.sync_data()?;
        if fresh {
            self.index.disk.sync_dir(&self.index.dir)?;
        }
        let mut files = self.index.files.lock();
        if fresh {
            files.list.push(FileEntry { first: *first, len: at, large: Vec::new() });
        } else if let Some(entry) = files.list.last_mut() {
            entry.len = at;
        }
        if let Some((last, _)) = segments.last() {
            files.end = *last;
        }
        Ok(())
    }

    /// Appends the record of a large segment whose file of `bytes` is durable in its place.
    pub(crate) fn append_large(
        &mut self,
        position: Position,
        record: Bytes,
        bytes: u64,
    ) -> io::Result<()> {
        self.append(&[(position, record)])?;
        if let Some(entry) = self.index.files.lock().list.last_mut() {
            entry.large.push((position, bytes));
        }
        Ok(())
    }

    /// After a failed append: cuts off what was written and not counted, so that a later opening
    /// does not take it for durable. The file in question is not written again.
    pub(crate) fn cut_tail(&mut self, failed: Position) -> io::Result<()> {
        self.tail = None;
        let disk = &self.index.disk;
        let last = self.index.files.lock().list.last().cloned();
        let unfinished = self.index.path(failed);
        if last.as_ref().is_none_or(|file| file.first != failed) && disk.exists(&unfinished) {
            disk.remove_file(&unfinished)?;
            disk.sync_dir(&self.index.dir)?;
        }
        if let Some(entry) = last {
            let file = disk.open(&self.index.path(entry.first), false)?;
            if file.size()? > entry.len {
                file.set_len(entry.len)?;
                file.sync_data()?;
            }
        }
        // Last, for a record that could not be cut must have its file.
        disk.remove_if_there(&self.index.large_path(failed))
    }

    /// Removes files whose segments all lie at or before `keep_after`; never the last.
    pub(crate) fn trim(&mut self, keep_after: Position) -> io::Result<()> {
        loop {
            let (first, next) = {
                let files = self.index.files.lock();
                let [oldest, next, ..] = files.list.as_slice() else { return Ok(()) };
                if next.first.txid > keep_after.txid + 1 {
                    return Ok(());
                }
                (oldest.first, next.first)
            };
            // Its epoch may be a later one than the removed file began with.
            let base = open::first_header(&self.index, next).map_err(io::Error::other)?.previous();
            let gone = {
                let mut files = self.index.files.lock();
                files.base = base;
                files.list.remove(0)
            };
            self.index.disk.remove_file(&self.index.path(first))?;
            self.index.disk.sync_dir(&self.index.dir)?;
            // Now that nothing names them. A crash leaves them to the next opening.
            for (position, _) in gone.large {
                self.index.disk.remove_if_there(&self.index.large_path(position))?;
            }
        }
    }
}

/// Bytes of a record that holds a segment of `len` bytes.
fn record_len(len: u32) -> u64 {
    HEAD_LEN as u64 + u64::from(len)
}
