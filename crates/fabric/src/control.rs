//! What two nodes say to each other about themselves: hello once, then heartbeats and the
//! member table. JSON in length-prefixed messages, bounded, unknown fields ignored so that
//! versions can live beside each other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use verge_types::PopName;

use crate::node::pop_text;
use crate::{Error, FleetName, NodeId};

/// Version of everything that is said on a link.
pub(crate) const PROTOCOL: u32 = 1;
/// Largest control message, in bytes: a full member table and then some.
pub(crate) const MAX_CONTROL: usize = 1 << 20;
/// Longest `host:port`.
pub(crate) const MAX_ADDRESS: usize = 300;

/// What is known of a node by hearsay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub node: NodeId,
    #[serde(with = "pop_text")]
    pub pop: PopName,
    /// `host:port`.
    pub address: String,
    /// When the process began, in ms since 1970: a restart is a greater one.
    pub incarnation: u64,
}

/// A record, and how long ago the teller's last sign of that node was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hearsay {
    #[serde(flatten)]
    pub record: Record,
    pub heard_ms_ago: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub protocol: u32,
    pub fleet: FleetName,
    pub me: Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    /// A connection of the pair exists and is the one to keep.
    Duplicate,
    Protocol,
    Fleet,
    /// The certificate says another name than the hello.
    Identity,
    /// Two nodes have the same name.
    SameName,
    ShuttingDown,
    Full,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Message {
    Hello(Hello),
    Welcome(Hello),
    Refused {
        why: Refusal,
        text: String,
    },
    Ping {
        seq: u64,
    },
    Pong {
        seq: u64,
    },
    Members {
        members: Vec<Hearsay>,
    },
    /// The accepting side wants so many more channels parked.
    Park {
        more: usize,
    },
    /// No new channels: this node or this connection ends.
    Goodbye {
        leaving: bool,
    },
    /// After a goodbye: nothing is open here any more, all that came was read.
    Drained,
}

impl Message {
    pub fn encode(&self) -> Result<Bytes, Error> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|e| Error::Protocol(e.to_string()))
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::Protocol(format!("a control message: {e}")))
    }
}
