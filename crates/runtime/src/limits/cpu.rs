//! CPU time of a request.
//!
//! An isolate's thread runs *slices*: from taking up events until V8 has nothing more to do.
//! A slice that goes on is interrupted every few milliseconds by the watchdog; the interrupt,
//! on the isolate's own thread, asks V8 which request is running (see `context.js`), charges
//! it the CPU time since the last look, and ends it when its limit is used up. Slices too
//! short to be interrupted are charged at their end, in equal parts, to the requests that are
//! open then: an approximation, made up of pieces shorter than one tick.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use deno_core::v8;
use parking_lot::{Condvar, Mutex};
use rustc_hash::FxHashMap;
use verge_engine::ExchangeId;

use super::memory;
use crate::urgency::Thread;

/// How often the watchdog looks, and how long a slice may run before others go first.
const LOOK: Duration = Duration::from_millis(2);
/// How often a running slice is interrupted.
const TICK: Duration = Duration::from_millis(5);
/// Finished requests remembered for the metric between two looks; of more, some are not seen.
const MAX_FINISHED: usize = 16 * 1024;
/// External memory that an isolate has of its own, and how coarse its account may be.
const EXTERNAL_SLACK: u64 = 4 * 1024 * 1024;
/// External memory beyond the limit that may be garbage in the middle of a slice: V8 collects
/// when there are some 64 MiB of it.
const EXTERNAL_GARBAGE: u64 = 128 * 1024 * 1024;
/// Charged to the app's top-level code rather than to a request.
pub(crate) const STARTUP: ExchangeId = 0;

/// Why an isolate was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Cpu,
    Heap,
    ExternalMemory,
}

/// An app that computed for long a moment ago, in any of its isolates. Others go before it: what
/// fills its heap again and again does so in one short burst after the other, and in a new
/// isolate each time.
#[derive(Debug, Default)]
pub(crate) struct Restless(AtomicU64);

impl Restless {
    /// How long it is remembered, in nanoseconds.
    const MEMORY: u64 = 1_000_000_000;

    fn mark(&self, now: u64) {
        self.0.store(now + Self::MEMORY, Ordering::Release);
    }

    fn until(&self, now: u64) -> bool {
        now < self.0.load(Ordering::Acquire)
    }
}

/// What the watchdog and the isolate's thread share of it.
pub(crate) struct Slice {
    handle: v8::IsolateHandle,
    /// Nanoseconds since `EPOCH` at which the running slice began; 0 when none runs.
    running_since: AtomicU64,
    verdict: AtomicU8,
    interrupt_asked: AtomicBool,
    /// When it was asked, as `running_since`.
    asked_at: AtomicU64,
    thread: Thread,
    /// Others go first.
    patient: AtomicBool,
    /// Of the isolate's app.
    restless: OnceLock<Arc<Restless>>,
    /// Nanoseconds after which a slice that does not answer is ended; 0 is never.
    patience: AtomicU64,
}

fn now() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    let nanos = EPOCH.get_or_init(Instant::now).elapsed().as_nanos();
    u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
}

/// CPU time used by the calling thread so far.
pub(crate) fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec of this frame; the clock exists on every Linux.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0;
    if failed {
        return Duration::ZERO;
    }
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The thread's CPU time within slices. Asking the kernel costs as much as a tenth of a small
/// request, so what is over in a moment is taken by the wall clock, which can only be more.
struct Clock {
    /// CPU time when it was last asked for.
    read: Duration,
    /// What was told by the wall clock since then.
    told: Duration,
    /// Slices since then. Between slices the thread works too, and that must not add up.
    slices: u32,
    /// When the slice began or was last looked at.
    since: Instant,
}

impl Clock {
    /// A piece shorter than this is not worth asking.
    const MOMENT: Duration = Duration::from_micros(300);
    /// Slices after which the kernel is asked again.
    const MAX_SLICES: u32 = 32;

