//! The life of an isolate's thread.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use deno_core::PollEventLoopOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Interval, MissedTickBehavior};
use verge_engine::{ExchangeId, Exchanges};
use verge_telemetry::{Level, LogRecord};
use verge_types::{Blame, Fault, Limit};

use super::boot::Booted;
use super::claim::describe;
use super::inbox::{Inbox, Next};
use super::meter::Meter;
use crate::event::{Claim, Command, Event};
use crate::limits::cpu::Verdict;
use crate::limits::fatal;
use crate::urgency::patiently;

/// Events taken up in one slice: their answers leave while the next ones run, and a burst does
/// not delay timers and streams for long.
const MAX_BATCH: usize = 16;
/// How often an isolate looks after itself: idle, retired, abandoned requests.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// Quiet time after which unneeded memory is given back.
const SHRINK_AFTER: Duration = Duration::from_secs(1);
/// How long a condemned or retired isolate may finish what it has begun.
const DRAIN: Duration = Duration::from_secs(30);

/// Threads that one isolate's blocking work (look-ups of names, keys, digests) may take.
const MAX_BLOCKING: usize = 8;

/// `ahead` when nobody waits for the isolate yet.
pub(super) fn thread_main(
    id: u64,
    boot: impl FnOnce() -> Result<Booted, String>,
    commands: UnboundedReceiver<Command>,
    ahead: bool,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(isolate = id, %error, "no event loop for an isolate");
            return;
        }
    };
    let inbox = Inbox::new(commands);
    runtime.block_on(async move {
        let booted = if ahead { patiently(boot) } else { boot() };
        match booted {
            Ok(booted) => live(id, booted, inbox).await,
            Err(error) => refuse_all(inbox, &error).await,
        }
    });
}

/// The isolate could not be made: whoever claims it is told.
async fn refuse_all(mut inbox: Inbox, error: &str) {
    let fault = Fault::new("isolate_failed", Blame::Platform, 503, "No isolate could be started")
        .with_retry_after(1)
        .with_detail(error);
    while let Some(next) = inbox.next().await {
        match next {
            Next::Event(event) => event.fail(fault.clone()),
            Next::Command(Command::Claim(claim)) => {
                if let Some(app) = claim.app.upgrade() {
                    app.start_failed(fault.clone());
                }
                drop(claim.ready.send(Err(fault.clone())));
            }
            Next::Command(Command::Retire) => break,
            Next::Command(_) => {}
        }
    }
}

async fn live(id: u64, mut booted: Booted, mut inbox: Inbox) {
    // The first command is the claim; until then the isolate waits in the pool.
    let Some(Next::Command(Command::Claim(claim))) = inbox.next().await else { return };
    let claim = *claim;
    let claimed = booted.claim(&claim).await;
    let Claim { app, host, limits, ready, meter, asked, start, .. } = claim;
    if let Err(fault) = claimed {
        if let Some((limit, _)) = fault.limit {
            host.limit_hit(limit);
        }
        host.log.write(LogRecord {
            time: std::time::SystemTime::now(),
            level: Level::Error,
            app: host.app.clone(),
            deployment: host.deployment.clone(),
            request: None,
            message: fault.detail.clone().unwrap_or_else(|| fault.message.clone()),
        });
        let app = app.upgrade();
        if let Some(app) = &app {
            app.isolate_gone(id);
            app.start_failed(fault.clone());
        }
        drop(ready.send(Err(fault.clone())));
        for event in inbox.close() {
            event.fail(fault.clone());
        }
        return;
    }
    let meter = Rc::new(Meter::start(meter, start, asked));
    drop(ready.send(Ok(())));
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut isolate = Live {
        id,
        booted,
        app,
        host,
        cpu_limit: limits.cpu_time,
        heap_limit: limits.heap,
        wall: Duration::from_millis(limits.wall_time),
        meter,
        refusals: 0,
        draining: None,
        last_active: Instant::now(),
        housekeeping,
        shrunk: false,
    };
    let inbox = Rc::new(RefCell::new(inbox));
    isolate.prepare_last_words(&inbox);
    std::future::poll_fn(|cx| isolate.tick(cx, &inbox)).await;
    fatal::clear_last_words();
    isolate.end(&inbox);
}

