//! Messages to bytes: a version, a kind, the dataset's id, then the fields in order; integers
//! little-endian, lengths before what they count, opaque bytes last and unframed.

use bytes::{BufMut, Bytes, BytesMut};
use verge_types::Position;

use crate::Lineage;
use crate::wire::{
    Envelope, Heartbeat, Hello, MAX_MESSAGE, Message, Poll, PollReply, Segment, SnapshotHeader,
    Start, VERSION, Why,
};

/// The message does not fit; a bug of whoever made such a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {size} bytes is longer than the {MAX_MESSAGE} that are allowed")]
pub struct EncodeError {
    pub size: usize,
}

pub(super) mod kind {
    pub const HELLO: u8 = 1;
    pub const ACK: u8 = 2;
    pub const SNAPSHOT_ACK: u8 = 3;
    pub const REFUSED: u8 = 4;
    pub const WELCOME: u8 = 16;
    pub const SEGMENT: u8 = 17;
    pub const SNAPSHOT_BEGIN: u8 = 18;
    pub const SNAPSHOT_CHUNK: u8 = 19;
    pub const HEARTBEAT: u8 = 20;
    pub const GOODBYE: u8 = 21;
    pub const POLL: u8 = 32;
    pub const POLL_REPLY: u8 = 33;
    pub const OFFER: u8 = 34;
}

/// The bytes of a message.
pub fn encode(envelope: &Envelope) -> Result<Bytes, EncodeError> {
    let opaque = match &envelope.message {
        Message::Segment { segment, .. } => segment.bytes.len(),
        Message::SnapshotChunk { bytes, .. } => bytes.len(),
        _ => 0,
    };
    let mut out = BytesMut::with_capacity(opaque + 160);
    out.put_u8(VERSION);
    let kind_at = out.len();
    out.put_u8(0);
    let id = envelope.dataset.as_str().as_bytes();
    // A dataset's id has at most 128 bytes.
    out.put_u8(u8::try_from(id.len()).unwrap_or(u8::MAX));
    out.put_slice(id);
    out[kind_at] = put_message(&mut out, &envelope.message);
    if out.len() > MAX_MESSAGE { Err(EncodeError { size: out.len() }) } else { Ok(out.freeze()) }
}

fn put_message(out: &mut BytesMut, message: &Message) -> u8 {
    match message {
        Message::Hello(hello) => put_hello(out, hello),
        Message::Ack { session, term, rank, sent } => {
            put_all(out, &[*session, *term]);
            put_position(out, *rank);
            out.put_u64_le(*sent);
            kind::ACK
        }
        Message::SnapshotAck { session, term, chunk } => {
            put_all(out, &[*session, *term, *chunk]);
            kind::SNAPSHOT_ACK
        }
        Message::Refused { session, fence } => {
            put_all(out, &[*session, *fence]);
            kind::REFUSED
        }
        Message::Welcome { session, term, tip, lineage, start } => {
            put_all(out, &[*session, *term, *tip]);
            put_start(out, *start);
            put_lineage(out, lineage);
            kind::WELCOME
        }
        Message::Segment { session, term, segment } => {
            put_all(out, &[*session, *term]);
            put_segment(out, segment);
            kind::SEGMENT
        }
        Message::SnapshotBegin { session, term, snapshot } => {
            put_all(out, &[*session, *term]);
            put_snapshot(out, snapshot);
            kind::SNAPSHOT_BEGIN
        }
        Message::SnapshotChunk { session, term, chunk, last, bytes } => {
            put_all(out, &[*session, *term, *chunk]);
            out.put_u8(u8::from(*last));
            out.put_slice(bytes);
            kind::SNAPSHOT_CHUNK
        }
        Message::Heartbeat(heartbeat) => put_heartbeat(out, heartbeat),
        Message::Goodbye { session } => {
            out.put_u64_le(*session);
            kind::GOODBYE
        }
        Message::Poll(poll) => put_poll(out, poll),
        Message::PollReply(reply) => put_reply(out, reply),
        Message::Offer { epoch } => {
            out.put_u64_le(*epoch);
            kind::OFFER
        }
    }
}

fn put_all(out: &mut BytesMut, values: &[u64]) {
    for value in values {
        out.put_u64_le(*value);
    }
}

fn put_position(out: &mut BytesMut, position: Position) {
    put_all(out, &[position.epoch, position.txid]);
}

fn put_hello(out: &mut BytesMut, hello: &Hello) -> u8 {
    put_all(out, &[hello.session, hello.fence]);
    put_position(out, hello.position);
    out.put_u64_le(hello.checksum);
    out.put_u8(u8::from(hello.reseed));
    out.put_u64_le(hello.sent);
    kind::HELLO
}

fn put_start(out: &mut BytesMut, start: Start) {
    let (tag, after) = match start {
        Start::Resume { after } => (0, after),
        Start::Snapshot(Why::TooFarBehind) => (1, 0),
        Start::Snapshot(Why::Diverged) => (2, 0),
        Start::Snapshot(Why::Checksum) => (3, 0),
        Start::Snapshot(Why::Asked) => (4, 0),
    };
    out.put_u8(tag);
    out.put_u64_le(after);
}

fn put_lineage(out: &mut BytesMut, lineage: &Lineage) {
    // A lineage has at most 1024 terms.
    out.put_u16_le(u16::try_from(lineage.terms().len()).unwrap_or(u16::MAX));
    for term in lineage.terms() {
        put_all(out, &[term.epoch, term.base]);
    }
}

fn put_segment(out: &mut BytesMut, segment: &Segment) {
    put_position(out, segment.header.position);
    put_all(out, &[segment.header.before, segment.header.after, segment.header.committed_ms]);
    out.put_slice(&segment.bytes);
}

fn put_snapshot(out: &mut BytesMut, snapshot: &SnapshotHeader) {
    put_position(out, snapshot.position);
    put_all(out, &[snapshot.checksum, snapshot.bytes]);
}

fn put_heartbeat(out: &mut BytesMut, beat: &Heartbeat) -> u8 {
    put_all(out, &[beat.session, beat.term]);
    put_position(out, beat.tip);
    put_all(out, &[beat.checksum, beat.sent, beat.echo]);
    out.put_u8(u8::from(beat.age.is_some()));
    put_all(out, &[beat.age.unwrap_or(0), beat.primary_ms]);
    kind::HEARTBEAT
}

fn put_poll(out: &mut BytesMut, poll: &Poll) -> u8 {
    put_all(out, &[poll.round, poll.epoch]);
    put_position(out, poll.rank);
    kind::POLL
}

fn put_reply(out: &mut BytesMut, reply: &PollReply) -> u8 {
    put_all(out, &[reply.round, reply.epoch]);
    out.put_u8(u8::from(reply.granted));
    out.put_u64_le(reply.fence);
    put_position(out, reply.rank);
    kind::POLL_REPLY
}
