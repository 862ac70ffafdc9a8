//! The node's monotonic clock, as the cores read it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use verge_replicate::Moment;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Never 0, which stands for "not known" where a moment is kept as a number.
    pub(crate) fn now(&self) -> Moment {
        let micros = self.start.elapsed().as_micros();
        Moment(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(1))
    }

    pub(crate) fn instant(&self, at: Moment) -> Instant {
        let far = Duration::from_secs(100 * 365 * 24 * 3600);
        self.start + Duration::from_micros(at.0).min(far)
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
