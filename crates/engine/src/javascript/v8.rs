use deno_core::v8;

/// V8 keeps new objects in two halves of this size, and as much for large ones.
const HALVES: usize = 3;
/// The part of the heap that a half may take, and the most that V8 itself takes of any heap.
/// V8's own part of a heap of 128 MiB is 2 MiB: a page of React's fills it, so that much of what
/// it made is still in use when it is collected, and copied.
const HALF: usize = 16;
const MAX_HALF: usize = 32 << 20;
/// Below it, V8's own division.
const SMALL_HEAP: usize = 64 << 20;

pub const GAPS: &[&str] = &[];
pub const ANSWERS_EVERYWHERE: bool = true;

pub fn name() -> String {
    format!("V8 {}", v8::VERSION_STRING)
}

/// # Safety
///
/// As the other engine needs it; here nothing happens.
pub unsafe fn prepare_process() {}

pub fn prepare_engine(max_wasm_pages: u32) {
    // Each isolate needs it three times; V8's own way is to open a file.
    v8::V8::set_entropy_source(|bytes| getrandom::fill(bytes).is_ok());
    // Garbage is collected on the thread of the isolate that made it: in its app's CPU time and
    // its turn, and never before another isolate's collection in one queue of helpers.
    //
    // The unroller also takes the interrupt check out of loops that it believes to be short,
    // and is wrong for an endless loop around an inlined `fill`: such code can be neither
    // interrupted nor terminated.
    v8::V8::set_flags_from_string(&format!(
        "--wasm-max-mem-pages={max_wasm_pages} --no-turboshaft-loop-unrolling --single-threaded-gc"
    ));
}

/// A larger part for new objects than V8's own, within the same limit.
pub fn limit_heap(params: v8::CreateParams, heap: usize) -> v8::CreateParams {
    let params = params.heap_limits(0, heap);
    if heap < SMALL_HEAP {
        return params;
    }
    // V8 rounds a half up to a power of two.
    let half = ((heap / HALF + 1).next_power_of_two() / 2).min(MAX_HALF);
    params
        .set_max_young_generation_size_in_bytes(HALVES * half)
        .set_max_old_generation_size_in_bytes(heap - HALVES * half)
}

/// V8 ends the process when it cannot grow a heap, so it always can: by enough for any one
/// native call (a huge string, a parse of 100 MB). Address space, not memory: it is only used
/// if the call uses it.
pub fn heap_slack(_asked_before: bool) -> usize {
    4 * 1024 * 1024 * 1024
}
