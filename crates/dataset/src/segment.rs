//! A segment: the pages that one group of transactions changed, as bytes.
//!
//! Layout, little-endian: a header of 96 bytes, then a body. The body is `page_count` page numbers
//! (u32, rising) and then as many pages, plain or as one zstd frame. Both parts carry a hash.
//!
//! ```text
//!  0 magic "VSG1"    4 flags (1 = zstd)   8 epoch           16 txid
//! 24 previous epoch 32 wall time, ms     40 page size       44 database size, pages
//! 48 page count     52 body length       56 checksum before 64 checksum after
//! 72 dataset tag    76 zero              80 body hash       88 header hash
//! ```
//!
//! A segment with flag 2 is a large one: its pages are in a file of their own, and its body says
//! which (see the module `large`).
//!
//! The decoder takes bytes from anywhere: it never panics and allocates no more than
//! [`MAX_RAW_BODY`] and what the header, once its hash holds, declares.

use bytes::Bytes;
use verge_types::Position;

use crate::checksum::hash;
use crate::genesis::is_page_size;

/// Bytes of a header.
pub const HEADER_LEN: usize = 96;
/// Largest body before compression that is read: page numbers and pages. What is longer than
/// [`crate::Settings::large_bytes`] is not written as one any more, but older logs have them.
pub const MAX_RAW_BODY: u64 = 3 << 30;

const MAGIC: &[u8; 4] = b"VSG1";
const FLAG_ZSTD: u32 = 1;
const FLAG_LARGE: u32 = 2;
/// Bytes of a large segment's body.
pub(crate) const LARGE_BODY: usize = 24;

/// How bodies are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    /// zstd at this level, when it makes the body smaller.
    Zstd(i32),
}

/// Everything about a segment but its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub position: Position,
    /// Epoch of the segment before; its txid is one less.
    pub previous_epoch: u64,
    /// The primary's clock when the group was committed, ms since 1970.
    pub wall_ms: u64,
    pub page_size: u32,
    /// Size of the database after the segment, in pages.
    pub db_pages: u32,
    pub page_count: u32,
    /// Stored length of the body, in bytes.
    pub body_len: u32,
    pub checksum_before: u64,
    pub checksum_after: u64,
    /// [`verge_types::DatasetId::tag`].
    pub tag: u32,
    flags: u32,
    body_hash: u64,
}

