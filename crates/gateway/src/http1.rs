//! Serves one HTTP/1 connection: hyper for the protocol, the watch for its time limits.
//!
//! One task and one coarse timer per connection; a request costs neither.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Sleep, sleep_until};
use verge_telemetry::Rejection;

use crate::config::GatewayConfig;
use crate::connection::{Connection, Stage};
use crate::exchange::Exchange;
use crate::strict::Strict;
use crate::vitals::Vitals;
use crate::watch::{Timeouts, Verdict, Watch};
use crate::wire::{Guard, Socket, Wire};

/// hyper wants room for at least this much.
const MIN_BUFFER: usize = 8192;

struct Http1Service {
    connection: Arc<Connection>,
    vitals: Arc<Vitals>,
}

impl Service<Request<Incoming>> for Http1Service {
    type Response = hyper::Response<crate::body::ResponseBody>;
    type Error = std::convert::Infallible;
    type Future = Exchange;

    fn call(&self, request: Request<Incoming>) -> Exchange {
        Exchange::begin(Arc::clone(&self.connection), Arc::clone(&self.vitals), request)
    }
}

fn builder(config: &GatewayConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watch does this without a timer per head.
        .header_read_timeout(None)
        .half_close(false)
        .max_buf_size(config.max_head_bytes.max(MIN_BUFFER))
        .max_header_size(config.max_head_bytes);
    // Never `pipeline_flush`: it takes away the bound of hyper's write buffer, and holds an
    // answer back while a part of the next request has come.
    if config.max_headers != crate::config::MAX_HEADERS {
        // Setting it, even to hyper's own default, moves the header table to the heap.
        builder.max_headers(config.max_headers);
    }
    builder
}

/// Runs the connection to its end.
pub async fn serve(connection: Arc<Connection>, socket: Socket, early: Vec<u8>) {
    let timeouts = Timeouts::of(connection.config());
    let shared = Arc::clone(connection.shared());
    let vitals = Arc::new(Vitals::new(Instant::now()));
    // Twice, so that hyper's own limit is hit first and says 431.
    let strict = Strict::new(2 * connection.config().max_head_bytes);
    let wire = Wire::new(socket, early, Guard::Http1(strict), Arc::clone(&vitals));
    let service = Http1Service { connection: Arc::clone(&connection), vitals: Arc::clone(&vitals) };
    let serving =
        builder(connection.config()).serve_connection(TokioIo::new(wire), service).with_upgrades();
    let mut serving = pin!(serving);
    let mut watch = Watch::new(timeouts);
    let mut timer = Timer::new(watch.tick());
    let mut sleep = pin!(sleep_until(timer.at.into()));
    let mut changed = pin!(shared.stage_changed.notified());
    let mut listening = false;
    let mut close_at: Option<Instant> = None;
    let mut leaving = false;
    let mut broken = false;

    let cut = poll_fn(|cx| {
        loop {
            if !listening {
                // Registered once; from then on the stage below is all that is looked at.
                listening = true;
                if changed.as_mut().poll(cx).is_ready() {
                    changed.set(shared.stage_changed.notified());
                    listening = false;
                }
            }
            match shared.stage() {
                Stage::Running => {}
                Stage::Cutting => return Poll::Ready(Some(Verdict::Cut(Rejection::drain))),
                Stage::Draining if close_at.is_none() => {
                    let at = Instant::now() + connection.config().drain_idle;
                    close_at = Some(at);
                    timer.no_later_than(at);
                    changed.set(shared.stage_changed.notified());
                    listening = false;
                    continue;
                }
                Stage::Draining => {}
            }
            if let Some(now) = timer.fired(sleep.as_mut()) {
                match watch.check(&vitals, vitals.moved(), now) {
                    Verdict::Fine => {}
                    Verdict::Idle if !leaving => {
                        leaving = true;
                        serving.as_mut().graceful_shutdown();
                    }
                    verdict => return Poll::Ready(Some(verdict)),
                }
                if close_at.is_some_and(|at| at <= now) {
                    serving.as_mut().graceful_shutdown();
                }
                timer.next(now, watch.tick());
            }
            if let Poll::Ready(result) = serving.as_mut().poll(cx) {
                broken = result.is_err_and(|error| error.is_parse());
                return Poll::Ready(None);
            }
            if let Some(deadline) = vitals.wall_deadline() {
                timer.no_later_than(deadline);
            }
            if vitals.is_closing() && !timer.closing {
                timer.closing = true;
                timer.no_later_than(Instant::now() + timeouts.linger / 4);
            }
            if timer.arm(sleep.as_mut(), cx) {
                return Poll::Pending;
            }
        }
    })
    .await;

    let metrics = &connection.config().metrics;
    if vitals.is_refused() || broken {
        metrics.connection_rejected(Rejection::malformed);
    } else if let Some(Verdict::Cut(reason)) = cut {
        metrics.connection_rejected(reason);
    }
}

/// The connection's one timer. It is only ever moved when it has to be earlier, or has fired.
struct Timer {
    at: Instant,
    /// When the `Sleep` is set to fire, if a waker is registered with it.
    armed: Option<Instant>,
    closing: bool,
}

impl Timer {
    fn new(tick: std::time::Duration) -> Self {
        Self { at: Instant::now() + tick, armed: None, closing: false }
    }

    fn no_later_than(&mut self, at: Instant) {
        self.at = self.at.min(at);
    }

    fn next(&mut self, now: Instant, tick: std::time::Duration) {
        self.at = now + tick;
    }

    /// The time, if the timer has fired.
    fn fired(&mut self, sleep: std::pin::Pin<&mut Sleep>) -> Option<Instant> {
        if self.armed.is_some() && sleep.is_elapsed() {
            self.armed = None;
            return Some(Instant::now());
        }
        None
    }

    /// Registers the task with the timer, unless it is. False if it has fired meanwhile.
    fn arm(
        &mut self,
        mut sleep: std::pin::Pin<&mut Sleep>,
        cx: &mut std::task::Context<'_>,
    ) -> bool {
        if self.armed == Some(self.at) {
            return true;
        }
        sleep.as_mut().reset(self.at.into());
        self.armed = Some(self.at);
        sleep.poll(cx).is_pending()
    }
}
