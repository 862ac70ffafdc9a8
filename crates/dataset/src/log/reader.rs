//! Reads segments in order, from a position on, up to what is durable.

use std::sync::Arc;

use bytes::Bytes;
use verge_types::Position;

use super::record::{HEAD_LEN, Head, PEEK};
use super::{LogIndex, record_len};
use crate::disk::DiskFile;
use crate::error::Error;
use crate::large::{LargeFile, Place, Reader};
use crate::segment::{DecodeError, Header, Segment};

/// A segment of the log, as it can be read.
pub(crate) enum Stored {
    Whole(Segment),
    Large(Header, Reader),
}

impl Stored {
    pub(crate) fn header(&self) -> &Header {
        match self {
            Self::Whole(segment) => &segment.header,
            Self::Large(header, _) => header,
        }
    }

    /// All pages, rising by number. One part of a large segment is in memory at a time.
    pub(crate) fn each_page(
        self,
        mut take: impl FnMut(u32, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Self::Whole(segment) => {
                segment.pages().try_for_each(|(number, page)| take(number, page))
            }
            Self::Large(_, reader) => reader.each_page(take),
        }
    }
}

/// A place in a dataset's log. Each segment that it yields was durable and is checked again.
pub struct LogReader {
    index: Arc<LogIndex>,
    /// The last segment read, or where reading began.
    after: Position,
    /// File (by its first position) and where in it the next record is.
    place: Option<(Position, Arc<dyn DiskFile>, u64)>,
}

impl LogReader {
    /// Reads what follows `after`.
    ///
    /// # Errors
    /// `NeedSnapshot` if the log no longer reaches back to it, `Diverged` if it is not in this
    /// log's history.
    pub(crate) fn new(index: Arc<LogIndex>, after: Position) -> Result<Self, Error> {
        let mut reader = Self { index, after, place: None };
        let (base, end) = {
            let files = reader.index.files.lock();
            (files.base, files.end)
        };
        let diverged = Error::Diverged { at: after, why: "it is not in this history" };
        if after.txid > end.txid || (after.txid == end.txid && after != end) {
            return Err(diverged);
        }
        if after.txid < base.txid {
            return Err(Error::NeedSnapshot { from: after });
        }
        if after == end {
            return Ok(reader);
        }
        // Walk to it by headers, from the beginning of the file that has its successor.
        let start = {
            let files = reader.index.files.lock();
            let next = after.txid + 1;
            files.list.iter().rfind(|file| file.first.txid <= next).map(|file| file.first)
        };
        let Some(start) = start else { return Err(Error::NeedSnapshot { from: after }) };
        reader.enter(start)?;
        while let Some((header, _)) = reader.peek()? {
            if header.position.txid > after.txid {
                if header.previous() != after {
                    return Err(diverged);
                }
                break;
            }
            reader.step(&header);
        }
        reader.after = after;
        Ok(reader)
    }

    pub(crate) fn reads(&self, index: &Arc<LogIndex>) -> bool {
        Arc::ptr_eq(&self.index, index)
    }

    /// The last segment read, or where reading began.
    pub fn position(&self) -> Position {
        self.after
    }

    /// The next durable segment, or `None` at the end of what is durable now; of a large one, its
    /// record. Reads files, mostly from the page cache; does not wait.
    pub fn next_segment(&mut self) -> Result<Option<(Header, Bytes)>, Error> {
        let next = self.next_within(usize::MAX)?;
        Ok(next.and_then(|(header, bytes)| Some((header, bytes?))))
    }

    /// The next durable segment with its pages, for whoever takes them one by one.
    pub(crate) fn next_stored(&mut self) -> Result<Option<Stored>, Error> {
        let Some((header, bytes)) = self.next_segment()? else { return Ok(None) };
        self.stored(&header, &bytes).map(Some)
    }

    /// What was just read, with its pages.
    pub(crate) fn stored(&self, header: &Header, bytes: &Bytes) -> Result<Stored, Error> {
        let damaged =
            |error: DecodeError| Error::corrupt("a segment of the log", error.to_string());
        if !header.is_large() {
            return Segment::decode(bytes).map(Stored::Whole).map_err(damaged);
        }
        let (header, place) = Place::decode(bytes).map_err(damaged)?;
        let reader = Reader::new(self.index.open_large(header.position)?, &header, place);
        Ok(Stored::Large(header, reader))
    }

