//! What the log has of a large segment: a header as any segment's, and in place of the pages where
//! they are.
//!
//! ```text
//!  0 bytes of the file    8 head hash of its last part    16 parts    20 zero
//! ```

use bytes::Bytes;

use super::part::Chain;
use crate::segment::{DecodeError, Draft, HEADER_LEN, Header, LARGE_BODY, get_u32, get_u64};

/// Where a large segment's pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Bytes of the file.
    pub(crate) len: u64,
    /// The last part's head hash: stands for all parts.
    pub(crate) hash: u64,
    pub(crate) parts: u32,
    pub(crate) pages: u32,
}

impl Place {
    /// Reads the record of a large segment, whose hashes must hold.
    pub(crate) fn decode(record: &Bytes) -> Result<(Header, Self), DecodeError> {
        let header = Header::decode(record)?;
        if !header.is_large() {
            return Err(DecodeError::Header("its pages are in it"));
        }
        if !header.holds(record) {
            return Err(DecodeError::BodyHash);
        }
        let body = &record[HEADER_LEN..];
        let place = Self {
            len: get_u64(body, 0),
            hash: get_u64(body, 8),
            parts: get_u32(body, 16),
            pages: header.page_count,
        };
        Ok((header, place))
    }

    /// Whether a chain ends here.
    pub(super) fn is_end_of(&self, chain: &Chain) -> bool {
        let of = |chain: &Chain| Self {
            len: chain.len,
            hash: chain.hash,
            parts: chain.parts,
            pages: chain.pages,
        };
        *self == of(chain)
    }

    /// The record for the log.
    pub(crate) fn record(&self, draft: &Draft) -> Bytes {
        let mut body = [0; LARGE_BODY];
        body[..8].copy_from_slice(&self.len.to_le_bytes());
        body[8..16].copy_from_slice(&self.hash.to_le_bytes());
        body[16..20].copy_from_slice(&self.parts.to_le_bytes());
        draft.large(self.pages, &body)
    }
}
