//! Everything a node is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use verge_dataset::Settings;
use verge_fabric::{Fabric, NodeId, Peer};
use verge_replicate::AckMode;
use verge_services::sql::Policy;
use verge_types::PopName;

use crate::register::LeaseRegister;

/// A dataset that nobody used for so long gets no more attention; the next use wakes it.
pub const IDLE_AFTER: Duration = Duration::from_secs(60);
/// How long a forwarded request may take in all.
pub const FORWARD_DEADLINE: Duration = Duration::from_secs(30);
/// How long a request waits for a primary that is unknown or not linked, before it is refused.
pub const PRIMARY_PATIENCE: Duration = Duration::from_secs(3);
/// How long the first use of a dataset here waits for its data.
pub const OPEN_PATIENCE: Duration = Duration::from_secs(15);
/// How long the placement's PoP has to take a new dataset, before any other does.
pub const PLACEMENT_PATIENCE: Duration = Duration::from_secs(3);

/// A node's settings.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's own folder; one process at a time.
    pub data: PathBuf,
    pub node: NodeId,
    pub pop: PopName,
    /// The way to the other nodes; `None` is a single node, primary of everything.
    pub fabric: Option<Fabric>,
    /// All nodes that may become primary, this one included if it may. The same on every node.
    /// Needed with a fabric.
    pub voters: Vec<Peer>,
    /// Where new datasets begin; this node's PoP without one.
    pub placement: Option<PopName>,
    /// What must hold a write before its client hears of it.
    pub ack: AckMode,
    /// Where leases are kept. With a fabric and without a register, the placement's node is
    /// primary of everything for good: no failover, no hand-over.
    pub register: Option<Arc<dyn LeaseRegister>>,
    /// Limits of each dataset.
    pub settings: Settings,
    /// Datasets kept open.
    pub max_open: usize,
    /// What tenants' SQL may cost.
    pub policy: Policy,
    pub timing: Timing,
    /// Serve the control endpoint (a socket in the data folder).
    pub control: bool,
}

/// How long a node waits for what.
#[derive(Clone, Debug)]
pub struct Timing {
    pub idle_after: Duration,
    pub forward_deadline: Duration,
    pub primary_patience: Duration,
    pub open_patience: Duration,
    pub placement_patience: Duration,
    /// Time to live of a lease; failover begins that long, and `lease_margin`, after the
    /// primary's last sign.
    pub lease_ttl: Duration,
    pub lease_margin: Duration,
    pub lease_renew_every: Duration,
    /// How long a planned hand-over may keep writers waiting.
    pub hand_over_limit: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            idle_after: IDLE_AFTER,
            forward_deadline: FORWARD_DEADLINE,
            primary_patience: PRIMARY_PATIENCE,
            open_patience: OPEN_PATIENCE,
            placement_patience: PLACEMENT_PATIENCE,
            lease_ttl: Duration::from_secs(5),
            lease_margin: Duration::from_millis(500),
            lease_renew_every: Duration::from_secs(1),
            hand_over_limit: Duration::from_secs(2),
        }
    }
}

impl NodeConfig {
    /// A single node with the defaults.
    pub fn new(data: impl Into<PathBuf>, node: NodeId, pop: PopName) -> Self {
        Self {
            data: data.into(),
            node,
            pop,
            fabric: None,
            voters: Vec::new(),
            placement: None,
            ack: AckMode::Local,
            register: None,
            settings: Settings::default(),
            max_open: 512,
            policy: Policy::default(),
            timing: Timing::default(),
            control: false,
        }
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer { node: self.node.clone(), pop: self.pop.clone() }
    }
}
