//! The lease's settings and what must hold between them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::{AckMode, Failover, NodeId};

/// Settings of one node for one dataset.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    pub me: NodeId,
    /// Drawn at random at the process's start; never used again by this node.
    pub incarnation: u64,
    /// All nodes that may become primary or consent to an acknowledgement, this one included if
    /// it is one of them. The same on every node.
    pub voters: BTreeSet<NodeId>,
    pub mode: AckMode,
    pub failover: Failover,
    /// How long others leave a record alone.
    pub ttl: Duration,
    /// What a holder stops early, and a challenger waits longer. Covers drift of clocks.
    pub margin: Duration,
    /// How often a holder renews and others look.
    pub renew_every: Duration,
    /// When a register operation without an answer is given up.
    pub operation_timeout: Duration,
    /// How long a candidate waits for voters that do not answer.
    pub poll_patience: Duration,
    /// How long a planned hand-over may keep writers waiting before it is called off.
    pub hand_over_limit: Duration,
    /// Spreads back-offs; any number that differs between nodes.
    pub jitter_seed: u64,
}

impl LeaseConfig {
    /// The usual times: failover begins 6 s after the primary's last sign.
    pub fn new(me: NodeId, incarnation: u64, voters: BTreeSet<NodeId>, mode: AckMode) -> Self {
        let failover = match mode {
            AckMode::Local => Failover::AfterPatience,
            AckMode::Follower | AckMode::Quorum => Failover::OnlySafe,
        };
        Self {
            me,
            incarnation,
            voters,
            mode,
            failover,
            ttl: Duration::from_secs(5),
            margin: Duration::from_millis(500),
            renew_every: Duration::from_secs(1),
            operation_timeout: Duration::from_secs(1),
            poll_patience: Duration::from_millis(500),
            hand_over_limit: Duration::from_secs(2),
            jitter_seed: me.0 ^ incarnation.rotate_left(32),
        }
    }

    /// Refuses settings under which a lease would end between two renewals.
    pub fn validate(&self) -> Result<(), BadLeaseConfig> {
        let usable = self.ttl.saturating_sub(self.margin);
        if self.margin.is_zero() || self.ttl < Duration::from_millis(1) {
            return Err(BadLeaseConfig::NoMargin);
        }
        if self.renew_every + self.operation_timeout >= usable {
            return Err(BadLeaseConfig::RenewsTooLate);
        }
        Ok(())
    }
}

/// Settings that cannot work; the operator's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLeaseConfig {
    #[error("a lease needs a margin above zero and a time to live of at least 1 ms")]
    NoMargin,
    #[error("renew_every + operation_timeout must be shorter than ttl - margin")]
    RenewsTooLate,
}
