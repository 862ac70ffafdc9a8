//! One PoP's data plane: the only place where datasets, the pure cores that replicate them, and
//! the fabric meet.
//!
//! A [`Node`] has a folder of datasets. Alone it is primary of all of them. In a fleet, each
//! dataset that is in use has a driver: a task that feeds the cores (`lease`, `ship`, `follow`)
//! with time and messages and carries out what they decide. Datasets that nobody uses have none
//! and cost nothing but their place on the disk.
//!
//! [`Node::database`] is what apps get: reads here, writes at the primary, wherever that is.
//!
//! What always holds:
//! - Nothing is acknowledged without the lease (where there is a register), and nothing that the
//!   ack mode's nodes do not have.
//! - What a node promised (its fence) and where its history comes from (its lineage) is durable
//!   before anything follows from it.
//! - A request that may have arrived at the primary is not sent again.

mod clock;
mod config;
mod control;
mod delete;
mod desk;
mod driver;
mod error;
mod forward;
mod hand_over;
mod home;
mod inner;
mod large;
mod lock;
mod meta;
mod names;
mod node;
mod queue;
mod register;
mod status;
mod transport;

pub use config::{
    FORWARD_DEADLINE, IDLE_AFTER, NodeConfig, OPEN_PATIENCE, PLACEMENT_PATIENCE, PRIMARY_PATIENCE,
    Timing,
};
pub use control::{
    AppliedMigration, Command, ControlClient, Executed, Form, Located, Migrated, MigrationFailure,
    MigrationFile, Progress, Report, State, Verified,
};
pub use error::{Code, Error, Told};
pub use home::{NodeHome, NodeTransaction};
pub use inner::NodeDatabase;
pub use lock::{NodeLock, Owner};
pub use node::Node;
pub use register::{FileRegister, LeaseRegister};
pub use status::{DatasetStatus, FollowerStatus, Health, RoleName};
pub use verge_services::sql::{
    is_complete as is_complete_sql, migrate::checksum as migration_checksum,
};
