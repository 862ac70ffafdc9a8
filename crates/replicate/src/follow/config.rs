//! Limits of following, in one place.

use std::time::Duration;

/// Settings of a node's following.
#[derive(Clone, Copy, Debug)]
pub struct FollowConfig {
    /// An upstream that was silent for so long is greeted anew.
    pub silence: Duration,
    /// The first back-off between greetings; doubles up to `backoff_max`, spread by half.
    pub backoff: Duration,
    pub backoff_max: Duration,
    /// How long a gap may stay open before a new handshake; covers mere reordering on the way.
    pub gap_patience: Duration,
    /// Bytes handed to `Apply` and not applied yet; more breaks the protocol.
    pub queue_bytes: usize,
    /// Differs between nodes.
    pub jitter_seed: u64,
}

impl FollowConfig {
    pub fn new(jitter_seed: u64) -> Self {
        Self {
            silence: Duration::from_secs(3),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            gap_patience: Duration::from_millis(50),
            queue_bytes: 64 << 20,
            jitter_seed,
        }
    }
}
