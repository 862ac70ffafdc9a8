//! How segments lie in a log file: each behind a small head that says how far the log was durable
//! when it was written. That tells a torn tail (cut off) from damage to what was acknowledged
//! (an error).

use crate::checksum::hash;
use crate::segment::{HEADER_LEN, Header};

pub(super) const HEAD_LEN: usize = 24;
const MAGIC: u32 = 0x4352_4556; // "VERC"

/// `len` bytes of segment follow; everything up to `durable` (txid) was synced before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) len: u32,
    pub(super) durable: u64,
}

impl Head {
    pub(super) fn encode(self) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.durable.to_le_bytes());
        let own = hash(&bytes[..16]);
        bytes[16..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEAD_LEN)?;
        let u32_at = |at: usize| bytes[at..at + 4].try_into().ok().map(u32::from_le_bytes);
        let u64_at = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
        let holds = u32_at(0)? == MAGIC && hash(&bytes[..16]) == u64_at(16)?;
        holds.then_some(Self { len: u32_at(4)?, durable: u64_at(8)? })
    }
}

/// What the beginning of `bytes` is.
pub(super) enum Found {
    /// A whole record: the segment's header, and the record's length in bytes.
    Whole(Header, usize),
    Nothing,
}

pub(super) fn read(bytes: &[u8]) -> Found {
    let whole = || {
        let head = Head::decode(bytes)?;
        let segment = bytes.get(HEAD_LEN..)?.get(..head.len as usize)?;
        let header = Header::decode(segment).ok()?;
        header.holds(segment).then_some((header, HEAD_LEN + segment.len()))
    };
    whole().map_or(Found::Nothing, |(header, len)| Found::Whole(header, len))
}

/// Whether some record in `tail` says that more than `txid` was durable: then what lies before it
/// is damage, not a torn write.
pub(super) fn claims_more_durable_than(txid: u64, tail: &[u8]) -> bool {
    let magic = MAGIC.to_le_bytes();
    (0..tail.len().saturating_sub(HEAD_LEN - 1))
        .filter(|at| tail[*at..].starts_with(&magic))
        .filter_map(|at| Head::decode(&tail[at..]))
        .any(|head| head.durable > txid)
}

/// Bytes needed to read a segment's header from a record's beginning.
pub(super) const PEEK: usize = HEAD_LEN + HEADER_LEN;