    fn new() -> Self {
        Self { read: thread_cpu(), told: Duration::ZERO, slices: 0, since: Instant::now() }
    }

    fn begin(&mut self) {
        if self.slices >= Self::MAX_SLICES {
            (self.read, self.told, self.slices) = (thread_cpu(), Duration::ZERO, 0);
        }
        self.slices += 1;
        self.since = Instant::now();
    }

    /// What was used since the slice began or this was last asked.
    fn take(&mut self) -> Duration {
        let now = Instant::now();
        let wall = now.saturating_duration_since(self.since);
        self.since = now;
        if wall < Self::MOMENT {
            self.told += wall;
            return wall;
        }
        let read = thread_cpu();
        let used = read.saturating_sub(self.read).saturating_sub(self.told);
        (self.read, self.told, self.slices) = (read, Duration::ZERO, 0);
        used.min(wall)
    }
}

impl Slice {
    /// Registers an isolate with the watchdog. Call on the isolate's thread.
    pub fn register(handle: v8::IsolateHandle) -> Arc<Self> {
        let slice = Arc::new(Self {
            handle,
            running_since: AtomicU64::new(0),
            verdict: AtomicU8::new(0),
            interrupt_asked: AtomicBool::new(false),
            asked_at: AtomicU64::new(0),
            thread: Thread::current(),
            patient: AtomicBool::new(false),
            restless: OnceLock::new(),
            patience: AtomicU64::new(0),
        });
        watchdog().add(&slice);
        slice
    }

    /// The isolate is one of this app's from now on.
    pub fn belongs_to(&self, app: Arc<Restless>) {
        // An isolate is claimed once.
        let _ = self.restless.set(app);
    }

    pub fn begin(&self) {
        let now = now();
        let restless = self.restless.get().is_some_and(|app| app.until(now));
        if restless != self.patient.load(Ordering::Acquire) {
            self.patient.store(restless, Ordering::Release);
            if restless { self.thread.be_patient() } else { self.thread.be_prompt() }
        }
        self.running_since.store(now, Ordering::Release);
        watchdog().wake();
    }

    pub fn end(&self) {
        self.running_since.store(0, Ordering::Release);
    }

    /// Lets others go first: the slice runs for long. It stays so until `begin` finds that the
    /// app has been quiet for a while.
    fn let_others_go_first(&self) {
        if let Some(app) = self.restless.get() {
            app.mark(now());
            if !self.patient.swap(true, Ordering::AcqRel) {
                self.thread.be_patient();
            }
        }
    }

    /// True if the running slice was asked and has kept silent for too long.
    fn is_deaf(&self) -> bool {
        let patience = self.patience.load(Ordering::Relaxed);
        let since = self.running_since.load(Ordering::Acquire);
        let waiting = since.max(self.asked_at.load(Ordering::Acquire));
        patience != 0 && since != 0 && now().saturating_sub(waiting) > patience
    }

