//! Reading a large segment's file: part by part and checked, or as plain bytes to be shipped.

use std::sync::Arc;

use bytes::Bytes;

use super::part::{Chain, HEAD_LEN, Head, Part};
use super::record::Place;
use crate::disk::DiskFile;
use crate::error::Error;
use crate::segment::{DecodeError, Header};

/// Bytes that are shipped at a time.
const CHUNK: u64 = 256 << 10;

/// Yields the parts, each checked, and an error if they are not all that the record names.
pub(crate) struct Reader {
    file: Arc<dyn DiskFile>,
    chain: Chain,
    place: Place,
}

impl Reader {
    pub(crate) fn new(file: Arc<dyn DiskFile>, header: &Header, place: Place) -> Self {
        Self { file, chain: Chain::of(header), place }
    }

    pub(crate) fn next_part(&mut self) -> Result<Option<Part>, Error> {
        if self.chain.parts == self.place.parts {
            let whole = self.place.is_end_of(&self.chain);
            return if whole { Ok(None) } else { Err(damaged(DecodeError::Short)) };
        }
        let io = |error| Error::io("reading a large segment's file")(error);
        let mut head = [0; HEAD_LEN];
        let at = self.chain.len;
        self.file.read_exact_at(&mut head, at).map_err(io)?;
        let head = Head::decode(&head).map_err(damaged)?;
        let mut stored = vec![0; self.chain.expect(&head).map_err(damaged)?];
        self.file.read_exact_at(&mut stored, at + HEAD_LEN as u64).map_err(io)?;
        self.chain.take(&head, &stored).map(Some).map_err(damaged)
    }

    /// All pages, rising by number.
    pub(crate) fn each_page(
        mut self,
        mut take: impl FnMut(u32, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while let Some(part) = self.next_part()? {
            for (number, page) in part.pages() {
                take(number, page)?;
            }
        }
        Ok(())
    }
}

fn damaged(error: DecodeError) -> Error {
    Error::corrupt("a large segment's file", error.to_string())
}

/// The bytes of a large segment's file, in order, to be pushed into a [`super::Receiving`].
pub struct LargeFile {
    file: Arc<dyn DiskFile>,
    at: u64,
    len: u64,
}

impl LargeFile {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> Result<Self, Error> {
        let len = file.size().map_err(Error::io("reading a large segment's file"))?;
        Ok(Self { file, at: 0, len })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// The next bytes, or `None` at the end. Reads from disk on this thread; not checked here, but
    /// by whoever receives them.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let count = CHUNK.min(self.len - self.at);
        if count == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        let read = self.file.read_exact_at(&mut bytes, self.at);
        read.map_err(Error::io("reading a large segment's file"))?;
        self.at += count;
        Ok(Some(bytes.into()))
    }
}