    /// The bytes of the file with the pages of a large segment that was read before.
    ///
    /// # Errors
    /// `NeedSnapshot` once retention has passed it by.
    pub fn large_file(&self, header: &Header) -> Result<LargeFile, Error> {
        LargeFile::new(self.index.open_large(header.position)?)
    }

    /// The same, but only the header of a segment that is longer than `longest` bytes.
    pub fn next_within(
        &mut self,
        longest: usize,
    ) -> Result<Option<(Header, Option<Bytes>)>, Error> {
        if self.place.is_none() {
            let start = {
                let files = self.index.files.lock();
                if files.end.txid <= self.after.txid {
                    return Ok(None);
                }
                let next = self.after.txid + 1;
                files.list.iter().rfind(|file| file.first.txid <= next).map(|file| file.first)
            };
            *self = match start {
                Some(_) => Self::new(self.index.clone(), self.after)?,
                None => return Err(Error::NeedSnapshot { from: self.after }),
            };
        }
        let Some((header, at)) = self.peek()? else { return Ok(None) };
        let damaged = || Error::corrupt("the log", format!("{} does not hold", header.position));
        if header.previous() != self.after {
            // What is between was removed while an older file was read to its end.
            let passed_by = self.index.base().txid > self.after.txid;
            let gone = Error::NeedSnapshot { from: self.after };
            return Err(if passed_by { gone } else { damaged() });
        }
        let Some((_, file, _)) = &self.place else { return Ok(None) };
        if header.encoded_len() > longest {
            self.step(&header);
            return Ok(Some((header, None)));
        }
        let mut bytes = vec![0; header.encoded_len()];
        file.read_exact_at(&mut bytes, at).map_err(Error::io("reading the log"))?;
        if !header.holds(&bytes) {
            return Err(damaged());
        }
        self.step(&header);
        Ok(Some((header, Some(bytes.into()))))
    }

    /// The next record's header and where its segment begins; moves to the next file at the end
    /// of one.
    fn peek(&mut self) -> Result<Option<(Header, u64)>, Error> {
        loop {
            let Some((first, file, at)) = self.place.clone() else { return Ok(None) };
            let (len, next_file) = {
                let files = self.index.files.lock();
                let place = files.list.iter().position(|entry| entry.first == first);
                match place {
                    Some(place) => {
                        (files.list[place].len, files.list.get(place + 1).map(|entry| entry.first))
                    }
                    // Removed meanwhile: the open file is read to its end.
                    None => (
                        file.size().map_err(Error::io("reading the log"))?,
                        files.list.first().map(|entry| entry.first),
                    ),
                }
            };
            if at >= len {
                match next_file {
                    Some(next) if next.txid > first.txid => self.enter(next)?,
                    _ => return Ok(None),
                }
                continue;
            }
            let mut peek = [0; PEEK];
            file.read_exact_at(&mut peek, at).map_err(Error::io("reading the log"))?;
            let header = Head::decode(&peek)
                .and_then(|head| {
                    let header = Header::decode(&peek[HEAD_LEN..]).ok()?;
                    (header.encoded_len() == head.len as usize).then_some(header)
                })
                .ok_or_else(|| Error::corrupt("the log", "a record's head does not hold"))?;
            return Ok(Some((header, at + HEAD_LEN as u64)));
        }
    }

    fn enter(&mut self, first: Position) -> Result<(), Error> {
        let path = self.index.path(first);
        let file = match self.index.disk.open(&path, false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NeedSnapshot { from: self.after });
            }
            other => other.map_err(Error::io("opening a log file"))?,
        };
        self.place = Some((first, file, 0));
        Ok(())
    }

    fn step(&mut self, header: &Header) {
        if let Some((_, _, at)) = &mut self.place {
            *at += record_len(u32::try_from(header.encoded_len()).unwrap_or(u32::MAX));
        }
        self.after = header.position;
    }
}