    /// The first verdict stands.
    pub fn condemn(&self, verdict: Verdict) {
        let code = match verdict {
            Verdict::Cpu => 1,
            Verdict::Heap => 2,
            Verdict::ExternalMemory => 3,
        };
        let _ = self.verdict.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Takes the verdict back, once it has been carried out and the isolate may go on.
    pub fn pardon(&self) {
        self.verdict.store(0, Ordering::Release);
    }

    pub fn verdict(&self) -> Option<Verdict> {
        match self.verdict.load(Ordering::Acquire) {
            1 => Some(Verdict::Cpu),
            2 => Some(Verdict::Heap),
            3 => Some(Verdict::ExternalMemory),
            _ => None,
        }
    }
}

/// The CPU account of an isolate; lives on its thread.
pub(crate) struct Ledger {
    slice: Arc<Slice>,
    /// To read the running request's id in.
    context: v8::Global<v8::Context>,
    inner: RefCell<Account>,
}

struct Account {
    clock: Clock,
    limit: Duration,
    startup_limit: Duration,
    external_limit: u64,
    charged: FxHashMap<ExchangeId, Duration>,
    /// All that was used since this was last asked, whoever it was charged to.
    total: Duration,
    /// What requests have used that are over since this was last asked.
    finished: Vec<Duration>,
    /// Who used up its limit.
    offender: Option<ExchangeId>,
}

thread_local! {
    /// The ledger of this thread's isolate, for the interrupt.
    static LEDGER: RefCell<Option<std::rc::Rc<Ledger>>> = const { RefCell::new(None) };
}

impl Ledger {
    /// Makes the calling thread's ledger.
    pub fn install(slice: Arc<Slice>, context: v8::Global<v8::Context>) -> std::rc::Rc<Self> {
        let ledger = std::rc::Rc::new(Self {
            slice,
            context,
            inner: RefCell::new(Account {
                clock: Clock::new(),
                limit: Duration::MAX,
                startup_limit: Duration::MAX,
                external_limit: u64::MAX,
                charged: FxHashMap::default(),
                total: Duration::ZERO,
                finished: Vec::new(),
                offender: None,
            }),
        });
        LEDGER.with(|slot| *slot.borrow_mut() = Some(ledger.clone()));
        ledger
    }

    pub fn set_limits(&self, request: Duration, startup: Duration, external: u64) {
        let mut account = self.inner.borrow_mut();
        account.limit = request;
        account.startup_limit = startup;
        account.external_limit = external;
        if !verge_engine::answers_everywhere() {
            let patience = u64::try_from(request.max(startup).as_nanos()).unwrap_or(0);
            self.slice.patience.store(patience, Ordering::Relaxed);
        }
    }

    /// Condemns the isolate if it holds more memory outside its heap than its limit. The
    /// allocator refuses what goes through it, which what ops make does not.
    pub fn check_external(&self, isolate: &mut v8::Isolate) {
        let limit = self.inner.borrow().external_limit.saturating_add(EXTERNAL_SLACK);
        if memory::external(isolate) <= limit {
            return;
        }
        // Some of it may be garbage.
        isolate.low_memory_notification();
        if memory::external(isolate) > limit {
            self.slice.condemn(Verdict::ExternalMemory);
        }
    }

    /// The same in the middle of a slice, where garbage cannot be collected. True if the
    /// isolate must be terminated.
    fn look_at_external(&self, isolate: &mut v8::Isolate) -> bool {
        let limit = self.inner.borrow().external_limit.saturating_add(EXTERNAL_GARBAGE);
        let over = memory::external(isolate) > limit;
        if over {
            self.slice.condemn(Verdict::ExternalMemory);
        }
        over
    }

    pub fn begin(&self) {
        self.inner.borrow_mut().clock.begin();
        self.slice.begin();
    }

    /// Ends a slice: what no interrupt has charged goes in equal parts to `open` and to those
    /// that began and ended within the slice, which are the ones of `begun` that are not open.
    pub fn end(&self, open: &[ExchangeId], begun: Range<ExchangeId>) {
        self.slice.end();
        let mut account = self.inner.borrow_mut();
        let spent = account.take_spent();
        let still = open.iter().filter(|id| begun.contains(id)).count();
        let finished = begun.len().saturating_sub(still);
        let Ok(parts) = u32::try_from(open.len() + finished) else { return };
        if parts == 0 {
            return;
        }
        if finished > 0 {
            for id in begun.filter(|id| !open.contains(id)) {
                account.finish(id, spent / parts);
            }
        }
        for id in open {
            if account.charge(*id, spent / parts) {
                self.slice.condemn(Verdict::Cpu);
            }
        }
    }

    /// Who used up its CPU time, told once.
    pub fn take_offender(&self) -> Option<ExchangeId> {
        self.inner.borrow_mut().offender.take()
    }

