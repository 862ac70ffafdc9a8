//! Turns signs of life into verdicts: which connection is idle, stalled, late.
//!
//! A coarse timer asks [`Watch::check`] now and then; it compares with what it saw last. A
//! limit therefore fires between its value and its value plus one tick, never before. Takes
//! time as an argument and does no I/O.

use std::time::{Duration, Instant};

use verge_telemetry::Rejection;

use crate::config::GatewayConfig;
use crate::strict::Phase;
use crate::vitals::Vitals;

/// How long one condition has lasted without progress.
#[derive(Debug, Default)]
struct Stall {
    since: Option<(u64, Instant)>,
}

impl Stall {
    /// True when `active` held with the same `progress` for `limit`.
    fn over(&mut self, active: bool, progress: u64, now: Instant, limit: Duration) -> bool {
        if !active {
            self.since = None;
            return false;
        }
        match self.since {
            Some((seen, since)) if seen == progress => now.duration_since(since) >= limit,
            _ => {
                self.since = Some((progress, now));
                false
            }
        }
    }
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Nothing happens on it: close it in good order.
    Idle,
    /// A limit was broken.
    Cut(Rejection),
    /// The client goes on sending after we closed our side.
    Lingered,
    /// The running request's wall time is over and its response has begun. (Where it has
    /// not, the exchange answers 504 as soon as it is polled.)
    WallTime,
}

/// Timeouts of one connection or stream.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub head: Duration,
    pub idle: Duration,
    pub body: Duration,
    pub write: Duration,
    pub linger: Duration,
}

impl Timeouts {
    pub fn of(config: &GatewayConfig) -> Self {
        Self {
            head: config.head_timeout,
            idle: config.idle_timeout,
            body: config.body_idle_timeout,
            write: config.write_stall_timeout,
            linger: config.linger_timeout,
        }
    }

    /// How often the watch looks.
    pub fn tick(&self) -> Duration {
        let shortest = self.head.min(self.idle).min(self.body).min(self.write);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(4))
    }
}

/// Compares samples of [`Vitals`].
#[derive(Debug)]
pub struct Watch {
    timeouts: Timeouts,
    head: Stall,
    idle: Stall,
    body: Stall,
    write: Stall,
    stream: Stall,
    linger: Stall,
}

impl Watch {
    pub fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            head: Stall::default(),
            idle: Stall::default(),
            body: Stall::default(),
            write: Stall::default(),
            stream: Stall::default(),
            linger: Stall::default(),
        }
    }

    pub fn tick(&self) -> Duration {
        self.timeouts.tick()
    }

    /// Looks at a connection. `progress` is what keeps it from being idle: any number that
    /// changes while something of use happens.
    pub fn check(&mut self, vitals: &Vitals, progress: u64, now: Instant) -> Verdict {
        let t = self.timeouts;
        let writes = vitals.writes();
        if self.linger.over(vitals.is_closing(), 0, now, t.linger) {
            return Verdict::Lingered;
        }
        if self.write.over(vitals.is_write_blocked(), writes, now, t.write) {
            return Verdict::Cut(Rejection::write_stall);
        }
        let in_flight = vitals.is_in_flight();
        if in_flight {
            self.head.since = None;
            self.idle.since = None;
            return self.check_request(vitals, now);
        }
        let phase = vitals.phase();
        let heads = vitals.heads();
        // A connection's first head is due from the start, a later one from its first byte.
        let head_due = phase == Phase::Head as u8 || (phase == Phase::Idle as u8 && heads == 0);
        if self.head.over(head_due, heads.max(1), now, t.head) {
            return Verdict::Cut(Rejection::head_timeout);
        }
        if self.idle.over(!head_due, progress, now, t.idle) {
            return Verdict::Idle;
        }
        Verdict::Fine
    }

    /// Looks at what a running request waits for.
    pub fn check_request(&mut self, vitals: &Vitals, now: Instant) -> Verdict {
        let t = self.timeouts;
        let wanted = vitals.is_body_wanted();
        let progress = vitals.reads().wrapping_add(vitals.body_frames());
        if self.body.over(wanted, progress, now, t.body) {
            return Verdict::Cut(Rejection::body_timeout);
        }
        if vitals.wall_deadline().is_some_and(|deadline| deadline <= now) {
            vitals.expire();
            if vitals.has_responded() {
                return Verdict::WallTime;
            }
        }
        Verdict::Fine
    }

    /// Looks at an HTTP/2 stream, which stalls when its client gives it no window.
    pub fn check_stream(&mut self, vitals: &Vitals, now: Instant) -> Verdict {
        let stalled = vitals.has_responded() && !vitals.is_waiting_for_app();
        let frames = vitals.frames_out();
        if self.stream.over(stalled, frames, now, self.timeouts.write) {
            return Verdict::Cut(Rejection::write_stall);
        }
        self.check_request(vitals, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch() -> (Watch, Vitals, Instant) {
        let timeouts = Timeouts {
            head: 10 * SECOND,
            idle: 20 * SECOND,
            body: 5 * SECOND,
            write: 5 * SECOND,
            linger: SECOND,
        };
        let now = Instant::now();
        (Watch::new(timeouts), Vitals::new(now), now)
    }

    #[test]
    fn a_head_that_dribbles_in_is_cut_though_bytes_come() {
        let (mut watch, vitals, start) = watch();
        for second in 0..10 {
            vitals.read();
            vitals.framing(Phase::Head, 1);
            assert_eq!(
                watch.check(&vitals, vitals.moved(), start + second * SECOND),
                Verdict::Fine
            );
        }
        let verdict = watch.check(&vitals, vitals.moved(), start + 10 * SECOND);
        assert_eq!(verdict, Verdict::Cut(Rejection::head_timeout));
    }

    #[test]
    fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
        let (mut watch, vitals, start) = watch();
        vitals.read();
        vitals.framing(Phase::Idle, 1);
        assert_eq!(watch.check(&vitals, vitals.moved(), start), Verdict::Fine);
        assert_eq!(watch.check(&vitals, vitals.moved(), start + 20 * SECOND), Verdict::Idle);
        vitals.begin();
        assert_eq!(watch.check(&vitals, vitals.moved(), start + 40 * SECOND), Verdict::Fine);
        vitals.finish();
        assert_eq!(watch.check(&vitals, vitals.moved(), start + 60 * SECOND), Verdict::Fine);
    }

    #[test]
    fn a_body_is_only_late_while_the_app_waits_for_it() {
        let (mut watch, vitals, start) = watch();
        vitals.framing(Phase::Body, 1);
        vitals.begin();
        for second in 0..30 {
            assert_eq!(
                watch.check(&vitals, vitals.moved(), start + second * SECOND),
                Verdict::Fine
            );
        }
        vitals.body_wanted();
        assert_eq!(watch.check(&vitals, vitals.moved(), start + 30 * SECOND), Verdict::Fine);
        let verdict = watch.check(&vitals, vitals.moved(), start + 35 * SECOND);
        assert_eq!(verdict, Verdict::Cut(Rejection::body_timeout));
    }

    #[test]
    fn a_client_that_takes_bytes_slowly_is_kept() {
        let (mut watch, vitals, start) = watch();
        vitals.framing(Phase::Idle, 1);
        vitals.begin();
        for second in 0..30 {
            vitals.wrote(1);
            vitals.write_blocked();
            assert_eq!(
                watch.check(&vitals, vitals.moved(), start + second * SECOND),
                Verdict::Fine
            );
        }
        let verdict = watch.check(&vitals, vitals.moved(), start + 40 * SECOND);
        assert_eq!(verdict, Verdict::Cut(Rejection::write_stall));
    }
}
