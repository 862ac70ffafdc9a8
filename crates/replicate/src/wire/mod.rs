//! What nodes say to each other, as values and as bytes.
//!
//! Segments and snapshot chunks are opaque here. Decoding never panics, never allocates more than
//! the input's length allows, and refuses what it does not know by name.

mod decode;
mod encode;
mod message;

pub use decode::{DecodeError, decode};
pub use encode::{EncodeError, encode};
pub use message::{
    Envelope, Heartbeat, Hello, Message, Poll, PollReply, Segment, SegmentHeader, SnapshotHeader,
    Start, Why,
};

/// The format's version, the first byte of each message.
pub const VERSION: u8 = 1;
/// Longest message, in bytes: a segment of 60 MiB of page images and its header.
pub const MAX_MESSAGE: usize = 64 << 20;

#[cfg(test)]
mod tests;
