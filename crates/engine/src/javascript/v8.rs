use deno_core::v8;

pub const GAPS: &[&str] = &[];
pub const ANSWERS_EVERYWHERE: bool = true;

pub fn name() -> String {
    format!("V8 {}", v8::VERSION_STRING)
}

/// # Safety
///
/// As the other engine needs it; here nothing happens.
pub unsafe fn prepare_process() {}

pub fn set_process_limits(max_wasm_pages: u32) {
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

/// V8 ends the process when it cannot grow a heap, so it always can: by enough for any one
/// native call (a huge string, a parse of 100 MB). Address space, not memory: it is only used
/// if the call uses it.
pub fn heap_slack(_asked_before: bool) -> usize {
    4 * 1024 * 1024 * 1024
}
