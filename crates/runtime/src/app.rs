//! One deployment and its isolates.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::{Request, Response};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use verge_engine::{Callee, Host, Reply, RpcCall, RpcReply, SqlDatabase};
use verge_telemetry::AppIsolates;
use verge_types::{
    AppName, Binding, Blame, Body, BoxFuture, Deployment, DeploymentId, Fault, Limit, Limits,
    RequestContext, Service, ServiceTarget,
};

use crate::code_cache::CodeCaches;
use crate::event::{Claim, Command, Event, Target};
use crate::isolate::IsolateRef;
use crate::limits::cpu::Restless;
use crate::needs::Needs;
use crate::runtime::Inner;

/// A request is tried on so many isolates before it is given up.
const MAX_TRIES: u8 = 3;
/// In-flight requests on the least loaded isolate from which on another one is started.
const SPREAD_AT: usize = 32;

/// What an app is made of.
pub struct AppOptions {
    pub name: AppName,
    pub deployment: Arc<Deployment>,
    pub limits: Limits,
    /// Answers `env.ASSETS.fetch()`, and requests that pass through on exception.
    pub assets: Option<Arc<dyn Service>>,
    /// What the deployment's database bindings lead to, by binding name.
    pub databases: HashMap<String, Arc<SqlDatabase>>,
}

/// A deployment that answers requests. Isolates come with the first request and go when idle.
pub struct App {
    runtime: Arc<Inner>,
    name: AppName,
    deployment: Arc<Deployment>,
    needs: Needs,
    limits: Limits,
    host: Arc<Host>,
    code_caches: Arc<CodeCaches>,
    restless: Arc<Restless>,
    meter: Option<Arc<AppIsolates>>,
    this: Weak<App>,
    isolates: Mutex<Vec<IsolateRef>>,
    /// Why the last start failed, while no isolate has started since.
    broken: Mutex<Option<Fault>>,
}

impl App {
    pub(crate) fn new(runtime: Arc<Inner>, options: AppOptions) -> Arc<Self> {
        let AppOptions { name, deployment, limits, assets, databases } = options;
        let mut services: HashMap<String, Arc<dyn Callee>> = HashMap::new();
        for (binding, target) in &deployment.bindings {
            match target {
                Binding::Var { .. } | Binding::Database(_) => {}
                Binding::Service(target) => {
                    let callee = Bound {
                        runtime: Arc::downgrade(&runtime),
                        target: Arc::new(target.clone()),
                    };
                    services.insert(binding.clone(), Arc::new(callee));
                }
                Binding::Assets => {
                    services.insert(binding.clone(), Arc::new(AssetsOf(assets.clone())));
                }
            }
        }
        let data = deployment
            .modules
            .iter()
            .filter(|module| {
                matches!(module.kind, verge_types::ModuleKind::Data | verge_types::ModuleKind::Wasm)
            })
            .map(|module| (module.path.clone(), module.source.clone()))
            .collect();
        let host = Arc::new(Host {
            app: name.clone(),
            deployment: deployment.id.clone(),
            limits: limits.clone(),
            log: runtime.config.log.clone(),
            metrics: runtime.config.metrics.clone(),
            services,
            databases,
            data,
            fallback: assets.clone(),
        });
        let meter = runtime.config.metrics.as_ref().map(|all| Arc::new(all.app_isolates(&name)));
        Arc::new_cyclic(|this| Self {
            meter,
            runtime,
            name,
            needs: Needs::of(&deployment),
            deployment,
            limits,
            host,
            code_caches: Arc::default(),
            restless: Arc::default(),
            this: this.clone(),
            isolates: Mutex::default(),
            broken: Mutex::default(),
        })
    }

    pub fn name(&self) -> &AppName {
        &self.name
    }

    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment.id
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Isolates that take requests at this moment.
    pub fn isolates(&self) -> usize {
        self.isolates.lock().len()
    }