struct Live {
    id: u64,
    booted: Booted,
    app: std::sync::Weak<crate::App>,
    host: Arc<verge_engine::Host>,
    cpu_limit: u64,
    heap_limit: u64,
    wall: Duration,
    meter: Rc<Meter>,
    /// Refused array buffers that were counted.
    refusals: u64,
    /// Since when it takes no new requests.
    draining: Option<Instant>,
    last_active: Instant,
    housekeeping: Interval,
    /// Its memory was given back since it last worked.
    shrunk: bool,
}

impl Live {
    /// One slice, or several while events keep coming. Ready when the isolate is to end.
    fn tick(&mut self, cx: &mut Context<'_>, inbox: &SharedInbox) -> Poll<()> {
        loop {
            let mut taken = 0;
            let mut begun = 0..0;
            self.booted.ledger.begin();
            while taken < MAX_BATCH {
                let next = inbox.borrow_mut().poll_next(cx);
                match next {
                    Poll::Ready(Some(Next::Event(event))) => {
                        taken += 1;
                        if let Some(id) = self.take_up(event) {
                            // Ids rise one by one.
                            let first = if begun.is_empty() { id } else { begun.start };
                            begun = first..id.saturating_add(1);
                        }
                    }
                    Poll::Ready(Some(Next::Command(Command::Retire)) | None) => {
                        self.draining.get_or_insert_with(Instant::now);
                        break;
                    }
                    Poll::Ready(Some(Next::Command(Command::Courier(courier)))) => {
                        self.booted.with_exchanges(|exchanges| exchanges.set_courier(courier));
                    }
                    Poll::Ready(Some(Next::Command(Command::Claim(_) | Command::Events(_)))) => {}
                    Poll::Pending => break,
                }
                if self.booted.slice.verdict().is_some() {
                    break;
                }
            }
            let polled = self.booted.runtime.poll_event_loop(cx, PollEventLoopOptions::default());
            let open = self.booted.with_exchanges(|exchanges| {
                exchanges.flush();
                exchanges.ids()
            });
            self.booted.ledger.end(&open, begun);
            self.booted.ledger.check_external(self.booted.runtime.v8_isolate());
            if taken > 0 {
                self.last_active = Instant::now();
                self.shrunk = false;
            }
            if let Some(verdict) = self.booted.slice.verdict() {
                if self.execute(verdict) {
                    return Poll::Ready(());
                }
                continue;
            }
            if let Poll::Ready(Err(error)) = polled {
                self.log(Level::Error, describe(&error));
                continue;
            }
            if self.draining.is_some() && self.is_idle() {
                return Poll::Ready(());
            }
            if taken == MAX_BATCH {
                continue;
            }
            match Pin::new(&mut self.housekeeping).poll_tick(cx) {
                Poll::Ready(_) if self.keep_house(inbox) => return Poll::Ready(()),
                Poll::Ready(_) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take_up(&mut self, event: Event) -> Option<ExchangeId> {
        if event.reply.is_closed() {
            return None;
        }
        let id = self.booted.dispatch(event);
        if id.is_none() {
            self.draining.get_or_insert_with(Instant::now);
        }
        id
    }

    fn is_idle(&mut self) -> bool {
        self.booted.with_exchanges(|exchanges| exchanges.is_empty())
    }

    /// Carries out a verdict. True if the isolate must end now.
    fn execute(&mut self, verdict: Verdict) -> bool {
        self.booted.runtime.v8_isolate().cancel_terminate_execution();
        if let Some(app) = self.app.upgrade() {
            app.isolate_gone(self.id);
        }
        match verdict {
            Verdict::Heap | Verdict::ExternalMemory => {
                let limit = match verdict {
                    Verdict::ExternalMemory => Limit::ExternalMemory,
                    _ => Limit::Heap,
                };
                let fault = Fault::limit(limit, self.host.limits.get(limit));
                self.hit(limit);
                self.log(Level::Error, fault.message.clone());
                self.booted.with_exchanges(|exchanges| exchanges.fail_all(&fault));
                true
            }
            Verdict::Cpu => {
                let offender = self.booted.ledger.take_offender();
                let fault = Fault::limit(Limit::CpuTime, self.cpu_limit);
                self.hit(Limit::CpuTime);
                self.log(Level::Error, fault.message.clone());
                self.booted.with_exchanges(|exchanges| match offender {
                    Some(offender) => {
                        exchanges.fail(offender, fault);
                        exchanges.forget(offender);
                    }
                    // Nobody could be asked whose code it was.
                    None => exchanges.fail_all(&fault),
                });
                self.booted.slice.pardon();
                // The others may finish here; nothing new comes.
                self.draining.get_or_insert_with(Instant::now);
                false
            }
        }
    }

    fn hit(&self, limit: Limit) {
        self.host.limit_hit(limit);
    }

    /// True if the isolate is to end: drained, overdue, or idle for long enough.
    fn keep_house(&mut self, inbox: &SharedInbox) -> bool {
        let now = Instant::now();
        self.booted.sweep(now, self.wall);
        let open = self.booted.with_exchanges(|exchanges| exchanges.ids());
        self.booted.ledger.close(|id| open.contains(&id));
        self.measure(now, !open.is_empty());
        if let Some(since) = self.draining {
            return open.is_empty() || now.saturating_duration_since(since) > DRAIN;
        }
        if !open.is_empty() {
            self.last_active = now;
            return false;
        }
        match self.app.upgrade() {
            None => true,
            Some(app) => {
                self.shrink_once(now);
                now.saturating_duration_since(self.last_active) > app.idle_after()
                    && app.drop_idle(self.id, || inbox.borrow().is_empty())
            }
        }
    }

    /// Tells the metrics, unless nothing has happened since the last time.
    fn measure(&mut self, now: Instant, busy: bool) {
        let refusals = self.booted.buffers.refusals().0.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.refusals, refusals) != refusals {
            self.hit(Limit::ExternalMemory);
        }
        let recent = SHRINK_AFTER + 4 * HOUSEKEEPING;
        if busy || now.saturating_duration_since(self.last_active) < recent {
            self.meter.look(&self.booted.ledger, self.booted.runtime.v8_isolate());
        }
    }

    /// An isolate that has been quiet for a moment gives back what it does not need.
    fn shrink_once(&mut self, now: Instant) {
        let quiet = now.saturating_duration_since(self.last_active) > SHRINK_AFTER;
        if quiet && !std::mem::replace(&mut self.shrunk, true) {
            self.booted.runtime.v8_isolate().low_memory_notification();
        }
    }

    fn log(&self, level: Level, message: String) {
        self.host.log.write(LogRecord {
            time: std::time::SystemTime::now(),
            level,
            app: self.host.app.clone(),
            deployment: self.host.deployment.clone(),
            request: None,
            message,
        });
    }

    /// What is said if V8 gives up on this isolate in the middle of a slice.
    fn prepare_last_words(&mut self, inbox: &SharedInbox) {
        let op_state = self.booted.runtime.op_state();
        let (id, app, inbox) = (self.id, self.app.clone(), inbox.clone());
        let (meter, host) = (self.meter.clone(), self.host.clone());
        let fault = Fault::limit(Limit::Heap, self.heap_limit);
        fatal::set_last_words(move |_message| {
            meter.end();
            let app = app.upgrade();
            if let Some(app) = &app {
                app.isolate_gone(id);
            }
            host.limit_hit(Limit::Heap);
            // Borrowed means that an op was running: then its requests end by wall time.
            if let Ok(mut state) = op_state.try_borrow_mut() {
                let exchanges = state.borrow_mut::<Exchanges>();
                exchanges.fail_all(&fault);
                exchanges.flush();
            }
            if let Ok(mut inbox) = inbox.try_borrow_mut() {
                inbox.give_back(app.as_ref());
            }
        });
    }

    /// Gives back to the app what was never begun here, ends what was.
    fn end(mut self, inbox: &SharedInbox) {
        let app = self.app.upgrade();
        if let Some(app) = &app {
            app.isolate_gone(self.id);
        }
        inbox.borrow_mut().give_back(app.as_ref());
        self.booted.ledger.close(|_| false);
        self.meter.charge(&self.booted.ledger);
        self.booted.with_exchanges(|exchanges| {
            exchanges.fail_all(&gone());
            exchanges.flush();
        });
        patiently(|| drop(self));
    }
}

type SharedInbox = Rc<RefCell<Inbox>>;

pub(super) fn gone() -> Fault {
    Fault::new("isolate_gone", Blame::Platform, 503, "The app is being replaced; try again")
        .with_retry_after(1)
}
