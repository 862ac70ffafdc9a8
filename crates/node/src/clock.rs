//! The node's clock, as the cores read it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use verge_dataset::BootTime;
use verge_replicate::Moment;

/// Counts the time in which the machine was suspended too: a lease does not stand still while a
/// laptop sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: BootTime,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: BootTime::now() }
    }

    /// Never 0, which stands for "not known" where a moment is kept as a number.
    pub(crate) fn now(&self) -> Moment {
        let micros = BootTime::now().since(self.start).as_micros();
        Moment(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// The same moment as the dataset's leases have it. Not later.
    pub(crate) fn boot_time(&self, at: Moment) -> BootTime {
        self.start.after(Duration::from_micros(at.0.saturating_sub(1)))
    }
}

pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A number that no other process start draws: nanoseconds since 1970 and the process's id.
pub(crate) fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    nanos ^ (u64::from(std::process::id()) << 40)
}
