//! One part of a large segment's pages, as bytes.
//!
//! Layout, little-endian: a head of 48 bytes, then page numbers and pages like a segment's body,
//! plain or as one zstd frame. Numbers rise from part to part.
//!
//! ```text
//!  0 magic "VSL1"     4 flags (1 = zstd)           8 number, from 0   12 page count
//! 16 body length     20 zero                      24 the head hash of the part before
//! 32 body hash       40 head hash
//! ```
//!
//! Each head's hash covers the one before, so the last stands for all of them. The first goes on
//! from its segment's name: parts of another segment do not fit.

use crate::checksum::hash;
use crate::segment::{DecodeError, Header, get_u32, get_u64, pages_of};

pub(super) const HEAD_LEN: usize = 48;
/// Pages of a part before compression, bytes.
pub(super) const PART_BYTES: u32 = 1 << 20;

const MAGIC: &[u8; 4] = b"VSL1";
const FLAG_ZSTD: u32 = 1;

/// Pages in a part, at most. At least 16, since pages have 65,536 bytes at most.
pub(super) fn most_pages(page_size: u32) -> u32 {
    PART_BYTES / page_size
}

/// What precedes a part's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    zstd: bool,
    number: u32,
    page_count: u32,
    body_len: u32,
    before: u64,
    body_hash: u64,
    own: u64,
}

impl Head {
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let bytes = bytes.get(..HEAD_LEN).ok_or(DecodeError::Short)?;
        let own = get_u64(bytes, 40);
        if &bytes[..4] != MAGIC || hash(&bytes[..40]) != own {
            return Err(DecodeError::Part("its head does not hold"));
        }
        let flags = get_u32(bytes, 4);
        if flags & !FLAG_ZSTD != 0 {
            return Err(DecodeError::Part("its flags are not known"));
        }
        Ok(Self {
            zstd: flags == FLAG_ZSTD,
            number: get_u32(bytes, 8),
            page_count: get_u32(bytes, 12),
            body_len: get_u32(bytes, 16),
            before: get_u64(bytes, 24),
            body_hash: get_u64(bytes, 32),
            own,
        })
    }

    fn encode(&mut self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..4].copy_from_slice(MAGIC);
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(4, &u32::from(self.zstd).to_le_bytes());
        put(8, &self.number.to_le_bytes());
        put(12, &self.page_count.to_le_bytes());
        put(16, &self.body_len.to_le_bytes());
        put(24, &self.before.to_le_bytes());
        put(32, &self.body_hash.to_le_bytes());
        self.own = hash(&bytes[..40]);
        bytes[40..].copy_from_slice(&self.own.to_le_bytes());
        bytes
    }
}

/// Pages of one part, plain.
pub(crate) struct Part {
    body: Vec<u8>,
    count: u32,
    page_size: u32,
}

impl Part {
    /// Page numbers, rising, each with its image.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (u32, &[u8])> {
        pages_of(&self.body, self.count, self.page_size)
    }
}

/// How far a chain of parts goes that has been written or read.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    page_size: u32,
    db_pages: u32,
    /// The last head's hash.
    pub(super) hash: u64,
    pub(super) parts: u32,
    pub(super) pages: u32,
    /// Bytes.
    pub(super) len: u64,
    last_page: u32,
}

impl Chain {
    pub(super) fn new(epoch: u64, txid: u64, tag: u32, page_size: u32, db_pages: u32) -> Self {
        let mut name = [0; 20];
        name[..8].copy_from_slice(&epoch.to_le_bytes());
        name[8..16].copy_from_slice(&txid.to_le_bytes());
        name[16..].copy_from_slice(&tag.to_le_bytes());
        let hash = hash(&name);
        Self { page_size, db_pages, hash, parts: 0, pages: 0, len: 0, last_page: 0 }
    }

    pub(super) fn of(segment: &Header) -> Self {
        let at = segment.position;
        Self::new(at.epoch, at.txid, segment.tag, segment.page_size, segment.db_pages)
    }

    /// Bytes of the body behind a head, if that is the next part's.
    pub(super) fn expect(&self, head: &Head) -> Result<usize, DecodeError> {
        let raw = head.page_count as usize * (4 + self.page_size as usize);
        let why = if head.number != self.parts || head.before != self.hash {
            "it is not the next one"
        } else if head.page_count == 0 || head.page_count > most_pages(self.page_size) {
            "its page count is out of bounds"
        } else if head.body_len as usize > raw || (!head.zstd && head.body_len as usize != raw) {
            "its length is out of bounds"
        } else {
            return Ok(head.body_len as usize);
        };
        Err(DecodeError::Part(why))
    }

    /// Goes on behind a part whose hashes hold, without looking at its pages.
    pub(super) fn pass(&mut self, head: &Head, stored: &[u8]) -> Result<(), DecodeError> {
        if stored.len() != self.expect(head)? {
            return Err(DecodeError::Short);
        }
        if hash(stored) != head.body_hash {
            return Err(DecodeError::BodyHash);
        }
        self.step(head);
        Ok(())
    }

    /// Takes the part whose head was expected.
    pub(super) fn take(&mut self, head: &Head, stored: &[u8]) -> Result<Part, DecodeError> {
        let mut after = self.clone();
        after.pass(head, stored)?;
        let raw = head.page_count as usize * (4 + self.page_size as usize);
        let body = if head.zstd {
            zstd::bulk::decompress(stored, raw).map_err(|_| DecodeError::Compression)?
        } else {
            stored.to_vec()
        };
        if body.len() != raw {
            return Err(DecodeError::Compression);
        }
        let part = Part { body, count: head.page_count, page_size: self.page_size };
        let mut last_page = self.last_page;
        for (number, _) in part.pages() {
            if number <= last_page || number > self.db_pages {
                return Err(DecodeError::Pages);
            }
            last_page = number;
        }
        *self = Self { last_page, ..after };
        Ok(part)
    }

    /// The bytes of the next part. `raw` is its numbers and pages, `small` the same compressed.
    pub(super) fn put(&mut self, count: u32, raw: &[u8], small: Option<&[u8]>) -> [u8; HEAD_LEN] {
        let stored = small.unwrap_or(raw);
        let mut head = Head {
            zstd: small.is_some(),
            number: self.parts,
            page_count: count,
            // A part has little more than `PART_BYTES`.
            body_len: u32::try_from(stored.len()).unwrap_or(u32::MAX),
            before: self.hash,
            body_hash: hash(stored),
            own: 0,
        };
        let bytes = head.encode();
        self.step(&head);
        bytes
    }

    fn step(&mut self, head: &Head) {
        self.hash = head.own;
        self.parts += 1;
        self.pages += head.page_count;
        self.len += (HEAD_LEN + head.body_len as usize) as u64;
    }
}
