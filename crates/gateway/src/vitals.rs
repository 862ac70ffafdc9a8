//! Signs of life of one HTTP/1 connection or one HTTP/2 stream, and the watch that reads them.
//!
//! The hot path only stores into these fields; nobody reads a clock or touches a timer there.
//! A coarse timer asks [`Watch::check`] now and then, which compares with what it saw last.
//! A limit therefore fires between its value and its value plus one tick, never before.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::config::GatewayConfig;
use crate::strict::Phase;
use verge_telemetry::Rejection;

/// Counts what all requests of one connection get done. Shared by its streams.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// A request began, body bytes were taken, response bytes were given.
    pub fn made(&self) {
        // Streams run on several threads; a lost count does not matter, only the change does.
        Vitals::bump(&self.0);
    }

    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a held upgrade request was answered with.
const ANSWER_NONE: u8 = 0;
const ANSWER_HTTP: u8 = 1;
const ANSWER_TUNNEL: u8 = 2;

const NEVER: u64 = u64::MAX;

/// Only the connection's own tasks write; relaxed order is enough for a watch that samples.
#[derive(Debug)]
pub struct Vitals {
    base: Instant,
    reads: AtomicU64,
    writes: AtomicU64,
    write_blocked: AtomicBool,
    phase: AtomicU8,
    heads: AtomicU64,
    in_flight: AtomicBool,
    responded: AtomicBool,
    body_wanted: AtomicBool,
    /// Milliseconds after `base`.
    wall_deadline: AtomicU64,
    answer: AtomicU8,
    closing: AtomicBool,
    refused: AtomicBool,
    /// The app is what a streaming response waits for.
    waits_for_app: AtomicBool,
    frames_out: AtomicU64,
    body_frames: AtomicU64,
    body_limit: AtomicU64,
    body_over: AtomicBool,
    wall_over: AtomicBool,
    wants_close: AtomicBool,
}