    /// Drops the accounts of requests that are over.
    pub fn close(&self, still_open: impl Fn(ExchangeId) -> bool) {
        let account = &mut *self.inner.borrow_mut();
        let finished = &mut account.finished;
        account.charged.retain(|id, spent| {
            let open = still_open(*id);
            if !open && *id != STARTUP {
                finished.push(*spent);
            }
            open
        });
    }

    /// What was used in all, and by each request that is over, since this was last asked.
    pub fn take_used(&self) -> (Duration, Vec<Duration>) {
        let mut account = self.inner.borrow_mut();
        (std::mem::take(&mut account.total), std::mem::take(&mut account.finished))
    }

    /// Asked by an op that has been at work for `running` for a while, where no interrupt gets
    /// through. True if it must end; what called it is terminated then.
    pub fn look_from_op(&self, running: ExchangeId) -> bool {
        if self.slice.verdict().is_none() && !self.look(running) {
            return false;
        }
        self.slice.handle.terminate_execution();
        true
    }

    /// Looks at the running request. True if the isolate must be terminated.
    fn look(&self, running: ExchangeId) -> bool {
        let mut account = self.inner.borrow_mut();
        let spent = account.take_spent();
        if account.charge(running, spent) {
            self.slice.condemn(Verdict::Cpu);
            return true;
        }
        false
    }
}

impl Account {
    fn take_spent(&mut self) -> Duration {
        let spent = self.clock.take();
        self.total += spent;
        spent
    }

    /// The request is over and has used `spent` beside what it was charged before.
    fn finish(&mut self, id: ExchangeId, spent: Duration) {
        let charged = self.charged.remove(&id).unwrap_or_default();
        if self.finished.len() < MAX_FINISHED {
            self.finished.push(charged + spent);
        }
    }

    /// True when `id` has used up its limit.
    fn charge(&mut self, id: ExchangeId, spent: Duration) -> bool {
        let limit = if id == STARTUP { self.startup_limit } else { self.limit };
        let total = self.charged.entry(id).or_default();
        *total += spent;
        if *total > limit && self.offender.is_none() {
            self.offender = Some(id);
            return true;
        }
        false
    }
}

unsafe extern "C" fn on_interrupt(isolate: v8::UnsafeRawIsolatePtr, data: *mut c_void) {
    // SAFETY: `data` is the `Arc<Slice>` that the watchdog gave up for this one call.
    let slice = unsafe { Arc::from_raw(data.cast_const().cast::<Slice>()) };
    slice.interrupt_asked.store(false, Ordering::Release);
    let ledger = LEDGER.with(|slot| slot.borrow().clone());
    let Some(ledger) = ledger else { return };
    // SAFETY: V8 calls this on the isolate's own thread, with the isolate entered.
    let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
    let running = running_request(&mut isolate, &ledger.context).unwrap_or(STARTUP);
    if ledger.look(running) | ledger.look_at_external(&mut isolate) {
        slice.handle.terminate_execution();
    }
}

/// Reads `verge.id` from the value that V8 carries across awaits.
fn running_request(
    isolate: &mut v8::Isolate,
    context: &v8::Global<v8::Context>,
) -> Option<ExchangeId> {
    v8::scope!(let scope, isolate);
    let context = v8::Local::new(scope, context);
    let scope = &mut v8::ContextScope::new(scope, context);
    let frame = scope.get_continuation_preserved_embedder_data();
    let frame = v8::Local::<v8::Object>::try_from(frame).ok()?;
    let key = v8::String::new(scope, "verge")?;
    let state = v8::Local::<v8::Object>::try_from(frame.get(scope, key.into())?).ok()?;
    let key = v8::String::new(scope, "id")?;
    state.get(scope, key.into())?.uint32_value(scope)
}

/// One thread that asks long-running slices who is running.
struct Watchdog {
    slices: Mutex<Vec<Weak<Slice>>>,
    wake: Condvar,
    /// True while the thread sleeps because nothing ran.
    parked: AtomicBool,
}

fn watchdog() -> &'static Watchdog {
    static WATCHDOG: OnceLock<&'static Watchdog> = OnceLock::new();
    WATCHDOG.get_or_init(|| {
        let watchdog: &'static Watchdog = Box::leak(Box::new(Watchdog {
            slices: Mutex::new(Vec::new()),
            wake: Condvar::new(),
            parked: AtomicBool::new(false),
        }));
        let spawned = std::thread::Builder::new()
            .name("verge-watchdog".to_owned())
            .spawn(move || watchdog.run());
        if let Err(error) = spawned {
            tracing::error!(%error, "no watchdog thread: CPU limits are not enforced");
        }
        watchdog
    })
}

