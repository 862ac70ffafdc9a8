//! Message framing: four bytes of length (big endian), then as many bytes.
//!
//! The decoder never allocates for bytes that have not arrived, and a length over the limit
//! is refused as soon as its four bytes are there.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before each message.
pub const PREFIX: usize = 4;
/// Payloads up to here are copied behind their prefix, so that both leave in one h2 frame.
const COALESCE: usize = 16 * 1024 - PREFIX;

/// A message that will not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {size} bytes is over the limit of {limit}")]
pub struct TooLarge {
    /// Bytes the message has, without its prefix.
    pub size: u64,
    /// Bytes it may have.
    pub limit: usize,
}

/// Puts the length before a payload. The second piece is empty for small payloads.
pub fn encode(payload: Bytes, limit: usize) -> Result<(Bytes, Bytes), TooLarge> {
    let size = payload.len();
    let length = u32::try_from(size)
        .ok()
        .filter(|_| size <= limit)
        .ok_or(TooLarge { size: size as u64, limit })?;
    let mut payload = payload;
    let first = payload.split_to(size.min(COALESCE));
    let mut head = BytesMut::with_capacity(PREFIX + first.len());
    head.put_u32(length);
    head.put_slice(&first);
    Ok((head.freeze(), payload))
}

/// Cuts a stream of bytes into messages.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The beginning of a message whose end has not come, prefix included.
    partial: BytesMut,
    /// Bytes behind it, not yet looked at.
    rest: Bytes,
}

impl Decoder {
    /// `limit`: the largest payload, in bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, partial: BytesMut::new(), rest: Bytes::new() }
    }

    /// Adds bytes. Take all messages out with [`Self::next_message`] first, else they are copied.
    pub fn push(&mut self, bytes: Bytes) {
        if self.rest.is_empty() {
            self.rest = bytes;
        } else {
            let mut joined = BytesMut::with_capacity(self.rest.len() + bytes.len());
            joined.put_slice(&self.rest);
            joined.put_slice(&bytes);
            self.rest = joined.freeze();
        }
    }

    /// The next whole message, or `None` until more bytes come.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, TooLarge> {
        if self.partial.is_empty() && self.rest.len() >= PREFIX {
            let size = self.checked_size(&self.rest)?;
            if self.rest.len() - PREFIX >= size {
                self.rest.advance(PREFIX);
                return Ok(Some(self.rest.split_to(size)));
            }
        }
        self.gather(PREFIX);
        if self.partial.len() < PREFIX {
            return Ok(None);
        }
        let size = self.checked_size(&self.partial)?;
        self.gather(PREFIX + size);
        if self.partial.len() < PREFIX + size {
            return Ok(None);
        }
        let mut whole = std::mem::take(&mut self.partial);
        whole.advance(PREFIX);
        Ok(Some(whole.freeze()))
    }

    /// True between messages: an end of the stream here is a clean one.
    pub fn is_between_messages(&self) -> bool {
        self.partial.is_empty() && self.rest.is_empty()
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.partial.capacity() + self.rest.len()
    }

    /// Gives back what was not decoded.
    pub(crate) fn into_rest(self) -> Bytes {
        if self.partial.is_empty() {
            return self.rest;
        }
        let mut all = self.partial;
        all.put_slice(&self.rest);
        all.freeze()
    }

    fn gather(&mut self, wanted: usize) {
        let take = wanted.saturating_sub(self.partial.len()).min(self.rest.len());
        self.partial.extend_from_slice(&self.rest.split_to(take));
    }

    fn checked_size(&self, mut head: &[u8]) -> Result<usize, TooLarge> {
        let size = head.get_u32();
        match usize::try_from(size) {
            Ok(fits) if fits <= self.limit => Ok(fits),
            _ => Err(TooLarge { size: u64::from(size), limit: self.limit }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut all = Vec::new();
        for message in messages {
            let (head, tail) = encode(Bytes::copy_from_slice(message), usize::MAX).unwrap();
            all.extend_from_slice(&head);
            all.extend_from_slice(&tail);
        }
        all
    }

    proptest! {
        /// However the bytes are cut, the messages come out as they went in.
        #[test]
        fn any_cut_gives_the_same_messages(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in prop::collection::vec(1usize..70, 1..40),
            lazy in any::<bool>(),
        ) {
            let bytes = wire(&messages);
            let mut decoder = Decoder::new(300);
            let mut seen = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                rest = later;
                decoder.push(Bytes::copy_from_slice(now));
                if !lazy || cut % 3 == 0 {
                    while let Some(message) = decoder.next_message().unwrap() { seen.push(message.to_vec()); }
                }
            }
            while let Some(message) = decoder.next_message().unwrap() { seen.push(message.to_vec()); }
            prop_assert_eq!(seen, messages);
            prop_assert!(decoder.is_between_messages());
        }

        /// Whatever comes, nothing panics, and what is held is bounded by what has arrived.
        #[test]
        fn garbage_is_bounded(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..30)) {
            let mut decoder = Decoder::new(64);
            let mut arrived = 0;
            for chunk in chunks {
                arrived += chunk.len();
                decoder.push(Bytes::from(chunk));
                loop {
                    match decoder.next_message() {
                        Ok(Some(message)) => prop_assert!(message.len() <= 64),
                        Ok(None) => break,
                        Err(error) => { prop_assert!(error.size > 64); return Ok(()); }
                    }
                }
                prop_assert!(decoder.held() <= 2 * arrived + 128);
                prop_assert!(decoder.held() <= 2 * (64 + PREFIX) + 64);
            }
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut decoder = Decoder::new(1000);
        decoder.push(Bytes::from_static(&[0, 0, 3]));
        assert_eq!(decoder.next_message(), Ok(None));
        decoder.push(Bytes::from_static(&[0xe9]));
        assert_eq!(decoder.next_message(), Err(TooLarge { size: 1001, limit: 1000 }));
        assert!(encode(Bytes::from(vec![0; 1001]), 1000).is_err());
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        let mut decoder = Decoder::new(u32::MAX as usize);
        decoder.push(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1]));
        assert_eq!(decoder.next_message(), Ok(None));
        assert!(decoder.held() < 1024);
    }
}