impl Vitals {
    pub fn new(now: Instant) -> Self {
        Self {
            base: now,
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            write_blocked: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Idle as u8),
            heads: AtomicU64::new(0),
            in_flight: AtomicBool::new(false),
            responded: AtomicBool::new(false),
            body_wanted: AtomicBool::new(false),
            wall_deadline: AtomicU64::new(NEVER),
            answer: AtomicU8::new(ANSWER_NONE),
            closing: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            waits_for_app: AtomicBool::new(false),
            frames_out: AtomicU64::new(0),
            body_frames: AtomicU64::new(0),
            body_limit: AtomicU64::new(0),
            body_over: AtomicBool::new(false),
            wall_over: AtomicBool::new(false),
            wants_close: AtomicBool::new(false),
        }
    }

    fn bump(counter: &AtomicU64) {
        counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Bytes came from the client.
    pub fn read(&self) {
        Self::bump(&self.reads);
        self.body_wanted.store(false, Relaxed);
    }

    pub fn framing(&self, phase: Phase, heads: u64) {
        self.phase.store(phase as u8, Relaxed);
        self.heads.store(heads, Relaxed);
    }

    pub fn refuse(&self) {
        self.refused.store(true, Relaxed);
    }

    pub fn is_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// The client took bytes.
    pub fn wrote(&self) {
        Self::bump(&self.writes);
        self.write_blocked.store(false, Relaxed);
    }

    pub fn write_blocked(&self) {
        self.write_blocked.store(true, Relaxed);
    }

    pub fn closing(&self) {
        self.closing.store(true, Relaxed);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// True while the client is in the middle of sending a message.
    pub fn mid_message(&self) -> bool {
        self.is_refused()
            || self.phase.load(Relaxed) == Phase::Body as u8
            || self.phase.load(Relaxed) == Phase::Head as u8
    }

    /// A request began.
    pub fn begin(&self) {
        self.answer.store(ANSWER_NONE, Relaxed);
        for flag in [&self.responded, &self.body_wanted, &self.body_over, &self.wall_over] {
            flag.store(false, Relaxed);
        }
        self.in_flight.store(true, Relaxed);
    }

    /// The running request has to end by then.
    pub fn set_wall(&self, wall: Option<Instant>) {
        let after = |wall: Instant| wall.duration_since(self.base).as_millis() as u64 + 1;
        self.wall_deadline.store(wall.map_or(NEVER, after), Relaxed);
    }

    /// The running request's deadline has passed; whoever keeps the timer says so.
    pub fn expire(&self) {
        self.wall_over.store(true, Relaxed);
    }

    pub fn wall_is_over(&self) -> bool {
        self.wall_over.load(Relaxed)
    }

    pub fn set_body_limit(&self, bytes: u64) {
        self.body_limit.store(bytes, Relaxed);
    }

    pub fn body_limit(&self) -> u64 {
        self.body_limit.load(Relaxed)
    }

    pub fn body_over_limit(&self) {
        self.body_over.store(true, Relaxed);
    }

    pub fn is_over_body_limit(&self) -> bool {
        self.body_over.load(Relaxed)
    }

    /// A frame of the request body reached the app.
    pub fn body_came(&self) {
        Self::bump(&self.body_frames);
        self.body_wanted.store(false, Relaxed);
    }

    /// The connection must not be used after this response.
    pub fn want_close(&self) {
        self.wants_close.store(true, Relaxed);
    }

    pub fn wants_close(&self) -> bool {
        self.wants_close.load(Relaxed)
    }

    /// The response's head is known; `tunnel` when it is a `101`.
    pub fn respond(&self, tunnel: bool) {
        self.answer.store(if tunnel { ANSWER_TUNNEL } else { ANSWER_HTTP }, Relaxed);
        self.responded.store(true, Relaxed);
    }

    /// How a held upgrade was answered, if it was.
    pub fn tunnel_answer(&self) -> Option<bool> {
        match self.answer.load(Relaxed) {
            ANSWER_NONE => None,
            answer => Some(answer == ANSWER_TUNNEL),
        }
    }

    /// The last response byte was handed over, or the response was given up.
    pub fn finish(&self) {
        self.in_flight.store(false, Relaxed);
        self.wall_deadline.store(NEVER, Relaxed);
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.load(Relaxed)
    }

    /// For a connection of many streams: whether any of them runs.
    pub fn busy(&self, busy: bool) {
        self.in_flight.store(busy, Relaxed);
        self.heads.store(1, Relaxed);
    }

    pub fn has_responded(&self) -> bool {
        self.responded.load(Relaxed)
    }

    /// The app waits for more of the request body.
    pub fn body_wanted(&self) {
        self.body_wanted.store(true, Relaxed);
    }

    /// The response body was asked for its next frame; `pending` when the app has none yet.
    pub fn polled_out(&self, pending: bool) {
        self.waits_for_app.store(pending, Relaxed);
        if !pending {
            Self::bump(&self.frames_out);
        }
    }

    /// When the running request must have ended.
    pub fn wall_deadline(&self) -> Option<Instant> {
        match self.wall_deadline.load(Relaxed) {
            NEVER => None,
            millis => Some(self.base + Duration::from_millis(millis)),
        }
    }
}

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

    /// Looks at an HTTP/1 connection.
    pub fn check(&mut self, vitals: &Vitals, now: Instant) -> Verdict {
        let t = self.timeouts;
        let (reads, writes) = (vitals.reads.load(Relaxed), vitals.writes.load(Relaxed));
        if self.linger.over(vitals.is_closing(), 0, now, t.linger) {
            return Verdict::Lingered;
        }
        if self.write.over(vitals.write_blocked.load(Relaxed), writes, now, t.write) {
            return Verdict::Cut(Rejection::write_stall);
        }
        let in_flight = vitals.is_in_flight();
        if in_flight {
            self.head.since = None;
            self.idle.since = None;
            return self.check_request(vitals, now);
        }
        let phase = vitals.phase.load(Relaxed);
        let heads = vitals.heads.load(Relaxed);
        // A connection's first head is due from the start, a later one from its first byte.
        let head_due = phase == Phase::Head as u8 || (phase == Phase::Idle as u8 && heads == 0);
        if self.head.over(head_due, heads.max(1), now, t.head) {
            return Verdict::Cut(Rejection::head_timeout);
        }
        if self.idle.over(!head_due, reads, now, t.idle) {
            return Verdict::Idle;
        }
        Verdict::Fine
    }

    /// Looks at what a running request waits for.
    pub fn check_request(&mut self, vitals: &Vitals, now: Instant) -> Verdict {
        let t = self.timeouts;
        let wanted = vitals.body_wanted.load(Relaxed);
        let progress = vitals.reads.load(Relaxed).wrapping_add(vitals.body_frames.load(Relaxed));
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
        let stalled = vitals.has_responded() && !vitals.waits_for_app.load(Relaxed);
        let frames = vitals.frames_out.load(Relaxed);
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
            assert_eq!(watch.check(&vitals, start + second * SECOND), Verdict::Fine);
        }
        let verdict = watch.check(&vitals, start + 10 * SECOND);
        assert_eq!(verdict, Verdict::Cut(Rejection::head_timeout));
    }

    #[test]
    fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
        let (mut watch, vitals, start) = watch();
        vitals.read();
        vitals.framing(Phase::Idle, 1);
        assert_eq!(watch.check(&vitals, start), Verdict::Fine);
        assert_eq!(watch.check(&vitals, start + 20 * SECOND), Verdict::Idle);
        vitals.begin();
        assert_eq!(watch.check(&vitals, start + 40 * SECOND), Verdict::Fine);
        vitals.finish();
        assert_eq!(watch.check(&vitals, start + 60 * SECOND), Verdict::Fine);
    }

    #[test]
    fn a_body_is_only_late_while_the_app_waits_for_it() {
        let (mut watch, vitals, start) = watch();
        vitals.framing(Phase::Body, 1);
        vitals.begin();
        for second in 0..30 {
            assert_eq!(watch.check(&vitals, start + second * SECOND), Verdict::Fine);
        }
        vitals.body_wanted();
        assert_eq!(watch.check(&vitals, start + 30 * SECOND), Verdict::Fine);
        let verdict = watch.check(&vitals, start + 35 * SECOND);
        assert_eq!(verdict, Verdict::Cut(Rejection::body_timeout));
    }

    #[test]
    fn a_client_that_takes_bytes_slowly_is_kept() {
        let (mut watch, vitals, start) = watch();
        vitals.framing(Phase::Idle, 1);
        vitals.begin();
        for second in 0..30 {
            vitals.wrote();
            vitals.write_blocked();
            assert_eq!(watch.check(&vitals, start + second * SECOND), Verdict::Fine);
        }
        let verdict = watch.check(&vitals, start + 40 * SECOND);
        assert_eq!(verdict, Verdict::Cut(Rejection::write_stall));
    }
}
