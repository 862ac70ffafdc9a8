//! Memory of an isolate: its heap, and the array buffers outside it.
//!
//! V8 ends the *process* when it cannot grow a heap. So it is never told no: near the limit
//! the isolate is terminated and the limit raised by enough for any one native call to
//! finish (`verge_engine::heap_slack`), after which no line of its code runs again.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use deno_core::{JsRuntime, v8};
use verge_engine::RefusedBuffers;

use super::cpu::{Slice, Verdict};

/// Ends the isolate when its heap nears the limit.
pub(crate) fn guard_heap(runtime: &mut JsRuntime, slice: &Arc<Slice>, buffers: &Arc<BufferBudget>) {
    let slice = slice.clone();
    let buffers = buffers.clone();
    let handle = runtime.v8_isolate().thread_safe_handle();
    // SAFETY: the pointer is used in the callback below only, which V8 calls on the isolate's
    // own thread while the isolate lives.
    let isolate = unsafe { runtime.v8_isolate().as_raw_isolate_ptr() };
    let mut asked = false;
    runtime.add_near_heap_limit_callback(move |current, _initial| {
        // SAFETY: as above.
        let mut isolate = unsafe { v8::Isolate::from_raw_isolate_ptr(isolate) };
        let used = isolate.get_heap_statistics().used_heap_size();
        // V8 also calls here after an array buffer was refused. That is no reason to end the
        // isolate: the app sees a RangeError.
        if buffers.take_refused() && used < current / 10 * 8 {
            return current;
        }
        let slack = verge_engine::heap_slack(std::mem::replace(&mut asked, true));
        slice.condemn(Verdict::Heap);
        handle.terminate_execution();
        current.saturating_add(slack)
    });
}

/// Bytes of array buffers, whoever made them, and of WebAssembly memories.
pub(crate) fn external(isolate: &mut v8::Isolate) -> u64 {
    u64::try_from(isolate.adjust_amount_of_external_allocated_memory(0)).unwrap_or(0)
}

/// Counts array buffers, refuses those beyond the limit: JS sees a RangeError.
pub(crate) struct BufferBudget {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// An allocation was refused since this was last asked.
    refused: AtomicBool,
    /// Allocations refused so far.
    refusals: RefusedBuffers,
}

impl BufferBudget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            refused: AtomicBool::new(false),
            refusals: RefusedBuffers::default(),
        })
    }

    /// Sets the limit of the app that claimed the isolate.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub fn refusals(&self) -> &RefusedBuffers {
        &self.refusals
    }

    fn take(&self, len: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let granted = self
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(len).filter(|sum| *sum <= limit)
            })
            .is_ok();
        if !granted {
            self.refused.store(true, Ordering::Relaxed);
            self.refusals.0.fetch_add(1, Ordering::Relaxed);
        }
        granted
    }

    fn take_refused(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    fn give_back(&self, len: usize) {
        self.used.fetch_sub(len, Ordering::Relaxed);
    }
}

/// The allocator V8 asks for the bytes of array buffers.
pub(crate) fn allocator(budget: &Arc<BufferBudget>) -> v8::UniqueRef<v8::Allocator> {
    static VTABLE: v8::RustAllocatorVtable<BufferBudget> =
        v8::RustAllocatorVtable { allocate, allocate_uninitialized, free, drop };
    // SAFETY: the handle is an `Arc` made into a raw pointer, which `drop` below takes back;
    // the functions of the table agree with one another on malloc and free.
    unsafe { v8::new_rust_allocator(Arc::into_raw(budget.clone()), &VTABLE) }
}

// An empty allocation must still be a pointer that is not null.
fn at_least_one(len: usize) -> usize {
    len.max(1)
}

unsafe extern "C" fn allocate(budget: &BufferBudget, len: usize) -> *mut c_void {
    if !budget.take(len) {
        return std::ptr::null_mut();
    }
    // SAFETY: calloc takes any size and says null when it has none.
    let pointer = unsafe { libc::calloc(at_least_one(len), 1) };
    if pointer.is_null() {
        budget.give_back(len);
    }
    pointer
}

unsafe extern "C" fn allocate_uninitialized(budget: &BufferBudget, len: usize) -> *mut c_void {
    if !budget.take(len) {
        return std::ptr::null_mut();
    }
    // SAFETY: malloc takes any size and says null when it has none.
    let pointer = unsafe { libc::malloc(at_least_one(len)) };
    if pointer.is_null() {
        budget.give_back(len);
    }
    pointer
}

unsafe extern "C" fn free(budget: &BufferBudget, data: *mut c_void, len: usize) {
    budget.give_back(len);
    // SAFETY: V8 gives back what one of the two functions above returned, once.
    unsafe { libc::free(data) }
}

unsafe extern "C" fn drop(budget: *const BufferBudget) {
    // SAFETY: the pointer came from `Arc::into_raw` in `allocator`, and V8 drops it once.
    std::mem::drop(unsafe { Arc::from_raw(budget) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_never_goes_over_its_limit() {
        let budget = BufferBudget::new(100);
        assert!(budget.take(60));
        assert!(!budget.take(41));
        assert!(!budget.take(usize::MAX));
        budget.give_back(60);
        assert!(budget.take(100));
    }
}
