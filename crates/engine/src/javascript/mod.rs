//! The JavaScript engine that Verge was built with: its name, how it is set up, and what does
//! not hold on it. The two files beside this one say the same things of one engine each; that
//! is the only place where they are told apart, but for what isolates start from
//! (`verge-snapshot`).

use deno_core::v8::CreateParams;

#[cfg(feature = "quickjs")]
mod quickjs;
#[cfg(not(feature = "quickjs"))]
mod v8;

#[cfg(feature = "quickjs")]
use quickjs as engine;
#[cfg(not(feature = "quickjs"))]
use v8 as engine;

/// "V8 15.0.245.5" or "QuickJS 0.15.1": what `verge --version` names.
pub fn engine_name() -> String {
    engine::name()
}

/// What Verge promises and this engine does not keep, one sentence each. Empty on V8.
pub fn engine_gaps() -> &'static [&'static str] {
    engine::GAPS
}

/// Sets up what must be before the engine is first used, wherever it is used.
///
/// # Safety
///
/// No other thread may be running: the environment is changed.
pub unsafe fn prepare_process() {
    // SAFETY: the caller promises the same.
    unsafe { engine::prepare_process() }
}

/// Isolates are made with this heap limit, bytes, and with room for new objects that fits it.
pub fn limit_heap(params: CreateParams, heap: usize) -> CreateParams {
    engine::limit_heap(params, heap)
}

/// Sets the engine up for the whole process, once, before the first isolate. `max_wasm_pages`
/// is the largest WebAssembly memory, in pages of 64 KiB.
pub fn prepare_engine(max_wasm_pages: u32) {
    engine::prepare_engine(max_wasm_pages);
}

/// Bytes that a heap at its limit may still grow by while its isolate is being ended.
pub fn heap_slack(asked_before: bool) -> usize {
    engine::heap_slack(asked_before)
}

/// Whether an interrupt is answered wherever an app's code may loop.
pub fn answers_everywhere() -> bool {
    engine::ANSWERS_EVERYWHERE
}
