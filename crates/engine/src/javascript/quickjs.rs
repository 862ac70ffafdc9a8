use std::ffi::{CStr, c_char};

use deno_core::v8::CreateParams;

pub const GAPS: &[&str] = &[
    "it is many times slower",
    "array buffers count as heap, WebAssembly's memory is not counted",
    "a loop in WebAssembly is ended by wall time",
];
/// WebAssembly can be ended, but runs no callback of ours.
pub const ANSWERS_EVERYWHERE: bool = false;

/// The engine's own cache of compiled code is a folder of files that all apps would share, by
/// a key that is no cryptographic hash: one app could plant code for another.
const NO_SHARED_CODE_CACHE: &str = "V82JSC_NO_BC_CACHE";

unsafe extern "C" {
    safe fn JS_GetVersion() -> *const c_char;
}

pub fn name() -> String {
    // SAFETY: the function gives a static string that ends in a zero.
    let version = unsafe { CStr::from_ptr(JS_GetVersion()) };
    format!("QuickJS {}", version.to_string_lossy())
}

/// # Safety
///
/// No other thread may be running.
pub unsafe fn prepare_process() {
    // SAFETY: the caller promises that nobody else reads the environment meanwhile.
    unsafe { std::env::set_var(NO_SHARED_CODE_CACHE, "1") };
}

/// Its WebAssembly has no such limit.
pub fn prepare_engine(_max_wasm_pages: u32) {}

/// It has one heap for all objects.
pub fn limit_heap(params: CreateParams, heap: usize) -> CreateParams {
    params.heap_limits(0, heap)
}

/// QuickJS throws when it cannot grow a heap: enough to unwind by, once.
pub fn heap_slack(asked_before: bool) -> usize {
    if asked_before { 0 } else { 16 * 1024 * 1024 }
}
