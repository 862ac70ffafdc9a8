//! The time that the engine goes by. A simulation has its own.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::boot::BootTime;

/// A node's clocks.
pub trait Clock: Send + Sync + 'static {
    /// For leases, and for how often a failed dataset tries to recover. Never goes back.
    fn now(&self) -> BootTime;
    /// What a segment is stamped with, ms since 1970.
    fn wall_ms(&self) -> u64;
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> BootTime {
        BootTime::now()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
