//! Which segments the log must keep: what the slowest known follower and every open snapshot
//! need, up to a cap. Beyond the cap a follower gets a snapshot; a full disk would cost all.

use std::collections::{BTreeMap, VecDeque};

use crate::ship::ShipConfig;
use crate::{Moment, NodeId};

#[derive(Clone, Debug, Default)]
pub(super) struct Retention {
    /// Followers that are not in a session: what they had, and when they were last heard.
    gone: BTreeMap<NodeId, (u64, Moment)>,
    sizes: VecDeque<(u64, u64)>,
    total: u64,
    /// Segments before this one are beyond the cap on bytes.
    cut: u64,
    last: u64,
}

impl Retention {
    /// A follower that is known without a session: it had everything up to `txid`.
    pub fn gone(&mut self, node: NodeId, txid: u64, now: Moment) {
        self.gone.insert(node, (txid, now));
    }

    pub fn returned(&mut self, node: NodeId) {
        self.gone.remove(&node);
    }

    pub fn appended(&mut self, txid: u64, bytes: usize, config: &ShipConfig) {
        self.sizes.push_back((txid, bytes as u64));
        self.total += bytes as u64;
        while self.total > config.keep_bytes && self.sizes.len() > 1 {
            if let Some((txid, bytes)) = self.sizes.pop_front() {
                self.total -= bytes;
                self.cut = txid + 1;
            }
        }
    }

    /// The first segment to keep, if that has moved on. `needs` are the transactions up to which
    /// each follower and snapshot in a session has everything.
    pub fn floor(
        &mut self,
        needs: impl Iterator<Item = u64>,
        tip: u64,
        now: Moment,
        config: &ShipConfig,
    ) -> Option<u64> {
        self.gone.retain(|_, (_, since)| now.since(*since) < config.forget_after);
        let slowest = needs.chain(self.gone.values().map(|(txid, _)| *txid)).min().unwrap_or(tip);
        let capped = (tip + 1).saturating_sub(config.keep_transactions);
        let floor = (slowest.min(tip) + 1).max(capped).max(self.cut);
        while self.sizes.front().is_some_and(|(txid, _)| *txid < floor) {
            if let Some((_, bytes)) = self.sizes.pop_front() {
                self.total -= bytes;
            }
        }
        (floor > self.last).then(|| {
            self.last = floor;
            floor
        })
    }
}
