//! Which of the process's threads the kernel lets go first when there are more than cores.
//!
//! A thread that is *prompt* runs in short turns and takes the core from one that is *patient*
//! as soon as it wakes (EEVDF: of two threads that are due, the one with the shorter turn). All
//! threads are prompt, but for isolates whose app has computed for a while without a pause, and
//! work that nobody waits for: isolates booted ahead, memory that is given back, V8's helpers.
//! A patient thread takes the core from nobody (`SCHED_BATCH`) and, where the process may change
//! its threads' niceness back and forth (root, or `RLIMIT_NICE` of at least 20), gets a tenth of
//! what a prompt one gets while both want it; a quiet machine is its own all the same.
//!
//! Linux before 6.12 ignores the length of turns. Wherever the kernel refuses, nothing changes.

use std::sync::OnceLock;

use libc::{c_int, c_uint, pid_t};

/// A turn of a prompt thread, in nanoseconds; the shortest that Linux grants.
const PROMPT_TURN: u64 = 100_000;
/// A turn of a patient one. Longer ones would let it save up more of what it is due while it
/// slept, and then run for long before a prompt thread's turn comes.
const PATIENT_TURN: u64 = 3_000_000;
/// What a patient thread is nicer by. At 19 what computes for long would stand still on a busy
/// machine; at 5 a neighbour's p99 doubles.
const NICER: c_int = 10;

/// A thread, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread(pid_t);

impl Thread {
    pub fn current() -> Self {
        // SAFETY: takes nothing and cannot fail.
        Self(unsafe { libc::gettid() })
    }

    pub fn be_prompt(self) {
        set(self.0, libc::SCHED_OTHER, base_niceness(), PROMPT_TURN);
    }

    pub fn be_patient(self) {
        let nicer = if may_change_niceness() { NICER } else { 0 };
        set(self.0, libc::SCHED_BATCH, base_niceness() + nicer, PATIENT_TURN);
    }
}

/// Makes the calling thread prompt, and with it all that it starts from now on. To be called
/// first in `main`.
pub fn be_prompt() {
    Thread::current().be_prompt();
}

/// Runs `f` patiently; threads that it starts are patient for good.
pub(crate) fn patiently<T>(f: impl FnOnce() -> T) -> T {
    let thread = Thread::current();
    thread.be_patient();
    let result = f();
    thread.be_prompt();
    result
}

/// `struct sched_attr` of `sched_setattr(2)`, in its first version.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    /// For an ordinary thread, the length of its turns.
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// True if the kernel took it.
fn set(thread: pid_t, policy: c_int, nice: c_int, turn: u64) -> bool {
    let attributes = Attributes {
        size: u32::try_from(size_of::<Attributes>()).unwrap_or(48),
        policy: policy.unsigned_abs(),
        flags: 0,
        nice: nice.clamp(-20, 19),
        priority: 0,
        runtime: turn,
        deadline: 0,
        period: 0,
    };
    let none: c_uint = 0;
    // SAFETY: the pointer is to a struct of the given size that lives through the call.
    unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, none) == 0 }
}

/// The niceness the process was started with.
fn base_niceness() -> c_int {
    static BASE: OnceLock<c_int> = OnceLock::new();
    // SAFETY: takes no pointers; of the calling thread it cannot fail.
    *BASE.get_or_init(|| unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) })
}

/// Tried once, on a thread that is not needed afterwards.
fn may_change_niceness() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let base = base_niceness();
        let tried =
            std::thread::Builder::new().name("verge-niceness".to_owned()).spawn(move || {
                let me = Thread::current().0;
                let other = libc::SCHED_OTHER;
                set(me, other, base + 1, PROMPT_TURN) && set(me, other, base, PROMPT_TURN)
            });
        tried.is_ok_and(|thread| thread.join().unwrap_or(false))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_becomes_patient_and_prompt_again() {
        std::thread::spawn(|| {
            let base = base_niceness();
            let niceness = || {
                // SAFETY: takes no pointers.
                unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
            };
            let during = patiently(niceness);
            assert_eq!(during, if may_change_niceness() { base + NICER } else { base });
            assert_eq!(niceness(), base);
        })
        .join()
        .expect("the thread ends");
    }
}
