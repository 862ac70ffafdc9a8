//! What a seed decides before the run: the fleet, its settings, which faults may happen.

use std::collections::BTreeSet;
use std::time::Duration;

use verge_replicate::follow::FollowConfig;
use verge_replicate::lease::LeaseConfig;
use verge_replicate::ship::ShipConfig;
use verge_replicate::upstream::UpstreamConfig;
use verge_replicate::{AckMode, Failover, NodeId};

use crate::Bug;
use crate::rng::Rng;

/// Microseconds of virtual time.
pub const MILLISECOND: u64 = 1000;
pub const SECOND: u64 = 1_000_000;

/// The plan of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub mode: AckMode,
    pub failover: Failover,
    pub voters: u64,
    /// Replicas that neither vote nor count for acknowledgements; the last prefers a relay.
    pub readers: u64,
    pub clients: u64,
    /// Faults happen before this; then everything heals and must converge.
    pub trouble: u64,
    pub end: u64,
    pub delay: (u64, u64),
    /// Per mille of messages.
    pub loss: u64,
    pub duplicates: u64,
    /// A fault about so often.
    pub fault_every: u64,
    /// The first voter's clock runs at a quarter of its speed, so its leases last too long. Then
    /// the fences alone must keep `follower` and `quorum` safe.
    pub bad_clock: bool,
    pub bug: Option<Bug>,
    /// Nodes have real SQLite files, not a model of them.
    pub files: bool,
}

impl Plan {
    pub fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = Rng::new(seed ^ 0x000a_11ce);
        let mode = rng.pick(&[AckMode::Local, AckMode::Follower, AckMode::Quorum, AckMode::Quorum]);
        let quorum = matches!(bug, Some(Bug::IgnoreFence | Bug::RelayAsPrimary));
        let mode = if quorum { AckMode::Quorum } else { mode };
        let failover = match mode {
            AckMode::Local => Failover::AfterPatience,
            AckMode::Follower | AckMode::Quorum => Failover::OnlySafe,
        };
        let least = if mode == AckMode::Local { 1 } else { 2 };
        let trouble = rng.range(6, 16) * SECOND;
        let bad_clock =
            mode != AckMode::Local && (rng.chance(120) || bug == Some(Bug::IgnoreFence));
        // A slow clock heals slowly.
        let calm = if bad_clock { 60 } else { 14 };
        let low = rng.range(MILLISECOND / 5, 20 * MILLISECOND);
        Self {
            seed,
            mode,
            failover,
            voters: rng.pick(&[3, 3, 3, 3, 5, least]),
            readers: rng.range(0, 3),
            clients: rng.range(3, 7),
            trouble,
            end: trouble + calm * SECOND,
            delay: (low, low + rng.range(0, 30 * MILLISECOND)),
            loss: rng.pick(&[0, 0, 5, 20, 100]),
            duplicates: rng.pick(&[0, 0, 10, 50]),
            fault_every: rng.pick(&[300, 700, 1500, 4000]) * MILLISECOND,
            bad_clock,
            bug,
            files: false,
        }
    }

    /// The same plan on real files.
    pub fn on_files(self) -> Self {
        Self { files: true, ..self }
    }

    pub fn nodes(&self) -> u64 {
        self.voters + self.readers
    }

    pub fn is_voter(&self, node: usize) -> bool {
        (node as u64) < self.voters
    }

    /// The relay that a node prefers to the primary.
    pub fn relay_of(&self, node: usize) -> Option<usize> {
        (self.readers == 2 && node as u64 == self.voters + 1).then_some(self.voters as usize)
    }

    pub fn lease(&self, node: usize, incarnation: u64) -> LeaseConfig {
        let voters: BTreeSet<NodeId> = (0..self.voters).map(NodeId).collect();
        LeaseConfig {
            failover: self.failover,
            ttl: Duration::from_millis(1500),
            margin: Duration::from_millis(150),
            renew_every: Duration::from_millis(300),
            operation_timeout: Duration::from_millis(250),
            poll_patience: Duration::from_millis(250),
            hand_over_limit: Duration::from_millis(800),
            ..LeaseConfig::new(NodeId(node as u64), incarnation, voters, self.mode)
        }
    }

    pub fn ship(&self) -> ShipConfig {
        let mut rng = Rng::new(self.seed ^ 0x5417);
        ShipConfig {
            window_bytes: rng.pick(&[200, 2000, 4 << 20]),
            load_bytes: rng.pick(&[100, 1000, 1 << 20]),
            recent_bytes: rng.pick(&[0, 500, 1 << 20]),
            beat_every: Duration::from_millis(100),
            silence: Duration::from_millis(900),
            forget_after: Duration::from_secs(4),
            keep_transactions: rng.pick(&[5, 50, 1000]),
            keep_bytes: rng.pick(&[2000, 1 << 20]),
        }
    }

    pub fn upstream(&self) -> UpstreamConfig {
        UpstreamConfig {
            patience: Duration::from_millis(200),
            stale: Duration::from_millis(1500),
            rest: Duration::from_millis(300),
            rest_max: Duration::from_secs(2),
        }
    }

    pub fn follow(&self, incarnation: u64) -> FollowConfig {
        FollowConfig {
            silence: Duration::from_millis(800),
            backoff: Duration::from_millis(30),
            backoff_max: Duration::from_millis(500),
            gap_patience: Duration::from_millis(60),
            ..FollowConfig::new(incarnation)
        }
    }
}
