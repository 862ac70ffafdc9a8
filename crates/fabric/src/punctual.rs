//! A timer that is right to tens of microseconds. Tokio's counts in milliseconds and rounds up,
//! and so does the kernel's wait below it: on a simulated link that is a millisecond more, each
//! way.

use tokio::time::{Instant, sleep_until};

/// One timer; it waits for one moment at a time.
pub(crate) struct Timer {
    #[cfg(target_os = "linux")]
    fine: Option<linux::Fine>,
}

impl Timer {
    pub fn new() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            fine: linux::Fine::new().ok(),
        }
    }

    /// Never returns before `at`. Where there is no finer timer, or the clock is a test's, tokio's
    /// timer is first.
    pub async fn until(&mut self, at: Instant) {
        #[cfg(target_os = "linux")]
        if let Some(fine) = &mut self.fine {
            tokio::select! {
                biased;
                Ok(()) = fine.until(at.into_std()) => {}
                () = sleep_until(at) => {}
            }
        }
        // A test's clock may be behind the machine's.
        if Instant::now() < at {
            sleep_until(at).await;
        }
    }
}

/// `timerfd_create(2)`: a timer that is a file descriptor.
#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    pub struct Fine {
        fd: AsyncFd<OwnedFd>,
        set_to: Option<Instant>,
    }

    impl Fine {
        pub fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            // SAFETY: an `OwnedFd` stays open, and the same, until the `AsyncFd` is dropped.
            let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
            Ok(Self { fd, set_to: None })
        }

        pub async fn until(&mut self, at: Instant) -> io::Result<()> {
            if self.set_to != Some(at) {
                let left = at.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(());
                }
                self.set(left)?;
                self.set_to = Some(at);
            }
            loop {
                let mut ready = self.fd.readable().await?;
                let fired = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut [0; 8])?));
                match fired {
                    Ok(read) => {
                        self.set_to = None;
                        return read.map(|_| ());
                    }
                    // It was ready for an earlier moment.
                    Err(_) => continue,
                }
            }
        }

        fn set(&self, left: Duration) -> io::Result<()> {
            let it_value = left.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
            let once = Itimerspec { it_interval: Default::default(), it_value };
            timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_is_never_early_and_can_be_set_again() {
        let mut timer = Timer::new();
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        tokio::select! {
            () = timer.until(at(10_000)) => panic!("ten seconds early"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        for ms in [3, 5, 4, 8] {
            timer.until(at(ms)).await;
            assert!(Instant::now() >= at(ms), "{ms}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tests_clock_counts() {
        let begun = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        Timer::new().until(begun + Duration::from_millis(1)).await;
        assert_eq!(begun.elapsed(), Duration::from_millis(1));
        let hour = Duration::from_secs(3600);
        Timer::new().until(begun + hour).await;
        assert_eq!(begun.elapsed(), hour);
    }
}
