//! Limits of shipping, in one place.

use std::time::Duration;

/// Settings of a node's shipping.
#[derive(Clone, Copy, Debug)]
pub struct ShipConfig {
    /// Bytes on their way to one follower and not acknowledged. 4 MiB fills a 300 Mbit/s link of
    /// 100 ms.
    pub window_bytes: usize,
    /// Bytes to ask the log for at a time.
    pub load_bytes: usize,
    /// Newest segments kept in memory, so that live followers cost no reads.
    pub recent_bytes: usize,
    /// Between heartbeats to one follower.
    pub beat_every: Duration,
    /// A follower that was silent for so long is taken for gone.
    pub silence: Duration,
    /// A follower that was gone for so long holds back no segments any more.
    pub forget_after: Duration,
    /// Transactions kept for followers at most; one further behind gets a snapshot.
    pub keep_transactions: u64,
    /// Bytes of segments of this term kept for followers at most.
    pub keep_bytes: u64,
}

impl Default for ShipConfig {
    fn default() -> Self {
        Self {
            window_bytes: 4 << 20,
            load_bytes: 1 << 20,
            recent_bytes: 1 << 20,
            beat_every: Duration::from_millis(250),
            silence: Duration::from_secs(3),
            forget_after: Duration::from_secs(24 * 3600),
            keep_transactions: 1_000_000,
            keep_bytes: 1 << 30,
        }
    }
}
