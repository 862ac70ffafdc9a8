//! Request ids and span ids, without a system call or a lock per request.
//!
//! Each thread walks its own SplitMix64 sequence, seeded once from the standard library's
//! OS-keyed hasher. The sequence is a bijection, so a thread never repeats an id. They are
//! names, not secrets.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use verge_types::RequestId;

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().build_hasher().finish());
    static BLOCK: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Header values cut from one allocation.
const BLOCK_BYTES: usize = 4096;
const ID_DIGITS: usize = 16;

/// The next number of this thread's sequence; never zero, which W3C reserves.
pub fn next() -> u64 {
    STATE.with(|state| {
        loop {
            let seed = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
            state.set(seed);
            let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let z = z ^ (z >> 31);
            if z != 0 {
                return z;
            }
        }
    })
}

/// Two digits a byte.
static HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xF]];
        byte += 1;
    }
    pairs
};

/// The id as a header value, without an allocation of its own.
pub fn header_value(id: RequestId) -> HeaderValue {
    let mut digits = [0u8; ID_DIGITS];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(id.0.to_be_bytes()) {
        pair.copy_from_slice(&HEX[usize::from(byte)]);
    }
    let bytes: Bytes = BLOCK.with_borrow_mut(|block| {
        if block.capacity() < ID_DIGITS {
            *block = BytesMut::with_capacity(BLOCK_BYTES);
        }
        block.extend_from_slice(&digits);
        block.split_to(ID_DIGITS).freeze()
    });
    HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_the_header_spells_the_id() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let id = RequestId(next());
            assert!(seen.insert(id));
            assert_eq!(header_value(id).to_str().unwrap(), id.to_string());
        }
    }
}
