//! A node's virtual clocks, as its engine sees them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use verge_dataset::{BootTime, Clock};
use verge_replicate::Moment;

/// Stands still until it is set.
#[derive(Debug, Default)]
pub struct SimClock {
    now: AtomicU64,
    wall_ms: AtomicU64,
}

impl SimClock {
    pub fn set(&self, now: Moment, wall_ms: u64) {
        self.now.store(now.0, Ordering::SeqCst);
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

pub fn boot_time(at: Moment) -> BootTime {
    BootTime::NEVER.after(Duration::from_micros(at.0))
}

impl Clock for SimClock {
    fn now(&self) -> BootTime {
        boot_time(Moment(self.now.load(Ordering::SeqCst)))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}