/// Why bytes are not a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("it is cut short")]
    Short,
    #[error("it does not begin as a segment of this format")]
    Magic,
    #[error("its header's hash does not hold")]
    HeaderHash,
    #[error("its body's hash does not hold")]
    BodyHash,
    #[error("its header contradicts itself: {0}")]
    Header(&'static str),
    #[error("its body cannot be decompressed to the declared size")]
    Compression,
    #[error("its page numbers do not rise within the database")]
    Pages,
    #[error("its pages are not in it but in a file of their own")]
    Large,
    #[error("a part of it does not fit: {0}")]
    Part(&'static str),
}

impl Header {
    pub fn previous(&self) -> Position {
        Position::new(self.previous_epoch, self.position.txid.saturating_sub(1))
    }

    /// Length of the whole segment, in bytes.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.body_len as usize
    }

    /// Whether its pages are in a file of their own, and not in the segment.
    pub fn is_large(&self) -> bool {
        self.flags & FLAG_LARGE != 0
    }

    /// Whether `bytes` are this header's whole segment and the body's hash holds; does not
    /// decompress.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.encoded_len() && hash(&bytes[HEADER_LEN..]) == self.body_hash
    }

    fn raw_len(&self) -> u64 {
        u64::from(self.page_count) * (4 + u64::from(self.page_size))
    }

    /// Reads a header from the beginning of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes: &[u8; HEADER_LEN] =
            bytes.get(..HEADER_LEN).and_then(|b| b.try_into().ok()).ok_or(DecodeError::Short)?;
        if &bytes[..4] != MAGIC {
            return Err(DecodeError::Magic);
        }
        if hash(&bytes[..88]) != get_u64(bytes, 88) {
            return Err(DecodeError::HeaderHash);
        }
        let header = Self {
            flags: get_u32(bytes, 4),
            position: Position::new(get_u64(bytes, 8), get_u64(bytes, 16)),
            previous_epoch: get_u64(bytes, 24),
            wall_ms: get_u64(bytes, 32),
            page_size: get_u32(bytes, 40),
            db_pages: get_u32(bytes, 44),
            page_count: get_u32(bytes, 48),
            body_len: get_u32(bytes, 52),
            checksum_before: get_u64(bytes, 56),
            checksum_after: get_u64(bytes, 64),
            tag: get_u32(bytes, 72),
            body_hash: get_u64(bytes, 80),
        };
        let wrong = if !is_page_size(header.page_size) {
            "page size"
        } else if header.position.txid == 0 || header.position.epoch < header.previous_epoch {
            "position"
        } else if header.page_count > header.db_pages || header.db_pages == 0 {
            "page count"
        } else if header.flags > FLAG_LARGE {
            "flags"
        } else if header.is_large() && header.body_len as usize != LARGE_BODY {
            "body length"
        } else if !header.is_large() && header.raw_len() > MAX_RAW_BODY {
            "size"
        } else if header.flags == 0 && u64::from(header.body_len) != header.raw_len() {
            "body length"
        } else {
            return Ok(header);
        };
        Err(DecodeError::Header(wrong))
    }

    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(MAGIC);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(4, &self.flags.to_le_bytes());
        put(8, &self.position.epoch.to_le_bytes());
        put(16, &self.position.txid.to_le_bytes());
        put(24, &self.previous_epoch.to_le_bytes());
        put(32, &self.wall_ms.to_le_bytes());
        put(40, &self.page_size.to_le_bytes());
        put(44, &self.db_pages.to_le_bytes());
        put(48, &self.page_count.to_le_bytes());
        put(52, &self.body_len.to_le_bytes());
        put(56, &self.checksum_before.to_le_bytes());
        put(64, &self.checksum_after.to_le_bytes());
        put(72, &self.tag.to_le_bytes());
        put(80, &self.body_hash.to_le_bytes());
        let own = hash(&bytes[..88]);
        bytes[88..].copy_from_slice(&own.to_le_bytes());
        bytes
    }
}

/// What its writer knows of a segment before it is bytes.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    pub position: Position,
    pub previous_epoch: u64,
    pub wall_ms: u64,
    pub page_size: u32,
    pub db_pages: u32,
    pub checksum_before: u64,
    pub checksum_after: u64,
    pub tag: u32,
}

impl Draft {
    /// `pages` rise by number. `None` if they are more than a segment can hold.
    pub fn encode<'a>(
        self,
        pages: impl ExactSizeIterator<Item = (u32, &'a [u8])> + Clone,
        compression: Compression,
    ) -> Option<Bytes> {
        let page_count = u32::try_from(pages.len()).ok()?;
        let raw_len = u64::from(page_count) * (4 + u64::from(self.page_size));
        if raw_len > MAX_RAW_BODY {
            return None;
        }
        let raw_len = usize::try_from(raw_len).ok()?;
        let small = match compression {
            Compression::Zstd(level) => compressed(pages.clone(), raw_len, level),
            Compression::None => None,
        };
        let (bytes, flags) = match small {
            Some(bytes) => (bytes, FLAG_ZSTD),
            None => {
                let mut bytes = Vec::with_capacity(HEADER_LEN + raw_len);
                bytes.resize(HEADER_LEN, 0);
                put_body(pages, &mut bytes).ok()?;
                (bytes, 0)
            }
        };
        let mut bytes = bytes;
        let body_len = u32::try_from(bytes.len() - HEADER_LEN).ok()?;
        let header = self.header(flags, page_count, body_len, hash(&bytes[HEADER_LEN..]));
        bytes[..HEADER_LEN].copy_from_slice(&header.encode());
        Some(Bytes::from(bytes))
    }

