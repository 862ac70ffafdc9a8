//! A node of gateway and isolates, without the development server: its error pages are the
//! ones that the public sees.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use verge_gateway::{Gateway, GatewayConfig, NoAccessLog};
use verge_runtime::{AppOptions, Runtime, RuntimeConfig};
use verge_telemetry::{LogRecord, LogSink, Metrics};
use verge_types::{
    Deployment, DeploymentId, Limits, Module, ModuleKind, Resolve, Routed, SessionPolicy,
};

use crate::harness::PATIENCE;

/// The neighbour: a little work, a little waiting, an answer that can be checked.
pub const STEADY: &str = r#"export default { async fetch(request) {
    await scheduler.wait(1);
    return new Response("steady " + new URL(request.url).searchParams.get("n"));
} }"#;

/// Connections of the load on the neighbour.
const CLIENTS: u64 = 2;
/// Between two requests of a client: the load is constant, not as much as the machine gives.
const PAUSE: Duration = Duration::from_millis(2);

struct Hosts(HashMap<String, Routed>);

impl Resolve for Hosts {
    fn resolve(&self, host: &str) -> Option<Routed> {
        self.0.get(host).cloned()
    }
}

struct Silent;

impl LogSink for Silent {
    fn write(&self, record: LogRecord) {
        if std::env::var_os("SHOW_LOGS").is_some() {
            eprintln!("{} [{:?}] {}", record.app, record.level, record.message);
        }
    }
}

/// Name, source, limits.
pub type App<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

pub struct Node {
    pub metrics: Metrics,
    address: SocketAddr,
    apps: HashMap<String, Arc<verge_runtime::App>>,
    /// Isolates end when it goes.
    _runtime: Runtime,
    serving: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Node {
    pub async fn start(apps: &[App<'_>]) -> Self {
        let metrics = Metrics::new();
        let mut config = RuntimeConfig::new(Arc::new(Silent));
        config.metrics = Some(metrics.clone());
        let runtime = Runtime::start(config).expect("a runtime");
        let mut hosts = HashMap::new();
        let mut loaded = HashMap::new();
        for (name, source, limits) in apps {
            let app = runtime.load(options(name, source, limits));
            let routed = Routed {
                app: app.name().clone(),
                max_request_body: app.limits().request_body,
                max_wall_ms: app.limits().wall_time,
                service: app.clone(),
                sessions: SessionPolicy::Off,
            };
            hosts.insert(format!("{name}.test"), routed);
            loaded.insert((*name).to_owned(), app);
        }
        let mut config = GatewayConfig::on(([127, 0, 0, 1], 0).into());
        config.metrics = metrics.clone();
        let gateway = Gateway::bind(config, Arc::new(Hosts(hosts)), Arc::new(NoAccessLog))
            .await
            .expect("a port");
        let address = gateway.local_addr();
        let serving = tokio::spawn(async move {
            gateway.serve(std::future::pending()).await;
        });
        Self { metrics, address, apps: loaded, _runtime: runtime, serving }
    }

    pub fn retire(&self, app: &str) {
        self.apps[app].retire();
    }

    /// One request over a connection of its own.
    pub async fn ask(&self, app: &str, ask: Ask) -> Answer {
        let mut sender = connect(self.address).await;
        tokio::time::timeout(PATIENCE, answer(&mut sender, app, ask))
            .await
            .expect("an answer in time")
    }

    /// Constant load on an app, from before it is returned.
    pub async fn load(&self, app: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|client| {
                tokio::spawn(client_of(self.address, app.to_owned(), client, stop.clone()))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        Load { stop, tasks }
    }
}

pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Duration>>>,
}

impl Load {
    pub async fn assert_nothing_lost(self, during: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = Vec::new();
        for task in self.tasks {
            // A request that was lost panics its client.
            took.extend(task.await.expect("the neighbour lost a request"));
        }
        assert!(took.len() > 20, "{} requests are no load", took.len());
        took.sort_unstable();
        let at = |share: usize| took[(took.len() - 1) * share / 100];
        println!(
            "neighbour during {during}: {} requests, p50 {:?}, p99 {:?}",
            took.len(),
            at(50),
            at(99)
        );
    }
}

async fn client_of(
    address: SocketAddr,
    app: String,
    client: u64,
    stop: Arc<AtomicBool>,
) -> Vec<Duration> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut sender = connect(address).await;
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let ask = Ask::get(&format!("/?n={n}"));
        let got = tokio::time::timeout(PATIENCE, answer(&mut sender, &app, ask))
            .await
            .expect("an answer in time");
        took.push(started.elapsed());
        assert_eq!((got.status, got.text), (200, format!("steady {n}")), "client {client}");
        tokio::time::sleep(PAUSE).await;
    }
    took
}

type Body = BoxBody<Bytes, Infallible>;

async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let stream = TcpStream::connect(address).await.expect("connected");
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

pub struct Ask {
    pub method: Method,
    pub path: String,
    pub accept: &'static str,
    pub body: String,
    /// Without a length that is told beforehand.
    pub chunked: bool,
}

impl Ask {
    pub fn get(path: &str) -> Self {
        let (path, body) = (path.to_owned(), String::new());
        Self { method: Method::GET, path, accept: "text/html", body, chunked: false }
    }

    pub fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    /// The connection ended before the body did.
    pub cut: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

async fn answer(sender: &mut SendRequest<Body>, app: &str, ask: Ask) -> Answer {
    let body = if ask.chunked {
        let pieces = ask.body.into_bytes();
        let pieces: Vec<_> = pieces.chunks(1000).map(Bytes::copy_from_slice).collect();
        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
    } else {
        BodyExt::boxed(Full::new(Bytes::from(ask.body)))
    };
    let request = Request::builder()
        .method(ask.method)
        .uri(ask.path)
        .header("host", format!("{app}.test"))
        .header("accept", ask.accept)
        .body(body)
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut cut = false;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend(frame.into_data().unwrap_or_default()),
            Err(_) => {
                cut = true;
                break;
            }
        }
    }
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        text: String::from_utf8_lossy(&bytes).into_owned(),
        cut,
    }
}

fn options(name: &str, source: &str, limits: &[(&str, &str)]) -> AppOptions {
    let module = Module {
        path: "index.js".to_owned(),
        kind: ModuleKind::Esm,
        source: Bytes::copy_from_slice(source.as_bytes()),
        source_map: None,
    };
    let mut set = Limits::default();
    for (key, value) in limits {
        set.set_key(key, value).expect("a limit");
    }
    AppOptions {
        name: name.parse().expect("a name"),
        deployment: Arc::new(Deployment {
            id: DeploymentId::from_digest(name.as_bytes()),
            main: Some("index.js".to_owned()),
            modules: vec![module],
            compatibility_date: "2026-11-01".to_owned(),
            compatibility_flags: Vec::new(),
            bindings: BTreeMap::new(),
            crons: Vec::new(),
            assets: None,
        }),
        limits: set,
        assets: None,
        databases: std::collections::HashMap::new(),
    }
}
