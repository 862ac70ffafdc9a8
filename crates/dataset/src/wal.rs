//! Reads what SQLite appended to its `-wal`.
//!
//! The file's length says nothing: after a restart, stale frames lie beyond the end. What counts
//! is the header's salts, the checksum chain, and commit frames. Bytes are read once and only
//! what was validated is handed on.

use std::collections::BTreeMap;
use std::io;

use crate::disk::DiskFile;

const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Little-endian checksums; the low bit set means big-endian.
const MAGIC: u32 = 0x377f_0682;
/// Bytes read at once, at least one frame.
const CHUNK: usize = 1 << 20;

/// A frame whose place in the checksum chain holds.
pub(crate) struct Frame<'a> {
    /// Counts from 1 in each generation.
    pub(crate) place: u32,
    /// The page's number.
    pub(crate) number: u32,
    /// The database's size after it, in pages, if it ends a transaction; else 0.
    pub(crate) db_pages: u32,
    pub(crate) page: &'a [u8],
}

/// Where reading of a `-wal` stands: after a commit frame of one of its generations.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalCursor {
    salts: [u32; 2],
    big_endian: bool,
    chain: [u32; 2],
    /// Frames read in this generation.
    frames: u32,
}

/// The last image of each page that whole transactions wrote.
#[derive(Default)]
pub(crate) struct WalPages {
    /// Size of the database after the last commit frame, in pages; 0 if there was none.
    pub(crate) db_pages: u32,
    index: BTreeMap<u32, usize>,
    images: Vec<u8>,
    page_size: usize,
}

impl WalPages {
    pub(crate) fn clear(&mut self, page_size: u32) {
        self.db_pages = 0;
        self.index.clear();
        self.images.clear();
        self.page_size = page_size as usize;
    }

    pub(crate) fn take(&mut self, frame: &Frame<'_>) {
        self.put(frame.number, frame.page);
        if frame.db_pages != 0 {
            self.db_pages = frame.db_pages;
        }
    }

    pub(crate) fn put(&mut self, number: u32, page: &[u8]) {
        let at = *self.index.entry(number).or_insert(self.images.len());
        if at == self.images.len() {
            self.images.extend_from_slice(page);
        } else {
            self.images[at..at + self.page_size].copy_from_slice(page);
        }
    }

    pub(crate) fn contains(&self, number: u32) -> bool {
        self.index.contains_key(&number)
    }

    /// Drops pages beyond the database's end: a later transaction of the group cut it.
    pub(crate) fn cut(&mut self) {
        self.index.split_off(&self.db_pages.saturating_add(1));
    }

    /// Rising by number.
    pub(crate) fn pages(&self) -> impl ExactSizeIterator<Item = (u32, &[u8])> + Clone {
        self.index.iter().map(|(number, at)| (*number, &self.images[*at..*at + self.page_size]))
    }