    /// Starts an isolate and waits until the app's top-level code has run.
    pub async fn warm(&self) -> Result<(), Fault> {
        let (ready, told) = oneshot::channel();
        {
            let mut isolates = self.isolates.lock();
            let isolate = self.start(ready)?;
            isolates.push(isolate);
        }
        told.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Takes no new requests; isolates end when their running ones are finished.
    pub fn retire(&self) {
        for isolate in self.isolates.lock().drain(..) {
            // An isolate that is gone has retired already.
            let _ = isolate.post.send(Command::Retire);
        }
    }

    /// Runs the `scheduled` handler. `time` is in milliseconds since the epoch.
    pub async fn scheduled(&self, cron: &str, time: f64, cx: RequestContext) -> Result<(), Fault> {
        let target = Target::Scheduled { cron: cron.to_owned(), time };
        self.event(target, cx).await.map(|_| ())
    }

    async fn event(&self, target: Target, cx: RequestContext) -> Result<Vec<u8>, Fault> {
        let (sender, receiver) = oneshot::channel();
        let event = Event {
            request: Request::new(Body::Empty),
            from_client: false,
            cx,
            target,
            reply: Reply::Event(sender),
            arrived: Instant::now(),
            tries: 0,
        };
        let _load = self.submit(event)?;
        receiver.await.unwrap_or_else(|_| Err(lost()))
    }

    fn start(&self, ready: oneshot::Sender<Result<(), Fault>>) -> Result<IsolateRef, Fault> {
        let asked = Instant::now();
        let pool = &self.runtime.pool;
        let isolate = if self.limits.heap == pool.heap() {
            pool.take(self.needs.surface)
        } else {
            pool.take_with_heap(self.limits.heap, self.needs.surface)
        };
        let (isolate, start) = isolate.map_err(|error| {
            Fault::new("isolate_failed", Blame::Platform, 503, "No isolate could be started")
                .with_retry_after(1)
                .with_detail(error.to_string())
        })?;
        let claim = Claim {
            app: self.this.clone(),
            host: self.host.clone(),
            deployment: self.deployment.clone(),
            needs: self.needs,
            limits: self.limits.clone(),
            code_caches: self.code_caches.clone(),
            restless: self.restless.clone(),
            meter: self.meter.clone(),
            asked,
            start,
            ready,
        };
        isolate.post.send(Command::Claim(Box::new(claim))).map_err(|_| lost())?;
        if let Some(courier) = isolate.post.carry(self.this.clone()) {
            isolate.post.send(Command::Courier(courier)).map_err(|_| lost())?;
        }
        if let Err(error) = pool.refill() {
            tracing::warn!(%error, "the isolate pool could not be refilled");
        }
        Ok(isolate)
    }

    /// Gives the event to an isolate, starting one if need be.
    fn submit(&self, event: Event) -> Result<Load, Fault> {
        let limit = self.limits.concurrent_requests;
        let mut isolates = self.isolates.lock();
        isolates.retain(|isolate| !isolate.post.is_closed());
        let least = isolates
            .iter()
            .min_by_key(|isolate| isolate.load.load(Ordering::Relaxed))
            .map(|isolate| (isolate.clone(), isolate.load.load(Ordering::Relaxed)));
        let may_grow = isolates.len() < self.runtime.config.max_isolates.max(1);
        let isolate = match least {
            Some((isolate, load)) if load < SPREAD_AT || !may_grow => {
                if load as u64 >= limit {
                    self.limit_hit(Limit::ConcurrentRequests);
                    return Err(Fault::limit(Limit::ConcurrentRequests, limit));
                }
                isolate
            }
            _ => {
                let (ready, _) = oneshot::channel();
                let isolate = self.start(ready)?;
                isolates.push(isolate.clone());
                isolate
            }
        };
        let load = Load::add(&isolate);
        isolate.post.submit(event).map_err(|_| lost())?;
        Ok(load)
    }

    pub(crate) fn isolate_gone(&self, id: u64) {
        self.isolates.lock().retain(|isolate| isolate.id != id);
    }

    pub(crate) fn start_failed(&self, fault: Fault) {
        *self.broken.lock() = Some(fault);
    }

    pub(crate) fn idle_after(&self) -> Duration {
        self.runtime.config.idle_after
    }

    /// Takes an idle isolate off the list unless work is on its way to it.
    pub(crate) fn drop_idle(&self, id: u64, nothing_queued: impl FnOnce() -> bool) -> bool {
        let mut isolates = self.isolates.lock();
        // Events are sent under this lock, so the queue cannot fill behind our back; what
        // still waits to be carried is looked at first, since it moves into the queue.
        let carried = isolates.iter().find(|isolate| isolate.id == id);
        if carried.is_some_and(|isolate| !isolate.post.is_empty()) || !nothing_queued() {
            return false;
        }
        isolates.retain(|isolate| isolate.id != id);
        true
    }

    /// An event that its isolate never began goes to another one.
    pub(crate) fn requeue(&self, mut event: Event) {
        event.tries += 1;
        if event.tries >= MAX_TRIES {
            event.fail(lost());
            return;
        }
        // Refused, the event is dropped, and whoever waits for it is told that it was lost.
        if let Err(fault) = self.submit(event) {
            tracing::warn!(app = %self.name, code = fault.code, "a request could not be moved");
        }
    }

    pub(crate) fn limit_hit(&self, limit: Limit) {
        self.host.limit_hit(limit);
    }
}

fn lost() -> Fault {
    Fault::new("isolate_lost", Blame::Platform, 503, "The app's isolate ended; try again")
        .with_retry_after(1)
}

/// Counts a request on its isolate until its response head is there.
struct Load(Arc<std::sync::atomic::AtomicUsize>);

impl Load {
    fn add(isolate: &IsolateRef) -> Self {
        isolate.load.fetch_add(1, Ordering::Relaxed);
        Self(isolate.load.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl App {
    fn fetch(
        &self,
        request: Request<Body>,
        from_client: bool,
        cx: RequestContext,
        target: Target,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let (sender, receiver) = oneshot::channel();
        let event = Event {
            request,
            from_client,
            cx,
            target,
            reply: Reply::Http(sender),
            arrived: Instant::now(),
            tries: 0,
        };
        match self.submit(event) {
            Ok(load) => Box::pin(async move {
                let response = receiver.await.unwrap_or_else(|_| Err(lost()));
                drop(load);
                response
            }),
            Err(fault) => Box::pin(std::future::ready(Err(fault))),
        }
    }
}

impl Service for App {
    fn call(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        self.fetch(request, true, cx, Target::Fetch)
    }
}

/// A service binding: another app, found by name at each call.
struct Bound {
    runtime: Weak<Inner>,
    target: Arc<ServiceTarget>,
}

impl Bound {
    fn app(&self) -> Result<Arc<App>, Fault> {
        self.runtime.upgrade().and_then(|runtime| runtime.app(&self.target.service)).ok_or_else(
            || {
                Fault::new(
                    "service_not_found",
                    Blame::Guest,
                    503,
                    format!("No app named `{}` runs here", self.target.service),
                )
            },
        )
    }
}

impl Callee for Bound {
    fn fetch(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let target = if self.target.entrypoint.is_none() && self.target.props.is_null() {
            Target::Fetch
        } else {
            Target::Entrypoint(self.target.clone())
        };
        match self.app() {
            // The app is kept alive by the future: it may be replaced meanwhile.
            Ok(app) => {
                let response = app.fetch(request, false, cx, target);
                Box::pin(async move {
                    let _app = app;
                    response.await
                })
            }
            Err(fault) => Box::pin(std::future::ready(Err(fault))),
        }
    }

    fn call(&self, call: RpcCall, cx: RequestContext) -> BoxFuture<Result<RpcReply, Fault>> {
        let app = self.app();
        let target =
            Target::Call { entrypoint: self.target.clone(), method: call.method, args: call.args };
        Box::pin(async move { app?.event(target, cx).await })
    }
}

/// `env.ASSETS`.
struct AssetsOf(Option<Arc<dyn Service>>);

impl Callee for AssetsOf {
    fn fetch(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        match &self.0 {
            Some(assets) => assets.call(request, cx),
            None => Box::pin(std::future::ready(Err(Fault::new(
                "no_assets",
                Blame::Guest,
                500,
                "The app has an assets binding but no assets",
            )))),
        }
    }

    fn call(&self, _call: RpcCall, _cx: RequestContext) -> BoxFuture<Result<RpcReply, Fault>> {
        Box::pin(std::future::ready(Err(Fault::new(
            "no_such_method",
            Blame::Guest,
            500,
            "An assets binding has fetch() and nothing else",
        ))))
    }
}
