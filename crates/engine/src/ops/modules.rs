//! Modules whose default export is not JavaScript.

use deno_core::{OpState, op2, v8};

use super::{OpError, host};

fn data(state: &OpState, path: &str) -> Result<bytes::Bytes, OpError> {
    host(state)
        .and_then(|host| host.data.get(path))
        .cloned()
        .ok_or_else(|| OpError::Type(format!("the deployment has no data module `{path}`")))
}

#[op2]
#[buffer]
pub fn op_verge_module_data(state: &mut OpState, #[string] path: &str) -> Result<Vec<u8>, OpError> {
    data(state, path).map(|bytes| bytes.to_vec())
}

/// Compiles a WebAssembly module.
#[op2(reentrant)]
pub fn op_verge_wasm_module<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: std::rc::Rc<std::cell::RefCell<OpState>>,
    #[string] path: String,
) -> Result<v8::Local<'s, v8::Value>, OpError> {
    let bytes = data(&state.borrow(), &path)?;
    v8::WasmModuleObject::compile(scope, &bytes)
        .map(Into::into)
        .ok_or_else(|| OpError::Type(format!("`{path}` is no valid WebAssembly module")))
}
