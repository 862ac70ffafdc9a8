//! What the measuring programs share: apps from inline sources.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use verge_runtime::{AppOptions, Runtime, RuntimeConfig};
use verge_telemetry::{LogRecord, LogSink};
use verge_types::{
    AppName, ClientInfo, Deployment, DeploymentId, Geo, InvalidName, Limits, Module, ModuleKind,
    RequestContext, RequestId, Scheme, Session, TraceContext,
};

/// The handler that the trivial benchmark runs.
pub const HELLO: &str = r#"export default { fetch() { return new Response("Hello World") } }"#;

/// Errors of apps go to standard error; anything else is dropped.
pub struct ErrorsOnly;

impl LogSink for ErrorsOnly {
    fn write(&self, record: LogRecord) {
        if record.level == verge_telemetry::Level::Error {
            eprintln!("{}: {}", record.app, record.message);
        }
    }
}

pub fn runtime_config() -> RuntimeConfig {
    RuntimeConfig::new(Arc::new(ErrorsOnly))
}

/// Loads an app of one module.
pub fn load(
    runtime: &Runtime,
    name: &str,
    source: &str,
) -> Result<Arc<verge_runtime::App>, InvalidName> {
    load_with(runtime, name, source, Limits::default())
}

/// The same under limits of its own.
pub fn load_with(
    runtime: &Runtime,
    name: &str,
    source: &str,
    limits: Limits,
) -> Result<Arc<verge_runtime::App>, InvalidName> {
    let name: AppName = name.parse()?;
    let module = Module {
        path: "index.js".to_owned(),
        kind: ModuleKind::Esm,
        source: Bytes::copy_from_slice(source.as_bytes()),
        source_map: None,
    };
    let deployment = Deployment {
        id: DeploymentId::from_digest(name.as_str().as_bytes()),
        main: Some("index.js".to_owned()),
        modules: vec![module],
        compatibility_date: "2026-11-01".to_owned(),
        compatibility_flags: Vec::new(),
        bindings: BTreeMap::new(),
        crons: Vec::new(),
        assets: None,
    };
    Ok(runtime.load(AppOptions {
        name,
        deployment: Arc::new(deployment),
        limits,
        assets: None,
        databases: HashMap::new(),
    }))
}

/// The context of a request that came over no connection.
pub fn context() -> RequestContext {
    RequestContext {
        id: RequestId(1),
        client: Arc::new(ClientInfo {
            addr: SocketAddr::from(([127, 0, 0, 1], 1)),
            scheme: Scheme::Http,
            http_protocol: "HTTP/1.1",
            tls_version: "",
            tls_cipher: "",
        }),
        geo: Arc::new(Geo::default()),
        trace: TraceContext { trace_id: 1, span_id: 1, parent_id: None, sampled: false },
        session: Session::off(),
    }
}

/// Resident memory of this process, bytes.
pub fn resident() -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no value")?.parse()?;
    Ok(kib * 1024)
}
