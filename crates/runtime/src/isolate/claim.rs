//! Making a booted isolate the isolate of one app: limits first, then `env`, then the app's
//! top-level code.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use deno_core::error::CoreError;
use deno_core::{PollEventLoopOptions, v8};
use verge_types::{Binding, Blame, Fault, Limit};

use super::boot::Booted;
use crate::event::Claim;
use crate::limits::cpu::{STARTUP, Verdict};
use crate::module_loader;

/// Wall time that top-level `await` may take.
const STARTUP_WALL: Duration = Duration::from_secs(30);

fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl Booted {
    /// Runs the app's top-level code. The error is what requests are answered with.
    pub async fn claim(&mut self, claim: &Claim) -> Result<(), Fault> {
        let limits = &claim.limits;
        let size = claim.deployment.script_size();
        if size > limits.script_size {
            return Err(Fault::limit(Limit::ScriptSize, limits.script_size));
        }
        self.buffers.set_limit(usize_of(limits.external_memory));
        self.ledger.set_limits(
            Duration::from_millis(limits.cpu_time),
            Duration::from_millis(limits.startup_time),
            limits.external_memory,
        );
        self.slice.belongs_to(claim.restless.clone());
        let code_cache = claim.code_caches.of(self.surface);
        self.loader.claim(claim.deployment.clone(), claim.needs.surface, code_cache);
        self.runtime.op_state().borrow_mut().put(claim.host.clone());
        let evaluated = self.evaluate(claim).await;
        if evaluated.is_err() {
            match self.slice.verdict() {
                Some(Verdict::Heap) => return Err(Fault::limit(Limit::Heap, limits.heap)),
                Some(Verdict::ExternalMemory) => {
                    return Err(Fault::limit(Limit::ExternalMemory, limits.external_memory));
                }
                Some(Verdict::Cpu) => {
                    return Err(Fault::limit(Limit::StartupTime, limits.startup_time));
                }
                None => {}
            }
        }
        evaluated.map_err(|detail| {
            Fault::new("startup_failed", Blame::Guest, 500, "The app failed to start")
                .with_detail(detail)
        })
    }

    async fn evaluate(&mut self, claim: &Claim) -> Result<(), String> {
        let Some(main) = &claim.deployment.main else {
            return Err("the deployment has no main module".to_owned());
        };
        self.install(claim)?;
        let url = module_loader::url_of(main).map_err(|error| error.to_string())?;
        let (ledger, slice) = (self.ledger.clone(), self.slice.clone());
        let namespace = {
            let runtime = &mut self.runtime;
            let mut load = Box::pin(async move {
                let id = runtime.load_main_es_module(&url).await?;
                let mut evaluation = pin!(runtime.mod_evaluate(id));
                runtime
                    .with_event_loop_future(evaluation.as_mut(), PollEventLoopOptions::default())
                    .await?;
                runtime.get_module_namespace(id)
            });
            let charged = std::future::poll_fn(move |cx| {
                ledger.begin();
                let polled = load.as_mut().poll(cx);
                ledger.end(&[STARTUP], 0..0);
                // A module that was terminated may never settle.
                if polled.is_pending() && slice.verdict().is_some() {
                    return Poll::Ready(None);
                }
                polled.map(Some)
            });
            tokio::time::timeout(STARTUP_WALL, charged).await
        };
        let namespace = namespace
            .map_err(|_| format!("top-level await took longer than {STARTUP_WALL:?}"))?
            .ok_or("terminated")?
            .map_err(|error| describe(&error))?;
        self.install_exports(&namespace)
    }

    fn install(&mut self, claim: &Claim) -> Result<(), String> {
        let bindings: Vec<_> = claim
            .deployment
            .bindings
            .iter()
            .map(|(name, binding)| match binding {
                Binding::Var { value } => serde_json::json!([name, "var", value]),
                Binding::Service(_) => serde_json::json!([name, "service", null]),
                Binding::Assets => serde_json::json!([name, "assets", null]),
                Binding::Database(_) => serde_json::json!([name, "database", null]),
            })
            .collect();
        let config = serde_json::json!({
            "bindings": bindings,
            "deno": claim.needs.deno,
            "version": env!("CARGO_PKG_VERSION"),
        })
        .to_string();
        let function = self.functions.install.clone();
        deno_core::scope!(scope, &mut self.runtime);
        v8::tc_scope!(let scope, scope);
        let json = v8::String::new(scope, &config).ok_or("the bindings are too large")?;
        let config = v8::json::parse(scope, json).ok_or("the bindings are no JSON")?;
        call(scope, &function, &[config]).map(|_| ())
    }

    fn install_exports(&mut self, namespace: &v8::Global<v8::Object>) -> Result<(), String> {
        let function = self.functions.install_exports.clone();
        deno_core::scope!(scope, &mut self.runtime);
        v8::tc_scope!(let scope, scope);
        let namespace = v8::Local::new(scope, namespace);
        call(scope, &function, &[namespace.into()]).map(|_| ())
    }
}

/// Calls `function`; the error is the exception as text.
fn call<'s>(
    scope: &mut v8::PinnedRef<'s, v8::TryCatch<'_, '_, v8::HandleScope<'_>>>,
    function: &v8::Global<v8::Function>,
    args: &[v8::Local<'_, v8::Value>],
) -> Result<(), String> {
    let function = v8::Local::new(scope, function);
    let receiver = v8::undefined(scope).into();
    if function.call(scope, receiver, args).is_some() {
        return Ok(());
    }
    Err(match scope.exception() {
        Some(exception) => exception.to_rust_string_lossy(scope),
        None => "terminated".to_owned(),
    })
}

/// An error of the engine as the operator reads it, its stack in the user's own files.
pub(super) fn describe(error: &CoreError) -> String {
    verge_engine::stack::of_the_app(&error.to_string()).into_owned()
}
