//! Signs of life of one HTTP/1 connection or one HTTP/2 stream.
//!
//! The hot path only stores into these fields; nobody reads a clock or touches a timer there.
//! `watch` reads them now and then.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::strict::Phase;

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

/// Writes of fewer bytes may be pings and window updates only.
const BULK: usize = 512;

const NEVER: u64 = u64::MAX;

/// Only the connection's own tasks write; relaxed order is enough for a watch that samples.
#[derive(Debug)]
pub struct Vitals {
    base: Instant,
    reads: AtomicU64,
    writes: AtomicU64,
    bulk: AtomicU64,
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
            bulk: AtomicU64::new(0),
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
    pub fn wrote(&self, bytes: usize) {
        Self::bump(&self.writes);
        if bytes >= BULK {
            Self::bump(&self.bulk);
        }
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

    /// Changes with every byte either way.
    pub fn moved(&self) -> u64 {
        self.reads().wrapping_add(self.writes())
    }

    /// Changes when the client takes body bytes: control frames are smaller than `BULK`.
    pub fn bulk(&self) -> u64 {
        self.bulk.load(Relaxed)
    }

    pub fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    pub fn writes(&self) -> u64 {
        self.writes.load(Relaxed)
    }

    pub fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    pub fn phase(&self) -> u8 {
        self.phase.load(Relaxed)
    }

    pub fn heads(&self) -> u64 {
        self.heads.load(Relaxed)
    }

    pub fn is_body_wanted(&self) -> bool {
        self.body_wanted.load(Relaxed)
    }

    pub fn is_waiting_for_app(&self) -> bool {
        self.waits_for_app.load(Relaxed)
    }

    pub fn frames_out(&self) -> u64 {
        self.frames_out.load(Relaxed)
    }

    pub fn body_frames(&self) -> u64 {
        self.body_frames.load(Relaxed)
    }
}
