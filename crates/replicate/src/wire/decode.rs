//! Bytes to messages. The bytes come from another node, which may be newer, broken or hostile.

use bytes::{Buf, Bytes};
use verge_types::{DatasetId, Position};

use crate::Lineage;
use crate::lineage::{MAX_TERMS, Term};
use crate::wire::encode::kind;
use crate::wire::{
    Envelope, Heartbeat, Hello, MAX_MESSAGE, Message, Poll, PollReply, Segment, SegmentHeader,
    SnapshotHeader, Start, VERSION, Why,
};

/// Why bytes are no message. The sender is to blame; a retry brings the same. Close the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message has {0} bytes, more than the {MAX_MESSAGE} that are allowed")]
    TooLong(usize),
    #[error("the message ends in its middle")]
    Truncated,
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
    #[error("version {0} of the replication protocol; this node speaks {VERSION}")]
    Version(u8),
    #[error("message kind {0} is not known")]
    Kind(u8),
    #[error("the field `{0}` has a value that it cannot have")]
    Field(&'static str),
}

/// The message in `bytes`, all of which it must fill. Opaque parts share the given memory.
pub fn decode(bytes: Bytes) -> Result<Envelope, DecodeError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    let mut input = Input(bytes);
    match input.u8()? {
        VERSION => {}
        other => return Err(DecodeError::Version(other)),
    }
    let kind = input.u8()?;
    let length = usize::from(input.u8()?);
    let id = input.take(length)?;
    let dataset: DatasetId = std::str::from_utf8(&id)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(DecodeError::Field("dataset"))?;
    let message = input.message(kind)?;
    match input.0.len() {
        0 => Ok(Envelope { dataset, message }),
        rest => Err(DecodeError::Trailing(rest)),
    }
}

struct Input(Bytes);

impl Input {
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::Truncated)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.0.try_get_u16_le().map_err(|_| DecodeError::Truncated)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.0.try_get_u64_le().map_err(|_| DecodeError::Truncated)
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Field(name)),
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.0.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.0.split_to(length))
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    fn position(&mut self) -> Result<Position, DecodeError> {
        Ok(Position::new(self.u64()?, self.u64()?))
    }

    fn start(&mut self) -> Result<Start, DecodeError> {
        let (tag, after) = (self.u8()?, self.u64()?);
        Ok(match tag {
            0 => Start::Resume { after },
            1 => Start::Snapshot(Why::TooFarBehind),
            2 => Start::Snapshot(Why::Diverged),
            3 => Start::Snapshot(Why::Checksum),
            4 => Start::Snapshot(Why::Asked),
            _ => return Err(DecodeError::Field("start")),
        })
    }

    fn lineage(&mut self) -> Result<Lineage, DecodeError> {
        let count = usize::from(self.u16()?);
        if count > MAX_TERMS || self.0.len() < count * 16 {
            return Err(DecodeError::Field("lineage"));
        }
        let terms: Result<Vec<Term>, DecodeError> =
            (0..count).map(|_| Ok(Term { epoch: self.u64()?, base: self.u64()? })).collect();
        Lineage::from_terms(terms?).map_err(|_| DecodeError::Field("lineage"))
    }

    fn message(&mut self, kind: u8) -> Result<Message, DecodeError> {
        Ok(match kind {
            kind::HELLO => Message::Hello(Hello {
                session: self.u64()?,
                fence: self.u64()?,
                position: self.position()?,
                checksum: self.u64()?,
                reseed: self.flag("reseed")?,
                sent: self.u64()?,
            }),
            kind::ACK => Message::Ack {
                session: self.u64()?,
                term: self.u64()?,
                rank: self.position()?,
                sent: self.u64()?,
            },
            kind::SNAPSHOT_ACK => {
                Message::SnapshotAck { session: self.u64()?, term: self.u64()?, chunk: self.u64()? }
            }
            kind::REFUSED => Message::Refused { session: self.u64()?, fence: self.u64()? },
            kind::WELCOME => {
                let (session, term, tip) = (self.u64()?, self.u64()?, self.u64()?);
                let start = self.start()?;
                Message::Welcome { session, term, tip, lineage: self.lineage()?, start }
            }
            kind::SEGMENT => Message::Segment {
                session: self.u64()?,
                term: self.u64()?,
                segment: self.segment()?,
            },
            kind::SNAPSHOT_BEGIN => Message::SnapshotBegin {
                session: self.u64()?,
                term: self.u64()?,
                snapshot: SnapshotHeader {
                    position: self.position()?,
                    checksum: self.u64()?,
                    bytes: self.u64()?,
                },
            },
            kind::SNAPSHOT_CHUNK => Message::SnapshotChunk {
                session: self.u64()?,
                term: self.u64()?,
                chunk: self.u64()?,
                last: self.flag("last")?,
                bytes: self.rest(),
            },
            kind::HEARTBEAT => Message::Heartbeat(self.heartbeat()?),
            kind::GOODBYE => Message::Goodbye { session: self.u64()? },
            kind::POLL => Message::Poll(Poll {
                round: self.u64()?,
                epoch: self.u64()?,
                rank: self.position()?,
            }),
            kind::POLL_REPLY => Message::PollReply(PollReply {
                round: self.u64()?,
                epoch: self.u64()?,
                granted: self.flag("granted")?,
                fence: self.u64()?,
                rank: self.position()?,
            }),
            kind::OFFER => Message::Offer { epoch: self.u64()? },
            other => return Err(DecodeError::Kind(other)),
        })
    }

    fn segment(&mut self) -> Result<Segment, DecodeError> {
        let header = SegmentHeader {
            position: self.position()?,
            before: self.u64()?,
            after: self.u64()?,
            committed_ms: self.u64()?,
        };
        Ok(Segment { header, bytes: self.rest() })
    }

    fn heartbeat(&mut self) -> Result<Heartbeat, DecodeError> {
        let (session, term, tip) = (self.u64()?, self.u64()?, self.position()?);
        let (checksum, sent, echo) = (self.u64()?, self.u64()?, self.u64()?);
        let known = self.flag("age")?;
        let age = self.u64()?;
        if !known && age != 0 {
            return Err(DecodeError::Field("age"));
        }
        let primary_ms = self.u64()?;
        let age = known.then_some(age);
        Ok(Heartbeat { session, term, tip, checksum, sent, echo, age, primary_ms })
    }
}
