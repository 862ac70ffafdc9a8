//! When V8 gives up.
//!
//! Some failures V8 answers by ending the process: an allocation that cannot be had even
//! after termination, an array longer than it can make ("fatal error with no security
//! impact", which ends in a trap instruction). One app must not do that to the others. So an
//! isolate's thread that comes here says its last words (its requests are told, its queue
//! goes to another isolate) and then never runs again: its stack and heap stay allocated,
//! which is counted, and nothing else of the process is touched.
//!
//! A panic in an op is treated alike. It cannot unwind through V8's frames, so Rust aborts at
//! the first of them, and it is that abort which is taken over: the hook, which comes earlier,
//! runs under a lock that a thread parked in it would keep for ever.
//!
//! A failed internal check is another matter: V8's state may be corrupt, so the process ends,
//! as it does when V8 fails on a thread that is no isolate's.

use std::cell::{Cell, RefCell};
use std::ffi::c_char;
use std::sync::atomic::{AtomicUsize, Ordering};

use deno_core::v8;

/// Isolates lost this way since the process began.
static LOST: AtomicUsize = AtomicUsize::new(0);
/// So many lost isolates may hold their memory; the next one ends the process, so that
/// whatever supervises it starts a clean one.
const MAX_LOST: usize = 64;

type LastWords = Box<dyn FnOnce(&str)>;

thread_local! {
    static LAST_WORDS: RefCell<Option<LastWords>> = const { RefCell::new(None) };
    /// A panic began on this thread. An abort without one is another matter (a broken heap,
    /// say) and ends the process.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// What the calling isolate's thread does when V8 gives up on it.
pub(crate) fn set_last_words(words: impl FnOnce(&str) + 'static) {
    LAST_WORDS.with(|slot| *slot.borrow_mut() = Some(Box::new(words)));
}

/// The isolate is ending in order.
pub(crate) fn clear_last_words() {
    LAST_WORDS.with(|slot| {
        if let Ok(mut slot) = slot.try_borrow_mut() {
            *slot = None;
        }
    });
}

/// Takes over V8's fatal errors, once a process.
pub(crate) fn install() {
    v8::V8::set_fatal_error_handler(on_check_failed);
    for (signal, handler) in [
        (libc::SIGTRAP, on_trap as extern "C" fn(libc::c_int)),
        (libc::SIGABRT, on_abort as extern "C" fn(libc::c_int)),
    ] {
        // SAFETY: an all-zero sigaction is a valid value to fill in.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handler as libc::sighandler_t;
        // SAFETY: the handler has the signature that goes without SA_SIGINFO; both pointers
        // are to values of this frame or null.
        if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
            tracing::error!(signal, "no handler: one app's fatal error ends the process");
        }
    }
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        PANICKED.set(true);
    }));
}

/// Takes over the out-of-memory failures of one isolate.
pub(crate) fn guard(isolate: &mut v8::Isolate) {
    isolate.set_oom_error_handler(on_oom);
}

/// V8 calls this for a failed check, not for what it deems to have no security impact.
fn on_check_failed(_file: &str, _line: i32, _message: &str) {
    clear_last_words();
}

/// V8's trap instruction, raised by this very thread at a known place: outside any allocator
/// or lock, so that the ordinary code below may run in a signal handler.
extern "C" fn on_trap(signal: libc::c_int) {
    give_up("fatal error without security impact");
    // SAFETY: restoring the default action and returning lets the trap end the process.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Raised by this very thread in `abort`, which holds no lock meanwhile and ends the process
/// if this returns.
extern "C" fn on_abort(_signal: libc::c_int) {
    if PANICKED.get() {
        give_up("a panic");
    }
}

unsafe extern "C" fn on_oom(_location: *const c_char, details: &v8::OomDetails) {
    give_up(if details.is_heap_oom { "out of heap memory" } else { "out of memory" });
}

/// Returns only where the process has to end.
fn give_up(message: &str) {
    let Some(words) = LAST_WORDS.with(|slot| slot.try_borrow_mut().ok()?.take()) else {
        return;
    };
    words(message);
    let lost = LOST.fetch_add(1, Ordering::Relaxed) + 1;
    tracing::error!(message, lost, "an isolate is lost: its thread is parked and its memory kept");
    if lost > MAX_LOST {
        return;
    }
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    /// As V8 calls an op: nothing unwinds out of it.
    extern "C" fn op() {
        panic!("as an op might");
    }

    #[test]
    fn a_panic_on_an_isolates_thread_is_its_end_only() {
        super::install();
        let (said, heard) = mpsc::channel();
        let isolate = std::thread::spawn(move || {
            super::set_last_words(move |message| said.send(message.to_owned()).expect("heard"));
            op();
        });
        assert_eq!(heard.recv_timeout(Duration::from_secs(10)).as_deref(), Ok("a panic"));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!isolate.is_finished(), "its thread is parked");
        let other = std::thread::spawn(|| panic!("on another thread")).join();
        assert!(other.is_err(), "other threads unwind as ever");
    }
}
