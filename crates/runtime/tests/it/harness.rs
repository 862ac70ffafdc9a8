//! Apps made of inline sources, and what it takes to ask them something.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use verge_runtime::{App, AppOptions, Runtime, RuntimeConfig, SqlDatabase};
use verge_services::sql::Home as _;
use verge_telemetry::{LogRecord, LogSink};
use verge_types::{
    Binding, Body, ClientInfo, CutOff, DatabaseTarget, Deployment, DeploymentId, Fault, Geo,
    Limits, Module, ModuleKind, RequestContext, RequestId, Scheme, Service, Session, TraceContext,
};

/// Keeps what apps log.
#[derive(Default)]
pub struct Logs(Mutex<Vec<LogRecord>>);

impl LogSink for Logs {
    fn write(&self, record: LogRecord) {
        if std::env::var_os("SHOW_LOGS").is_some() {
            eprintln!("[{:?}] {}", record.level, record.message);
        }
        self.0.lock().unwrap().push(record);
    }
}

impl Logs {
    pub fn all(&self) -> Vec<LogRecord> {
        self.0.lock().unwrap().clone()
    }

    pub fn text(&self) -> String {
        self.all().iter().map(|r| format!("{}\n", r.message)).collect()
    }

    /// Waits for what nobody's answer waits for, a stray rejection for one.
    pub async fn wait_for(&self, words: &str) {
        for _ in 0..500 {
            if self.text().contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("`{words}` was not logged in 5 s:\n{}", self.text());
    }
}

pub struct World {
    pub runtime: Runtime,
    pub logs: Arc<Logs>,
}

impl World {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    pub fn with(configure: impl FnOnce(&mut RuntimeConfig)) -> Self {
        forget_proxies();
        let logs = Arc::new(Logs::default());
        let mut config = RuntimeConfig::new(logs.clone());
        // Isolates of the pool have all built-ins; each app is to run with what it needs.
        config.warm = 0;
        configure(&mut config);
        Self { runtime: Runtime::start(config).expect("the runtime starts"), logs }
    }

    pub fn app(&self, source: &str) -> Arc<App> {
        self.load(AppSpec::new(source))
    }

    pub fn load(&self, spec: AppSpec) -> Arc<App> {
        self.runtime.load(AppOptions {
            name: spec.name.parse().expect("a name"),
            deployment: Arc::new(spec.deployment()),
            limits: spec.limits,
            assets: spec.assets,
            databases: spec.databases,
        })
    }
}

/// A runtime does not start where the environment names a proxy.
fn forget_proxies() {
    for name in verge_runtime::PROXY_VARIABLES {
        if std::env::var_os(name).is_some() {
            // SAFETY: each test is a process of its own and its isolates have not begun.
            unsafe { std::env::remove_var(name) };
        }
    }
}

pub struct AppSpec {
    pub name: String,
    pub modules: Vec<Module>,
    pub bindings: BTreeMap<String, Binding>,
    pub limits: Limits,
    pub assets: Option<Arc<dyn Service>>,
    pub databases: HashMap<String, Arc<SqlDatabase>>,
}

impl AppSpec {
    pub fn new(source: &str) -> Self {
        Self {
            name: "test".to_owned(),
            modules: vec![module("index.js", ModuleKind::Esm, source.as_bytes())],
            bindings: BTreeMap::new(),
            limits: Limits::default(),
            assets: None,
            databases: HashMap::new(),
        }
    }

    /// Binds a database.
    pub fn database(mut self, name: &str, database: &Arc<SqlDatabase>) -> Self {
        let dataset = database.home().id().clone();
        self.databases.insert(name.to_owned(), database.clone());
        self.bind(
            name,
            Binding::Database(DatabaseTarget { dataset, when_cut_off: CutOff::default() }),
        )
    }

    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    pub fn module(mut self, path: &str, kind: ModuleKind, source: &[u8]) -> Self {
        self.modules.push(module(path, kind, source));
        self
    }

    pub fn bind(mut self, name: &str, binding: Binding) -> Self {
        self.bindings.insert(name.to_owned(), binding);
        self
    }

    pub fn limit(mut self, key: &str, value: &str) -> Self {
        self.limits.set_key(key, value).expect("a limit");
        self
    }

    fn deployment(&self) -> Deployment {
        Deployment {
            id: DeploymentId::from_digest(&[7; 8]),
            main: Some(self.modules[0].path.clone()),
            modules: self.modules.clone(),
            compatibility_date: "2026-11-01".to_owned(),
            compatibility_flags: Vec::new(),
            bindings: self.bindings.clone(),
            crons: Vec::new(),
            assets: None,
        }
    }
}

fn module(path: &str, kind: ModuleKind, source: &[u8]) -> Module {
    Module { path: path.to_owned(), kind, source: Bytes::copy_from_slice(source), source_map: None }
}

pub fn cx() -> RequestContext {
    RequestContext {
        id: RequestId(0xabcd),
        client: Arc::new(ClientInfo {
            addr: SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 4711)),
            scheme: Scheme::Http,
            http_protocol: "HTTP/1.1",
            tls_version: "",
            tls_cipher: "",
        }),
        geo: Arc::new(Geo { country: "DE".into(), colo: "FRA".into(), ..Default::default() }),
        trace: TraceContext { trace_id: 1, span_id: 2, parent_id: None, sampled: false },
        session: Session::off(),
    }
}

pub async fn send(app: &App, request: Request<Body>) -> Result<Response<Body>, Fault> {
    tokio::time::timeout(Duration::from_secs(60), app.call(request, cx()))
        .await
        .expect("an answer within a minute")
}

pub async fn get(app: &App, path: &str) -> Result<Response<Body>, Fault> {
    let request =
        Request::get(format!("http://test.example{path}")).body(Body::Empty).expect("a request");
    send(app, request).await
}

pub async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The text of a GET that must succeed.
pub async fn get_text(app: &App, path: &str) -> String {
    match get(app, path).await {
        Ok(response) => text(response).await,
        Err(fault) => panic!("{fault}"),
    }
}