    /// The record of a large segment of so many pages; `body` says where they are.
    pub(crate) fn large(&self, page_count: u32, body: &[u8; LARGE_BODY]) -> Bytes {
        let header = self.header(FLAG_LARGE, page_count, LARGE_BODY as u32, hash(body));
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(body);
        bytes.into()
    }

    fn header(&self, flags: u32, page_count: u32, body_len: u32, body_hash: u64) -> Header {
        Header {
            position: self.position,
            previous_epoch: self.previous_epoch,
            wall_ms: self.wall_ms,
            page_size: self.page_size,
            db_pages: self.db_pages,
            page_count,
            body_len,
            checksum_before: self.checksum_before,
            checksum_after: self.checksum_after,
            tag: self.tag,
            flags,
            body_hash,
        }
    }
}

/// Bodies longer than this are compressed as they are gathered, so that they are not in memory
/// twice more.
const GATHERED: usize = 1 << 20;

/// Room for a header and the compressed body, if that is shorter than `raw_len`.
fn compressed<'a>(
    pages: impl Iterator<Item = (u32, &'a [u8])> + Clone,
    raw_len: usize,
    level: i32,
) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEADER_LEN];
    if raw_len <= GATHERED {
        let mut raw = Vec::with_capacity(raw_len);
        put_body(pages, &mut raw).ok()?;
        bytes.extend_from_slice(&zstd::bulk::compress(&raw, level).ok()?);
    } else {
        let mut encoder = zstd::stream::write::Encoder::new(bytes, level).ok()?;
        // Written into the frame, as one that is compressed at once has it.
        encoder.set_pledged_src_size(Some(raw_len as u64)).ok()?;
        put_body(pages, &mut encoder).ok()?;
        bytes = encoder.finish().ok()?;
    }
    (bytes.len() < HEADER_LEN + raw_len).then_some(bytes)
}

fn put_body<'a>(
    pages: impl Iterator<Item = (u32, &'a [u8])> + Clone,
    out: &mut impl std::io::Write,
) -> std::io::Result<()> {
    for (number, _) in pages.clone() {
        out.write_all(&number.to_le_bytes())?;
    }
    for (_, page) in pages {
        out.write_all(page)?;
    }
    Ok(())
}

/// A decoded segment: both hashes hold, and the pages are plain.
pub struct Segment {
    pub header: Header,
    body: Bytes,
}

impl Segment {
    /// Decodes exactly one segment. Plain bodies are shared with `bytes`, not copied.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let header = Header::decode(bytes)?;
        if bytes.len() != header.encoded_len() {
            return Err(DecodeError::Short);
        }
        if header.is_large() {
            return Err(DecodeError::Large);
        }
        let stored = bytes.slice(HEADER_LEN..);
        if hash(&stored) != header.body_hash {
            return Err(DecodeError::BodyHash);
        }
        let body = if header.flags & FLAG_ZSTD == 0 {
            stored
        } else {
            let raw_len =
                usize::try_from(header.raw_len()).map_err(|_| DecodeError::Compression)?;
            let raw =
                zstd::bulk::decompress(&stored, raw_len).map_err(|_| DecodeError::Compression)?;
            if raw.len() != raw_len {
                return Err(DecodeError::Compression);
            }
            Bytes::from(raw)
        };
        let segment = Self { header, body };
        let mut last = 0;
        for (number, _) in segment.pages() {
            if number <= last || number > segment.header.db_pages {
                return Err(DecodeError::Pages);
            }
            last = number;
        }
        Ok(segment)
    }

    /// Page numbers, rising, each with its image.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = (u32, &[u8])> + Clone {
        pages_of(&self.body, self.header.page_count, self.header.page_size)
    }
}

/// The pages of a plain body of that many.
pub(crate) fn pages_of(
    body: &[u8],
    count: u32,
    page_size: u32,
) -> impl ExactSizeIterator<Item = (u32, &[u8])> + Clone {
    let (numbers, images) = body.split_at(4 * count as usize);
    let numbers = numbers.chunks_exact(4).map(|number| get_u32(number, 0));
    numbers.zip(images.chunks_exact(page_size as usize))
}

/// `bytes` reach that far: every caller has checked.
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

pub(crate) fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests;
