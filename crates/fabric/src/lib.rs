//! How the nodes of a fleet reach each other.
//!
//! Every pair of nodes keeps one HTTP/2 connection over mutual TLS. On it travel *calls* (a
//! request and an answer, bodies streamed both ways) and *message streams* (long-lived, both
//! ways). Each node keeps a table of the others and of how they are, by what it hears itself.
//! In a simulated world every direction of every link can be delayed, slowed, lossy or cut.
//!
//! Nothing here knows what is transported. Start with [`Fabric::start`].

mod accept;
mod body;
mod channel;
pub mod cities;
pub mod config;
mod control;
mod dial;
mod error;
mod fabric;
pub mod frame;
mod head;
mod identity;
mod link;
mod links;
mod membership;
mod message;
mod metrics;
mod node;
mod punctual;
mod random;
mod serve;
mod session;
mod shaped;
mod shaper;
mod shared;
mod tls;
mod wire;

pub use config::{FabricConfig, LinkLimits, Security, Seed, Timing};
pub use error::{Error, Retry};
pub use fabric::Fabric;
pub use frame::TooLarge;
pub use identity::{AUTHORITY_DAYS, FleetAuthority, NODE_DAYS, NodeIdentity};
pub use links::Links;
pub use membership::{Member, MemberTable, State};
pub use message::{Finished, MessageReceiver, MessageSender, MessageStream};
pub use metrics::FabricMetrics;
pub use node::{FleetName, InvalidNodeName, MAX_NAME, NodeId, Peer};
pub use random::Random;
pub use serve::{CallContext, CallHandler, StreamHandler};
pub use shaper::{Conditions, Shaper};
pub use shared::Event;
