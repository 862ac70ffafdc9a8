//! What can go wrong between nodes: who is to blame, may it be tried again, what the public reads.

use std::io;
use std::time::Duration;

use verge_types::{Blame, Fault};

use crate::NodeId;
use crate::frame::TooLarge;
use crate::head::BadHead;

/// May the same thing be tried again?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It would fail again.
    No,
    /// Yes: the other side has certainly not begun.
    Safe,
    /// The other side may have done it already: only if doing it twice is harmless.
    MaybeDone,
}

/// A failed call, stream, handshake or start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no node {0} in this fleet, as far as this node knows")]
    UnknownNode(NodeId),
    #[error("no connection to {node}{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    NotLinked {
        node: NodeId,
        /// What the last attempt ended with.
        why: Option<String>,
    },
    #[error("{0} is this node")]
    Myself(NodeId),
    #[error("the connection to {0} was lost")]
    LinkLost(NodeId),
    #[error("no answer within {after:?}: {what}")]
    Deadline {
        what: &'static str,
        after: Duration,
        /// False when the deadline passed before anything was sent.
        sent: bool,
    },
    #[error("{node} has no room for another {limit} calls and streams")]
    Busy { node: NodeId, limit: usize },
    #[error("{0} did not take the call or stream: it is shutting down or has no room")]
    Declined(NodeId),
    #[error("{node} does not serve `{name}`")]
    UnknownName { node: NodeId, name: String },
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("the other node broke the protocol: {0}")]
    Protocol(String),
    #[error("the other side gave up ({0})")]
    Reset(String),
    #[error("the other side took no bytes for {0:?}")]
    Stalled(Duration),
    #[error("the stream ended in the middle of a message")]
    Truncated,
    #[error("a send was dropped half-way; the stream cannot go on")]
    Interrupted,
    #[error("the body to send failed: {0}")]
    Body(String),
    #[error("this node's fabric is shut down")]
    ShuttingDown,
    #[error("refused: {0}")]
    Refused(String),
    #[error("configuration: {0}")]
    Config(String),
    #[error("{what}: {source}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl From<BadHead> for Error {
    fn from(error: BadHead) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }

    /// May it be tried again?
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotLinked { .. }
            | Self::Busy { .. }
            | Self::Declined(_)
            | Self::Deadline { sent: false, .. } => Retry::Safe,
            Self::LinkLost(_)
            | Self::Deadline { .. }
            | Self::Reset(_)
            | Self::Stalled(_)
            | Self::Truncated
            | Self::Interrupted
            | Self::Io { .. } => Retry::MaybeDone,
            Self::UnknownNode(_)
            | Self::Myself(_)
            | Self::UnknownName { .. }
            | Self::TooLarge(_)
            | Self::Protocol(_)
            | Self::Body(_)
            | Self::ShuttingDown
            | Self::Refused(_)
            | Self::Config(_) => Retry::No,
        }
    }

    /// The same as a failed request; names of nodes are for the operator only.
    pub fn fault(&self) -> Fault {
        let (code, status, message) = match self {
            Self::Deadline { .. } | Self::Stalled(_) => {
                ("node_timeout", 504, "Another point of presence did not answer in time.")
            }
            Self::TooLarge(_) => ("message_too_large", 413, "The message is too large."),
            Self::NotLinked { .. }
            | Self::UnknownNode(_)
            | Self::LinkLost(_)
            | Self::Busy { .. }
            | Self::Declined(_) => {
                ("node_unreachable", 503, "Another point of presence cannot be reached.")
            }
            Self::ShuttingDown => ("shutting_down", 503, "This node is shutting down."),
            _ => ("node_failed", 502, "Another point of presence failed."),
        };
        let blame = match self {
            Self::TooLarge(_) | Self::Body(_) => Blame::Caller,
            _ => Blame::Platform,
        };
        let fault = Fault::new(code, blame, status, message).with_detail(self.to_string());
        if status == 503 { fault.with_retry_after(1) } else { fault }
    }
}
