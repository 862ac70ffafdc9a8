//! The node's monotonic clock, as the cores read it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use verge_replicate::Moment;

/// Counts the time in which the machine was suspended too, where the system tells it: a lease
/// does not stand still while a laptop sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: since_boot() }
    }

    /// Never 0, which stands for "not known" where a moment is kept as a number.
    pub(crate) fn now(&self) -> Moment {
        let micros = since_boot().saturating_sub(self.start).as_micros();
        Moment(u64::try_from(micros).unwrap_or(u64::MAX).saturating_add(1))
    }

    /// The same moment by the process's own clock, if the machine is not suspended before it.
    pub(crate) fn instant(&self, at: Moment) -> Instant {
        let far = Duration::from_secs(100 * 365 * 24 * 3600);
        Instant::now() + at.since(self.now()).min(far)
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill in, and the clock exists since
    // Linux 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
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
