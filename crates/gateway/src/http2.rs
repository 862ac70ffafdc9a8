//! Serves one HTTP/2 connection: hyper for the protocol, a watch for the connection and one
//! for each stream.
//!
//! hyper runs each stream as a task of its own; its timer is armed only if the stream is not
//! done at once.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Sleep, sleep_until};
use verge_telemetry::Rejection;

use crate::connection::{Connection, Stage};
use crate::exchange::Exchange;
use crate::vitals::Vitals;
use crate::watch::{Timeouts, Verdict, Watch};
use crate::wire::{Budget, Guard, Socket, Wire};

/// hyper calls the service and then hands the stream to the executor, in one go; this is
/// where the service leaves the stream's vitals for the executor to find.
type Handover = Arc<Mutex<Option<Arc<Vitals>>>>;

struct Http2Service {
    connection: Arc<Connection>,
    handover: Handover,
}

impl Service<Request<Incoming>> for Http2Service {
    type Response = hyper::Response<crate::body::ResponseBody>;
    type Error = std::convert::Infallible;
    type Future = Exchange;

    fn call(&self, request: Request<Incoming>) -> Exchange {
        let vitals = Arc::new(Vitals::new(Instant::now()));
        *self.handover.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&vitals));
        Exchange::begin(Arc::clone(&self.connection), vitals, request)
    }
}

#[derive(Clone)]
struct Streams {
    connection: Arc<Connection>,
    handover: Handover,
    timeouts: Timeouts,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let vitals = self.handover.lock().unwrap_or_else(PoisonError::into_inner).take();
        match vitals {
            Some(vitals) => {
                let watch = Watch::new(self.timeouts);
                let connection = Arc::clone(&self.connection);
                tokio::spawn(stream(future, connection, vitals, watch));
            }
            // What hyper runs beside its streams, such as the pump of an upgraded one.
            None => {
                tokio::spawn(async move {
                    future.await;
                });
            }
        }
    }
}

/// Runs one stream; dropping the future resets the stream.
async fn stream<F: Future>(
    future: F,
    connection: Arc<Connection>,
    vitals: Arc<Vitals>,
    mut watch: Watch,
) {
    let mut future = pin!(future);
    let mut sleep: Option<Pin<Box<Sleep>>> = None;
    let verdict = poll_fn(|cx: &mut Context<'_>| {
        loop {
            if future.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Verdict::Fine);
            }
            let now = Instant::now();
            let next = now + watch.tick();
            let next = vitals.wall_deadline().map_or(next, |deadline| next.min(deadline));
            let timer = sleep.get_or_insert_with(|| Box::pin(sleep_until(next.into())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match watch.check_stream(&vitals, now) {
                Verdict::Fine => {}
                verdict => return Poll::Ready(verdict),
            }
            // A deadline that has passed has been told; it must not be waited for again.
            let deadline = vitals.wall_deadline().filter(|deadline| *deadline > now);
            let next = now + watch.tick();
            timer.as_mut().reset(deadline.map_or(next, |d| next.min(d)).into());
        }
    })
    .await;
    // The wall limit is counted where the request ends, in `finish`.
    if let Verdict::Cut(reason) = verdict {
        connection.config().metrics.connection_rejected(reason);
    }
}

/// Runs the connection to its end.
pub async fn serve(connection: Arc<Connection>, socket: Socket, early: Vec<u8>) {
    let config = connection.config();
    let shared = Arc::clone(connection.shared());
    let timeouts = Timeouts::of(config);
    let handover = Handover::default();
    let executor =
        Streams { connection: Arc::clone(&connection), handover: Arc::clone(&handover), timeouts };
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.h2_max_streams)
        .max_pending_accept_reset_streams(config.h2_max_pending_resets)
        .max_local_error_reset_streams(config.h2_max_local_resets)
        .initial_stream_window_size(config.h2_stream_window)
        .initial_connection_window_size(config.h2_connection_window)
        .max_send_buf_size(config.h2_send_buffer)
        .max_header_list_size(u32::try_from(config.max_head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(config.h2_ping_interval)
        .keep_alive_timeout(config.h2_ping_timeout)
        .enable_connect_protocol();
    let vitals = Arc::new(Vitals::new(Instant::now()));
    let budget = Budget::new(config.h2_max_idle_bytes, connection.progress());
    let guard = Guard::Http2(budget);
    let wire = Wire::new(socket, early, guard, Arc::clone(&vitals));
    let service = Http2Service { connection: Arc::clone(&connection), handover };
    let mut serving = pin!(builder.serve_connection(TokioIo::new(wire), service));
    let mut watch = Watch::new(timeouts);
    let mut sleep = pin!(sleep_until((Instant::now() + watch.tick()).into()));
    let mut changed = pin!(shared.stage_changed.notified());
    let mut leaving: Option<Instant> = None;

    let end = poll_fn(|cx| {
        loop {
            match shared.stage() {
                Stage::Running => {}
                Stage::Cutting => return Poll::Ready(Err(Verdict::Cut(Rejection::drain))),
                Stage::Draining if leaving.is_none() => {
                    leaving = Some(Instant::now());
                    serving.as_mut().graceful_shutdown();
                }
                Stage::Draining => {}
            }
            if changed.as_mut().poll(cx).is_ready() {
                changed.set(shared.stage_changed.notified());
                continue;
            }
            if let Poll::Ready(result) = serving.as_mut().poll(cx) {
                return Poll::Ready(Ok(result));
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            vitals.busy(connection.running() > 0);
            // Our own pings and their answers must not keep an unused connection open.
            let progress = connection.progress().count().wrapping_add(vitals.bulk());
            match watch.check(&vitals, progress, now) {
                Verdict::Fine => {}
                Verdict::Idle if leaving.is_none() => {
                    leaving = Some(now);
                    serving.as_mut().graceful_shutdown();
                }
                // A client that holds back its window keeps even an idle connection open.
                Verdict::Idle => return Poll::Ready(Err(Verdict::Cut(Rejection::write_stall))),
                verdict => return Poll::Ready(Err(verdict)),
            }
            sleep.as_mut().reset((now + watch.tick()).into());
        }
    })
    .await;

    let metrics = &connection.config().metrics;
    match end {
        Err(Verdict::Cut(reason)) => metrics.connection_rejected(reason),
        Ok(Err(error)) if error.is_user() || is_protocol_error(&error) => {
            metrics.connection_rejected(Rejection::h2_abuse);
        }
        _ => {}
    }
}

/// True if the peer broke the protocol, false if it merely went away.
fn is_protocol_error(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
            // Our own verdict on a flood is the one that has no system error behind it.
            return cause.kind() == std::io::ErrorKind::Other;
        }
        source = cause.source();
    }
    !error.is_incomplete_message() && !error.is_closed()
}
