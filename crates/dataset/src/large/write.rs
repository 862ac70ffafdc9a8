//! Writing a large segment's file, page by page.

use std::io;
use std::sync::Arc;

use super::Place;
use super::part::{Chain, most_pages};
use crate::disk::DiskFile;
use crate::segment::{Compression, Draft};

/// A file that is being written. It has one part in memory.
pub(crate) struct Writer {
    file: Arc<dyn DiskFile>,
    chain: Chain,
    most: u32,
    count: u32,
    numbers: Vec<u8>,
    images: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl Writer {
    /// Into `file`, which is to be empty.
    pub(crate) fn new(
        file: Arc<dyn DiskFile>,
        draft: &Draft,
        compression: Compression,
    ) -> io::Result<Self> {
        let at = draft.position;
        let compressor = match compression {
            Compression::None => None,
            Compression::Zstd(level) => Some(zstd::bulk::Compressor::new(level)?),
        };
        Ok(Self {
            file,
            chain: Chain::new(at.epoch, at.txid, draft.tag, draft.page_size, draft.db_pages),
            most: most_pages(draft.page_size),
            count: 0,
            numbers: Vec::new(),
            images: Vec::new(),
            compressor,
        })
    }

    /// The next page; numbers rise.
    pub(crate) fn put(&mut self, number: u32, page: &[u8]) -> io::Result<()> {
        self.numbers.extend_from_slice(&number.to_le_bytes());
        self.images.extend_from_slice(page);
        self.count += 1;
        if self.count < self.most { Ok(()) } else { self.flush() }
    }

    /// Writes what is left and syncs.
    pub(crate) fn finish(mut self) -> io::Result<Place> {
        if self.count > 0 {
            self.flush()?;
        }
        self.file.sync_data()?;
        let Chain { len, hash, parts, pages, .. } = self.chain;
        Ok(Place { len, hash, parts, pages })
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut raw = std::mem::take(&mut self.numbers);
        raw.append(&mut self.images);
        let small = match &mut self.compressor {
            Some(compressor) => Some(compressor.compress(&raw)?).filter(|s| s.len() < raw.len()),
            None => None,
        };
        let at = self.chain.len;
        let mut bytes = self.chain.put(self.count, &raw, small.as_deref()).to_vec();
        bytes.extend_from_slice(small.as_deref().unwrap_or(&raw));
        self.file.write_all_at(&bytes, at)?;
        self.count = 0;
        Ok(())
    }
}
