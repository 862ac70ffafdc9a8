//! Opening a log: finds its files and cuts off a torn tail.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use verge_types::Position;

use super::{FileEntry, Files, LARGE, Log, LogIndex, RECEIVING, record};
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::segment::Header;

impl Log {
    /// Opens the log in `dir`. `checkpoint` is what the database file holds, which is the log's
    /// end when it has no files.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        tag: u32,
        checkpoint: Position,
        file_limit: u64,
    ) -> Result<Self, Error> {
        let all = disk.list(dir).map_err(Error::io("reading a log's folder"))?;
        let mut firsts = positions(&all, ".log");
        let index = |list, base, end| {
            let files = Mutex::new(Files { list, base, end });
            Arc::new(LogIndex { disk: disk.clone(), dir: dir.to_owned(), files })
        };
        let probe = index(Vec::new(), checkpoint, checkpoint);
        while let Some(first) = firsts.last().copied() {
            let path = probe.path(first);
            let file = disk.open(&path, false).map_err(Error::io("opening a log file"))?;
            let tail = scan(&*file, tag, first)?;
            let Some((last, len)) = tail else {
                // Made, but never with a durable segment.
                disk.remove_file(&path).map_err(Error::io("removing an empty log file"))?;
                firsts.pop();
                continue;
            };
            let mut list = Vec::new();
            for other in &firsts[..firsts.len() - 1] {
                let len = disk
                    .open(&probe.path(*other), false)
                    .and_then(|file| file.size())
                    .map_err(Error::io("opening a log file"))?;
                list.push(FileEntry { first: *other, len, large: Vec::new() });
            }
            list.push(FileEntry { first, len, large: Vec::new() });
            keep_large(&probe, &all, &mut list, last.position)?;
            let base = first_header(&probe, list[0].first)?.previous();
            let log = index(list, base, last.position);
            return Ok(Self { index: log, tail: Some(file), file_limit });
        }
        keep_large(&probe, &all, &mut [], checkpoint)?;
        Ok(Self { index: probe, tail: None, file_limit })
    }
}

/// Positions in the names that end so, rising.
fn positions(names: &[String], end: &str) -> Vec<Position> {
    let mut positions: Vec<_> = names
        .iter()
        .filter_map(|name| {
            let (epoch, txid) = name.strip_suffix(end)?.split_once('-')?;
            let hex = |text| u64::from_str_radix(text, 16).ok();
            Some(Position::new(hex(epoch)?, hex(txid)?))
        })
        .collect();
    positions.sort_by_key(|position| (position.txid, position.epoch));
    positions
}

/// Finds the large segments of the log's files, and removes files that no record names: what a
/// crash left before a segment counted, while one came in, or after retention.
fn keep_large(
    index: &LogIndex,
    names: &[String],
    list: &mut [FileEntry],
    end: Position,
) -> Result<(), Error> {
    let io = |error| Error::io("clearing up large segments' files")(error);
    for name in names.iter().filter(|name| name.ends_with(RECEIVING)) {
        index.disk.remove_if_there(&index.dir.join(name)).map_err(io)?;
    }
    for position in positions(names, LARGE) {
        let entry = list.iter_mut().rfind(|file| file.first.txid <= position.txid);
        let path = index.large_path(position);
        match entry.filter(|_| position.txid <= end.txid) {
            Some(entry) => {
                let file = index.disk.open(&path, false);
                let len = file.and_then(|file| file.size()).map_err(io)?;
                entry.large.push((position, len));
            }
            None => index.disk.remove_if_there(&path).map_err(io)?,
        }
    }
    Ok(())
}

pub(super) fn first_header(index: &LogIndex, first: Position) -> Result<Header, Error> {
    let file = index.disk.open(&index.path(first), false).map_err(Error::io("a log file"))?;
    let mut peek = [0; record::PEEK];
    file.read_exact_at(&mut peek, 0).map_err(Error::io("a log file"))?;
    Header::decode(&peek[record::HEAD_LEN..])
        .map_err(|error| Error::corrupt("a log file", error.to_string()))
}

/// Finds the last whole record of a file that begins with `first`: its header, and where it ends.
/// Cuts off what follows if that was never durable.
fn scan(file: &dyn DiskFile, tag: u32, first: Position) -> Result<Option<(Header, u64)>, Error> {
    let io = |error: io::Error| Error::io("reading the log's last file")(error);
    let len = file.size().map_err(io)?;
    let mut at = 0;
    let mut last: Option<Header> = None;
    while at < len {
        let record = read_record(file, at, len).map_err(io)?;
        let record::Found::Whole(header, used) = record::read(&record) else { break };
        let follows = last.as_ref().is_none_or(|last| {
            header.previous() == last.position && header.position > last.position
        });
        if header.tag != tag || !follows {
            return Err(Error::corrupt("the log", "it holds a segment that does not belong there"));
        }
        at += used as u64;
        last = Some(header);
    }
    if at < len {
        let mut rest = vec![0; usize::try_from(len - at).unwrap_or(0)];
        file.read_exact_at(&mut rest, at).map_err(io)?;
        // Without a whole record: all that comes before the file, which its first record says.
        let before = first.txid.saturating_sub(1);
        let durable = last.as_ref().map_or(before, |last| last.position.txid);
        if record::claims_more_durable_than(durable, &rest) {
            return Err(Error::corrupt("the log", "a segment that was durable does not hold"));
        }
        file.set_len(at).map_err(Error::io("cutting the log's torn tail"))?;
        file.sync_data().map_err(Error::io("cutting the log's torn tail"))?;
    }
    Ok(last.map(|last| (last, at)))
}

/// As many bytes as the record at `at` says it has, as far as the file goes.
fn read_record(file: &dyn DiskFile, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let read = |wanted: u64| {
        let mut bytes = vec![0; usize::try_from(wanted.min(len - at)).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, at)?;
        Ok::<_, io::Error>(bytes)
    };
    let head = read(record::HEAD_LEN as u64)?;
    match record::Head::decode(&head) {
        Some(head) => read(super::record_len(head.len)),
        None => Ok(head),
    }
}
