//! The node's isolates, and the apps by name, so that one may call another.

use std::collections::HashMap;
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use deno_core::JsRuntime;
use parking_lot::RwLock;
use verge_telemetry::LogSink;
use verge_types::{AppName, Limits};

use crate::app::{App, AppOptions};
use crate::egress::{Egress, EgressError, Gate, Policy};
use crate::isolate::Boot;
use crate::limits::fatal;
use crate::pool::Pool;
use crate::urgency::patiently;

/// Isolates kept booted and unclaimed.
const DEFAULT_WARM: usize = 2;
/// Idle time after which an app's isolate is dropped.
const DEFAULT_IDLE: Duration = Duration::from_secs(300);
/// Largest WebAssembly memory, in pages of 64 KiB.
const MAX_WASM_PAGES: u32 = 2048;

/// How a node runs its apps.
#[derive(Clone)]
pub struct RuntimeConfig {
    pub warm: usize,
    pub idle_after: Duration,
    pub egress: Egress,
    pub log: Arc<dyn LogSink>,
    pub metrics: Option<verge_telemetry::Metrics>,
    /// Resolves names for outbound requests; `None` is the system's resolver.
    pub resolver: Option<deno_fetch::dns::Resolver>,
    /// Isolates that one app may have at a time. More than one spreads its load, and its
    /// global variables.
    pub max_isolates: usize,
}

impl RuntimeConfig {
    pub fn new(log: Arc<dyn LogSink>) -> Self {
        Self {
            warm: DEFAULT_WARM,
            idle_after: DEFAULT_IDLE,
            egress: Egress::default(),
            log,
            metrics: None,
            resolver: None,
            max_isolates: 1,
        }
    }
}

/// Why the runtime could not start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Deno's client would send what apps fetch there, past every check of where it leads.
    #[error(
        "the environment variable {0} is set: take it away, apps must not use the machine's proxy"
    )]
    Proxy(&'static str),
    #[error("no thread for an isolate: {0}")]
    Thread(#[from] std::io::Error),
}

/// All isolates of a node. Cheap to clone.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub config: RuntimeConfig,
    pub pool: Pool,
    pub apps: RwLock<HashMap<AppName, Weak<App>>>,
}

impl Runtime {
    /// Sets V8 up (once a process) and boots the pool.
    pub fn start(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        if let Some(name) = proxy_variable() {
            return Err(RuntimeError::Proxy(name));
        }
        init_engine();
        let policy = Policy::new(&config.egress, config.resolver.clone().unwrap_or_default())?;
        let boot = Boot {
            permissions: policy.permissions()?,
            resolver: policy.resolver(),
            outbound: Arc::new(Gate(policy)),
            roots: None,
            heap: Limits::default().heap,
        };
        let pool = Pool::new(Arc::new(boot), config.warm)?;
        Ok(Self(Arc::new(Inner { config, pool, apps: RwLock::default() })))
    }

    /// Makes `options` the app of its name. An app that had the name keeps its running
    /// requests; whoever holds it should [`App::retire`] it.
    pub fn load(&self, options: AppOptions) -> Arc<App> {
        let app = self.prepare(options);
        self.publish(&app);
        app
    }

    /// An app that other apps do not reach by its name yet, so that it can be tried first.
    pub fn prepare(&self, options: AppOptions) -> Arc<App> {
        App::new(self.0.clone(), options)
    }

    /// Makes `app` the one that service bindings of its name lead to.
    pub fn publish(&self, app: &Arc<App>) {
        self.0.apps.write().insert(app.name().clone(), Arc::downgrade(app));
    }
}

impl Inner {
    pub fn app(&self, name: &str) -> Option<Arc<App>> {
        let name: AppName = name.parse().ok()?;
        self.apps.read().get(&name)?.upgrade()
    }
}

/// Variables that make HTTP clients use a proxy. Whoever starts a runtime takes them away
/// first, while the process has one thread.
pub const PROXY_VARIABLES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

fn proxy_variable() -> Option<&'static str> {
    PROXY_VARIABLES.into_iter().find(|name| std::env::var_os(name).is_some())
}

fn init_engine() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        verge_engine::prepare_engine(MAX_WASM_PAGES);
        // V8 starts its helpers, which collect garbage and compile beside the isolates.
        patiently(|| JsRuntime::init_platform(None));
        fatal::install();
    });
}