    /// Keeps the buffer for the next group unless it has become large.
    pub(crate) fn shrink(&mut self) {
        if self.images.capacity() > 4 * CHUNK {
            self.images = Vec::new();
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its header is not of the expected form")]
    Header,
    #[error("it was restarted before all of it was read")]
    Restarted,
    #[error("frame {0} does not hold")]
    Frame(u32),
    #[error("frame {0} does not end a transaction")]
    NotCommitted(u32),
}

impl WalCursor {
    /// Frames read since the last restart.
    pub(crate) fn frames(&self) -> u32 {
        self.frames
    }

    /// Hands on the frames up to `end` (SQLite's own count after a commit), which must end a
    /// transaction.
    ///
    /// `may_restart`: the last checkpoint moved every frame, so SQLite may have begun again. On
    /// error the cursor and what was handed on are of no use any more.
    pub(crate) fn read(
        &mut self,
        file: &dyn DiskFile,
        page_size: u32,
        end: u32,
        may_restart: bool,
        mut take: impl FnMut(Frame<'_>),
    ) -> Result<(), WalError> {
        self.follow_restart(file, page_size, may_restart)?;
        let frame_len = FRAME_HEADER + page_size as usize;
        let per_chunk = u32::try_from((CHUNK / frame_len).max(1)).unwrap_or(1);
        let mut buffer = Vec::new();
        let mut committed = self.frames == end;
        while self.frames < end {
            let count = per_chunk.min(end - self.frames) as usize;
            buffer.resize(count * frame_len, 0);
            let offset = WAL_HEADER as u64 + u64::from(self.frames) * frame_len as u64;
            file.read_exact_at(&mut buffer, offset)?;
            for frame in buffer.chunks_exact(frame_len) {
                let (number, db_pages) = self.frame(frame)?;
                let page = &frame[FRAME_HEADER..];
                take(Frame { place: self.frames, number, db_pages, page });
                committed = db_pages != 0;
            }
        }
        if self.frames > end {
            return Err(WalError::Restarted);
        }
        if !committed {
            return Err(WalError::NotCommitted(end));
        }
        Ok(())
    }

    /// Goes on behind frames that this process wrote itself and need not be read: a replica's.
    pub(crate) fn skip(&mut self, file: &dyn DiskFile, page_size: u32, end: u32) -> io::Result<()> {
        let mut header = [0; WAL_HEADER];
        file.read_exact_at(&mut header, 0)?;
        self.big_endian = be(&header, 0) & 1 == 1;
        self.salts = [be(&header, 16), be(&header, 20)];
        self.frames = end;
        self.chain = [be(&header, 24), be(&header, 28)];
        if let Some(before) = end.checked_sub(1) {
            let frame_len = (FRAME_HEADER + page_size as usize) as u64;
            let mut frame = [0; FRAME_HEADER];
            file.read_exact_at(&mut frame, WAL_HEADER as u64 + u64::from(before) * frame_len)?;
            self.chain = [be(&frame, 16), be(&frame, 20)];
        }
        Ok(())
    }

    fn follow_restart(
        &mut self,
        file: &dyn DiskFile,
        page_size: u32,
        may_restart: bool,
    ) -> Result<(), WalError> {
        let mut header = [0; WAL_HEADER];
        file.read_exact_at(&mut header, 0)?;
        let salts = [be(&header, 16), be(&header, 20)];
        if salts == self.salts && self.frames > 0 {
            return Ok(());
        }
        if self.frames > 0 && !may_restart {
            return Err(WalError::Restarted);
        }
        let magic = be(&header, 0);
        // 65,536 is written as it is here, unlike in the database's header.
        if magic & !1 != MAGIC || be(&header, 8) != page_size {
            return Err(WalError::Header);
        }
        self.big_endian = magic & 1 == 1;
        self.chain = checksum(self.big_endian, [0, 0], &header[..24]);
        if self.chain != [be(&header, 24), be(&header, 28)] {
            return Err(WalError::Header);
        }
        self.salts = salts;
        self.frames = 0;
        Ok(())
    }

    /// Validates the next frame: (page number, database size or 0).
    fn frame(&mut self, frame: &[u8]) -> Result<(u32, u32), WalError> {
        let wrong = WalError::Frame(self.frames + 1);
        if [be(frame, 8), be(frame, 12)] != self.salts {
            return Err(wrong);
        }
        let chain = checksum(self.big_endian, self.chain, &frame[..8]);
        let chain = checksum(self.big_endian, chain, &frame[FRAME_HEADER..]);
        let number = be(frame, 0);
        if chain != [be(frame, 16), be(frame, 20)] || number == 0 {
            return Err(wrong);
        }
        self.chain = chain;
        self.frames += 1;
        Ok((number, be(frame, 4)))
    }
}

/// Reads the page of a frame that was handed on before, and is still of the same generation.
pub(crate) fn read_page(file: &dyn DiskFile, place: u32, page: &mut [u8]) -> io::Result<()> {
    let frame_len = (FRAME_HEADER + page.len()) as u64;
    let at = WAL_HEADER as u64 + u64::from(place - 1) * frame_len + FRAME_HEADER as u64;
    file.read_exact_at(page, at)
}

fn be(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(value)
}

/// SQLite's own checksum over a multiple of 8 bytes.
fn checksum(big_endian: bool, [mut a, mut b]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let word = |bytes: &[u8]| {
        let mut value = [0; 4];
        value.copy_from_slice(bytes);
        if big_endian { u32::from_be_bytes(value) } else { u32::from_le_bytes(value) }
    };
    for pair in bytes.chunks_exact(8) {
        a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
    }
    [a, b]
}
