//! Making an isolate from the snapshot, before any app is known.

use std::rc::Rc;
use std::sync::Arc;

use deno_core::{JsRuntime, RuntimeOptions, v8};
use deno_permissions::PermissionsContainer;
use verge_engine::{Engine, LongOp, Surface};
use verge_types::Limits;

use crate::limits::cpu::{Ledger, Slice};
use crate::limits::fatal;
use crate::limits::memory::{self, BufferBudget};
use crate::module_loader::DeploymentLoader;

/// What every isolate of a node is made with.
pub(crate) struct Boot {
    pub permissions: PermissionsContainer,
    pub resolver: deno_fetch::dns::Resolver,
    pub outbound: Arc<dyn verge_engine::Outbound>,
    pub roots: Option<Arc<dyn deno_tls::RootCertStoreProvider>>,
    /// The heap limit cannot be changed once the isolate is made.
    pub heap: u64,
}

/// A booted isolate, its guards up.
pub(crate) struct Booted {
    pub surface: Surface,
    pub runtime: JsRuntime,
    pub functions: Functions,
    pub loader: Rc<DeploymentLoader>,
    pub slice: Arc<Slice>,
    pub ledger: Rc<Ledger>,
    pub buffers: Arc<BufferBudget>,
}

/// The functions of `main.js` that Rust calls.
pub(crate) struct Functions {
    pub install: v8::Global<v8::Function>,
    pub install_exports: v8::Global<v8::Function>,
    pub on_call: v8::Global<v8::Function>,
    pub on_entrypoint_fetch: v8::Global<v8::Function>,
    pub on_fetch: v8::Global<v8::Function>,
    pub on_scheduled: v8::Global<v8::Function>,
}

impl Boot {
    pub fn boot(&self, surface: Surface) -> Result<Booted, String> {
        let start = match surface {
            Surface::Web => &verge_snapshot::WEB,
            Surface::Node => &verge_snapshot::NODE,
        };
        let heap = usize::try_from(self.heap).unwrap_or(usize::MAX);
        let default_buffers = Limits::default().external_memory;
        let buffers = BufferBudget::new(usize::try_from(default_buffers).unwrap_or(usize::MAX));
        let params = v8::CreateParams::default()
            .array_buffer_allocator(memory::allocator(&buffers).make_shared());
        let params = verge_engine::limit_heap(params, heap);
        let engine = Engine {
            permissions: self.permissions.clone(),
            resolver: self.resolver.clone(),
            roots: self.roots.clone(),
            blobs: Arc::new(deno_web::BlobStore::default()),
        };
        let loader = Rc::new(DeploymentLoader::default());
        let mut runtime = JsRuntime::try_new(RuntimeOptions {
            module_loader: Some(loader.clone()),
            extensions: verge_engine::for_runtime(&engine, surface),
            startup_snapshot: Some(start.snapshot),
            residual_lazy_js_sources: start.scripts,
            residual_lazy_esm_sources: start.modules,
            create_params: Some(params),
            // Buffers that `structuredClone` and message ports transfer wait in it.
            shared_array_buffer_store: Some(Default::default()),
            // The ops are in the snapshot: they come from the same list.
            skip_op_registration: true,
            ..Default::default()
        })
        .map_err(|error| error.to_string())?;
        verge_engine::prepare(&mut runtime, self.permissions.clone(), self.outbound.clone());
        runtime.op_state().borrow_mut().put(buffers.refusals().clone());
        let slice = Slice::register(runtime.v8_isolate().thread_safe_handle());
        let ledger = Ledger::install(slice.clone(), runtime.main_context());
        let account = ledger.clone();
        let long_op = LongOp(Rc::new(move |id| account.look_from_op(id)));
        runtime.op_state().borrow_mut().put(long_op);
        memory::guard_heap(&mut runtime, &slice, &buffers);
        fatal::guard(runtime.v8_isolate());
        let functions = Functions::take(&mut runtime)?;
        Ok(Booted { surface, runtime, functions, loader, slice, ledger, buffers })
    }
}

impl Functions {
    /// Takes `globalThis.__verge` away, so that no app ever sees it.
    fn take(runtime: &mut JsRuntime) -> Result<Self, String> {
        deno_core::scope!(scope, runtime);
        let context = scope.get_current_context();
        let global = context.global(scope);
        let name = v8::String::new(scope, "__verge").ok_or("out of memory")?;
        let object = global
            .get(scope, name.into())
            .and_then(|value| v8::Local::<v8::Object>::try_from(value).ok())
            .ok_or("the snapshot has no __verge object: it was built from other sources")?;
        let function = |name: &str| {
            let key = v8::String::new(scope, name)?;
            let value = object.get(scope, key.into())?;
            let function = v8::Local::<v8::Function>::try_from(value).ok()?;
            Some(v8::Global::new(scope, function))
        };
        let get =
            |name: &str| function(name).ok_or_else(|| format!("the snapshot has no {name}()"));
        let functions = Self {
            install: get("install")?,
            install_exports: get("installExports")?,
            on_call: get("onCall")?,
            on_entrypoint_fetch: get("onEntrypointFetch")?,
            on_fetch: get("onFetch")?,
            on_scheduled: get("onScheduled")?,
        };
        global.delete(scope, name.into());
        Ok(functions)
    }
}