impl Watchdog {
    fn add(&self, slice: &Arc<Slice>) {
        self.slices.lock().push(Arc::downgrade(slice));
    }

    fn wake(&self) {
        if self.parked.load(Ordering::Acquire) {
            let _guard = self.slices.lock();
            self.parked.store(false, Ordering::Release);
            self.wake.notify_one();
        }
    }

    fn run(&self) -> ! {
        // Looks without any slice before the thread sleeps until it is woken.
        const QUIET_LOOKS: u32 = 100;
        let mut quiet = 0;
        loop {
            std::thread::sleep(LOOK);
            let mut slices = self.slices.lock();
            let mut running = false;
            slices.retain(|weak| {
                let Some(slice) = weak.upgrade() else { return false };
                let since = slice.running_since.load(Ordering::Acquire);
                if since != 0 {
                    running = true;
                    let running = Duration::from_nanos(now().saturating_sub(since));
                    if running >= LOOK {
                        slice.let_others_go_first();
                    }
                    if running >= TICK {
                        interrupt(&slice);
                    }
                }
                true
            });
            quiet = if running { 0 } else { quiet + 1 };
            if quiet > QUIET_LOOKS {
                self.parked.store(true, Ordering::Release);
                // A slice that began in between is found by the bound on the wait.
                self.wake.wait_for(&mut slices, Duration::from_secs(1));
                self.parked.store(false, Ordering::Release);
                quiet = 0;
            }
        }
    }
}

fn interrupt(slice: &Arc<Slice>) {
    if slice.interrupt_asked.swap(true, Ordering::AcqRel) {
        if slice.is_deaf() {
            slice.condemn(Verdict::Cpu);
            slice.handle.terminate_execution();
        }
        return;
    }
    slice.asked_at.store(now(), Ordering::Release);
    let data = Arc::into_raw(slice.clone());
    if !slice.handle.request_interrupt(on_interrupt, data.cast_mut().cast()) {
        // SAFETY: V8 did not take the pointer, so it is still ours.
        drop(unsafe { Arc::from_raw(data) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_charged_its_own_work_and_no_sleep() {
        let mut clock = Clock::new();
        for _ in 0..10 {
            // Work between slices is not theirs.
            let start = thread_cpu();
            while thread_cpu() - start < Duration::from_micros(200) {}
            clock.begin();
            clock.take();
        }
        clock.begin();
        let start = thread_cpu();
        while thread_cpu() - start < Duration::from_millis(5) {}
        let mine = thread_cpu() - start;
        std::thread::sleep(Duration::from_millis(30));
        let charged = clock.take();
        assert!(charged >= mine, "{charged:?} of {mine:?}");
        assert!(charged < mine + Duration::from_millis(15), "{charged:?} of {mine:?}");
    }

    #[test]
    fn thread_cpu_time_counts_work_and_not_sleep() {
        let before = thread_cpu();
        std::thread::sleep(Duration::from_millis(30));
        let slept = thread_cpu() - before;
        assert!(slept < Duration::from_millis(20), "{slept:?}");
    }
}
