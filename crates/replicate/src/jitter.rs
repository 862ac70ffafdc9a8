//! Reproducible spread for back-offs, so that nodes do not retry in step.

use std::time::Duration;

use crate::time::micros;

/// A splitmix64 stream. Not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between half of `around` and one and a half of it.
    pub(crate) fn spread(&mut self, around: Duration) -> Duration {
        let micros = micros(around).max(1);
        Duration::from_micros(micros / 2 + self.next() % micros)
    }

    /// A number that a restarted peer does not draw again.
    pub(crate) fn token(&mut self) -> u64 {
        self.next()
    }
}
