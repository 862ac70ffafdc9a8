//! The messages. `session` names one handshake: a follower draws it anew for each Hello, and
//! what belongs to an older one is ignored. `term` is the epoch of the primary in whose name a
//! message is sent, by itself or through relays; a segment has its own, older or equal, epoch.

use bytes::Bytes;
use verge_types::{DatasetId, Position};

use crate::Lineage;

/// A message and the dataset it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub dataset: DatasetId,
    pub message: Message,
}

/// What nodes say about one dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    // A follower to its upstream.
    Hello(Hello),
    /// Everything up to `rank` is durable here.
    Ack {
        session: u64,
        term: u64,
        rank: Position,
        sent: u64,
    },
    /// Chunks up to and with `chunk` are stored.
    SnapshotAck {
        session: u64,
        term: u64,
        chunk: u64,
    },
    /// We are promised to a newer epoch.
    Refused {
        session: u64,
        fence: u64,
    },

    // An upstream to its follower.
    Welcome {
        session: u64,
        term: u64,
        tip: u64,
        lineage: Lineage,
        start: Start,
    },
    Segment {
        session: u64,
        term: u64,
        segment: Segment,
    },
    SnapshotBegin {
        session: u64,
        term: u64,
        snapshot: SnapshotHeader,
    },
    SnapshotChunk {
        session: u64,
        term: u64,
        chunk: u64,
        last: bool,
        bytes: Bytes,
    },
    Heartbeat(Heartbeat),
    /// This node serves the dataset no longer; look for another upstream.
    Goodbye {
        session: u64,
    },

    // Between voters.
    Poll(Poll),
    PollReply(PollReply),
    /// The lease was released in the receiver's name.
    Offer {
        epoch: u64,
    },
}

/// A follower's introduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub session: u64,
    /// Terms below this are refused.
    pub fence: u64,
    /// The last segment applied, as that segment names itself; 0/0 for none.
    pub position: Position,
    /// Checksum at that position.
    pub checksum: u64,
    /// The data here is known to be bad or missing: send a snapshot.
    pub reseed: bool,
    /// The follower's clock, to be echoed.
    pub sent: u64,
}

/// How an upstream goes on with a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Segments after this transaction follow.
    Resume { after: u64 },
    /// A snapshot follows.
    Snapshot(Why),
}

/// Why a snapshot is sent and not segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The segments are not kept any more.
    TooFarBehind,
    /// The follower's history is another one: it has transactions that ours has not.
    Diverged,
    /// Same position, other data.
    Checksum,
    /// The follower asked.
    Asked,
}

/// A segment's place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub position: Position,
    /// Checksum of the data before it.
    pub before: u64,
    /// Checksum of the data after it.
    pub after: u64,
    /// The primary's wall clock at commit, in milliseconds since 1970; for showing only.
    pub committed_ms: u64,
}

/// One group of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub header: SegmentHeader,
    pub bytes: Bytes,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    pub position: Position,
    pub checksum: u64,
    /// Bytes of all chunks together; for progress and disk space.
    pub bytes: u64,
}

/// A sign of life, and what freshness is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub session: u64,
    pub term: u64,
    /// Where the sender's history ends.
    pub tip: Position,
    pub checksum: u64,
    /// The last transaction that was sent to this follower: it has it, or it was lost.
    pub sent: u64,
    /// The newest clock value received from this follower.
    pub echo: u64,
    /// Microseconds by which `tip` may have been behind the primary when this was sent; `None`
    /// when not known, such as after the lease.
    pub age: Option<u64>,
    /// The primary's wall clock, in milliseconds since 1970; for showing only.
    pub primary_ms: u64,
}

/// A candidate's request for a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Poll {
    pub round: u64,
    pub epoch: u64,
    pub rank: Position,
}

/// The answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollReply {
    pub round: u64,
    pub epoch: u64,
    /// Epochs below `epoch` are refused from now on, durably.
    pub granted: bool,
    pub fence: u64,
    pub rank: Position,
}
