//! What the register holds, and how it answers.

use crate::NodeId;

/// How things stand between the holder and everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The holder is, or is about to be, the primary.
    Held,
    /// The holder has stopped. A successor that stands at `base` may claim at once; without one,
    /// any voter may.
    Released { successor: Option<NodeId> },
}

/// The register's value for one dataset. No two that were ever written are equal, so "the record
/// I saw is still there" is a comparison of values; an adapter may map it to an ETag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub epoch: u64,
    pub holder: NodeId,
    /// Drawn by the holder's process at its start.
    pub incarnation: u64,
    /// Rises with each swap of this incarnation.
    pub sequence: u64,
    /// The transaction after which the epoch began; in `Released`, the last one of all.
    pub base: u64,
    /// Milliseconds that others must wait after having seen this record before they may claim.
    pub ttl_ms: u64,
    pub phase: Phase,
}

/// The register's answer to an operation. Losing one, or getting it late, is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterAnswer {
    /// To a read: the current value.
    Value(Option<Record>),
    /// To a swap: done.
    Swapped,
    /// To a swap: not done, this is the current value.
    Conflict(Option<Record>),
    /// The register could not be reached, or whether the swap was done is not known.
    Unknown,
}
