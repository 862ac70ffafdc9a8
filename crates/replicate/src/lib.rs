//! The decisions of replication, as pure state machines: who may write (`lease`), what a primary
//! or relay sends (`ship`), whom a replica follows (`upstream`), what it accepts (`follow`) and when
//! it serves others itself (`relay`), what a read may be answered from (`session`), and the bytes
//! between nodes (`wire`).
//!
//! Nothing here waits, reads a clock, opens a file or starts a thread: events and the time come
//! in, effects go out. Two rules bind whoever carries them out:
//!
//! 1. Effects are performed in order, and one whose name begins with `Persist` is durable before
//!    the next is begun: what follows may promise something on the strength of it.
//! 2. `now` is read from the monotonic clock immediately before each call. Deciding with an old
//!    time is how a paused process keeps acknowledging after its lease.
//!
//! Files in a life's order: a primary is elected (`lease`), ships (`ship`), replicas apply
//! (`follow`), a group is acknowledged when its mode allows (`ack`), histories of epochs tell
//! whether a position survived (`lineage`).

pub mod ack;
pub mod follow;
pub mod lease;
pub mod lineage;
pub mod relay;
pub mod session;
pub mod ship;
pub mod time;
pub mod upstream;
pub mod wire;

mod jitter;
mod node;

pub use ack::{AckMode, Failover};
pub use lineage::{Lineage, Term};
pub use node::NodeId;
pub use time::Moment;
pub use verge_types::Coverage;
