//! Taking a large segment's file in, at a replica.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use verge_types::Position;

use super::part::{Chain, HEAD_LEN, Head};
use super::record::Place;
use super::{LargeFile, Reader};
use crate::dataset::Dataset;
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::log::{RECEIVING, large_name};
use crate::segment::{DecodeError, Header};

/// Several may come in for one position, from a primary that was and one that is.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A large segment that is coming in. Its bytes go to a file beside the log, each part once it is
/// whole and checked; dropped before it was applied, it leaves nothing.
pub struct Receiving {
    disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) record: Bytes,
    pub(crate) header: Header,
    pub(crate) place: Place,
    chain: Chain,
    /// The beginning of the next part.
    rest: Vec<u8>,
}

impl Dataset {
    /// Begins to take in a large segment, of which `record` is what the log has (see
    /// [`Header::is_large`]). Then [`Self::apply_large`] applies it.
    ///
    /// # Errors
    /// `Corrupt` if it is no record of a large segment of this dataset.
    pub fn receive(&self, record: &Bytes) -> Result<Receiving, Error> {
        let wrong = |why: String| Error::corrupt("a large segment", why);
        let (header, place) =
            Place::decode(record).map_err(|error: DecodeError| wrong(error.to_string()))?;
        let shared = &self.shared;
        if header.tag != shared.id.tag() || header.page_size != shared.page_size {
            return Err(wrong("it belongs to another dataset".to_owned()));
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}{RECEIVING}", large_name(header.position));
        let path = shared.layout.log().join(name);
        let disk = shared.config.disk.clone();
        let file = disk.open(&path, true).map_err(io)?;
        let chain = Chain::of(&header);
        let (record, rest) = (record.clone(), Vec::new());
        let receiving = Receiving { disk, path, file, record, header, place, chain, rest };
        receiving.file.set_len(0).map_err(io)?;
        Ok(receiving)
    }

    /// Applies a large segment that has come in whole. Like [`Self::apply`], but nothing else is
    /// applied with it, and one part of it is in memory at a time.
    pub async fn apply_large(&self, segment: Receiving) -> Result<Position, Error> {
        let applied = self.control(move |core, _| core.apply_large(&segment)).await?;
        applied.map(|head| head.position)
    }

    /// The pages of a large segment of this log, to be pushed into a [`Receiving`] elsewhere.
    ///
    /// # Errors
    /// `NeedSnapshot` once retention has passed it by.
    pub fn large_file(&self, position: Position) -> Result<LargeFile, Error> {
        LargeFile::new(self.shared.log_index.lock().open_large(position)?)
    }
}

impl Receiving {
    /// Bytes that are to come in.
    pub fn size(&self) -> u64 {
        self.place.len
    }

    /// Takes the file's next bytes, cut anywhere. Writes to disk on this thread.
    ///
    /// # Errors
    /// `Corrupt` if they are not that segment's: then it is of no use any more.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.chain.parts == self.place.parts {
                return Err(refused(DecodeError::Part("it is one too many")));
            }
            self.fill(&mut bytes, HEAD_LEN);
            if self.rest.len() < HEAD_LEN {
                return Ok(());
            }
            let head = Head::decode(&self.rest).map_err(refused)?;
            let len = HEAD_LEN + self.chain.expect(&head).map_err(refused)?;
            self.fill(&mut bytes, len);
            if self.rest.len() < len {
                return Ok(());
            }
            let at = self.chain.len;
            // Its pages are looked at when it is applied.
            self.chain.pass(&head, &self.rest[HEAD_LEN..]).map_err(refused)?;
            self.file.write_all_at(&self.rest, at).map_err(io)?;
            self.rest.clear();
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut &[u8], len: usize) {
        let (now, later) = bytes.split_at(bytes.len().min(len.saturating_sub(self.rest.len())));
        self.rest.extend_from_slice(now);
        *bytes = later;
    }

    /// Whether all of it has come.
    pub fn is_whole(&self) -> bool {
        self.rest.is_empty() && self.place.is_end_of(&self.chain)
    }

    /// Reads what was written, and checks it again.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(self.file.clone(), &self.header, self.place)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // Left over, it is removed when the log is opened.
        let _ = self.disk.remove_if_there(&self.path);
    }
}

fn refused(error: DecodeError) -> Error {
    Error::corrupt("a part of a large segment", error.to_string())
}

fn io(error: std::io::Error) -> Error {
    Error::io("writing a large segment's file")(error)
}
