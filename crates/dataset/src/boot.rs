//! Time since the machine started, its sleep included.

use std::time::Duration;

/// A moment by a clock that never goes back and does not stand still while the machine sleeps: a
/// lease does not either. (`std::time::Instant` stands still on Linux.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// Before every lease: what is allowed until then is not allowed.
    pub const NEVER: Self = Self(Duration::ZERO);

    pub fn now() -> Self {
        Self(since_boot())
    }

    /// Time from `earlier` to this; zero if it lies before.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// A moment later than this.
    pub fn after(self, longer: Duration) -> Self {
        Self(self.0.saturating_add(longer))
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

/// Elsewhere the process's own clock has to do (macOS's `Instant` stands still in sleep as well;
/// Verge's servers are Linux).
#[cfg(not(target_os = "linux"))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed() + Duration::from_secs(1)
}
