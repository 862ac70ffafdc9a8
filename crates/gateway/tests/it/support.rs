//! A gateway on a free port with a service that does what the path says, and raw clients.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use verge_gateway::{AccessLog, AccessRecord, Cutter, Drained, Gateway, GatewayConfig};
use verge_types::{
    Blame, Body, BodyError, BoxFuture, Fault, RequestContext, Resolve, Routed, Service,
    SessionPolicy, WEBSOCKET_QUEUE, WebSocketAccept, WebSocketMessage,
};

/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const CHUNK: usize = 64 * 1024;

/// What the service has seen.
#[derive(Default)]
pub struct Seen {
    pub calls: AtomicUsize,
    /// Chunks that streaming answers were able to hand over.
    pub chunks: AtomicUsize,
    pub sockets: Mutex<Vec<WebSocketMessage>>,
}

impl Seen {
    pub fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

pub struct Puppet(Arc<Seen>);

type Answer = Result<Response<Body>, Fault>;

impl Service for Puppet {
    fn call(&self, request: Request<Body>, cx: RequestContext) -> BoxFuture<Answer> {
        self.0.calls.fetch_add(1, SeqCst);
        let seen = Arc::clone(&self.0);
        if request.uri().path() == "/panic-at-once" {
            panic!("as asked");
        }
        Box::pin(async move { act(request, cx, seen).await })
    }
}

fn text(text: impl Into<String>) -> Answer {
    Ok(Response::new(Body::from(text.into())))
}

async fn act(request: Request<Body>, cx: RequestContext, seen: Arc<Seen>) -> Answer {
    let path = request.uri().path().to_owned();
    let (word, argument) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    match word {
        "echo" => {
            let mut response = Response::new(request.into_body());
            response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            Ok(response)
        }
        "read" => match request.into_body().collect().await {
            Ok(all) => text(format!(
                "{} bytes, trailer {:?}",
                all.trailers().and_then(|t| t.get("x-sum")).is_some(),
                all.to_bytes().len()
            )),
            Err(error) => Err(Fault::new("guest_exception", Blame::Guest, 500, "The app threw")
                .with_detail(error.to_string())),
        },
        "ignore" => text("ignored"),
        "sleep" => {
            tokio::time::sleep(Duration::from_millis(argument.parse().unwrap_or(0))).await;
            text("slept")
        }
        "never" => std::future::pending().await,
        "stream" => Ok(Response::new(endless(argument.parse().unwrap_or(1), seen))),
        // All at hand at once, so that the request is over for us long before it is sent.
        "full" => {
            let size = argument.parse::<usize>().unwrap() << 20;
            Ok(Response::new(Body::from(Bytes::from(vec![b'x'; size]))))
        }
        "drip" => {
            let (send, body) = channel();
            tokio::spawn(async move {
                let _ = send.send(Ok(Frame::data(Bytes::from_static(b"first")))).await;
                send.closed().await;
            });
            Ok(Response::new(body))
        }
        "break" => {
            let (send, body) = channel();
            tokio::spawn(async move {
                let _ = send.send(Ok(Frame::data(Bytes::from_static(b"first")))).await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                let fault = Fault::new("guest_exception", Blame::Guest, 500, "The app threw");
                let _ = send.send(Err(BodyError::Fault(fault))).await;
            });
            Ok(Response::new(body))
        }
        "trailers" => {
            let (send, body) = channel();
            tokio::spawn(async move {
                let _ = send.send(Ok(Frame::data(Bytes::from_static(b"data")))).await;
                let mut trailers = http::HeaderMap::new();
                trailers.insert("x-sum", "42".parse().unwrap());
                trailers.insert("content-length", "1".parse().unwrap());
                let _ = send.send(Ok(Frame::trailers(trailers))).await;
            });
            let mut response = Response::new(body);
            response.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            Ok(response)
        }
        "headers" => {
            let mut lines = vec![format!("{} {}", request.method(), request.uri())];
            let mut headers = request.headers().clone();
            cx.client.describe(&mut headers);
            for (name, value) in &headers {
                lines.push(format!("{name}: {}", value.to_str().unwrap_or("?")));
            }
            lines.push(format!("client {} {}", cx.client.addr.ip(), cx.client.scheme.as_str()));
            lines.push(format!("proto {} {}", cx.client.http_protocol, cx.client.tls_version));
            lines.push(format!("trace {}", cx.trace.traceparent()));
            lines.push(format!("id {}", cx.id));
            text(lines.join("\n"))
        }
        "status" => {
            let mut response = Response::new(Body::from("body"));
            *response.status_mut() = argument.parse().unwrap();
            Ok(response)
        }
        "lie" => {
            let mut response = Response::new(Body::from("body"));
            response.headers_mut().insert("content-length", "999".parse().unwrap());
            response.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
            Ok(response)
        }
        "panic" => panic!("as asked"),
        "fault" => Err(Fault::new("guest_exception", Blame::Guest, 500, "The app threw")
            .with_detail("secret internals")),
        "switch" => {
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            Ok(response)
        }
        "ws" => Ok(accept(argument, seen)),
        _ => text("Hello"),
    }
}

type Frames = mpsc::Sender<Result<Frame<Bytes>, BodyError>>;

fn channel() -> (Frames, Body) {
    let (send, mut receive) = mpsc::channel(1);
    let stream = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
    (send, Body::stream(StreamBody::new(stream)))
}

fn endless(chunks: usize, seen: Arc<Seen>) -> Body {
    let (send, body) = channel();
    tokio::spawn(async move {
        for _ in 0..chunks {
            if send.send(Ok(Frame::data(Bytes::from(vec![b'x'; CHUNK])))).await.is_err() {
                return;
            }
            seen.chunks.fetch_add(1, SeqCst);
        }
    });
    body
}

fn accept(argument: &str, seen: Arc<Seen>) -> Response<Body> {
    let (to_app, mut inbox) = mpsc::channel::<WebSocketMessage>(WEBSOCKET_QUEUE);
    let (outbox, from_app) = mpsc::channel(WEBSOCKET_QUEUE);
    let mut accept = WebSocketAccept::new(to_app, from_app);
    if argument == "large" {
        accept = accept.with_max_message(4 << 20);
    }
    let argument = argument.to_owned();
    tokio::spawn(async move {
        match argument.as_str() {
            "drop" => return,
            "deaf" => {
                outbox.closed().await;
                return;
            }
            "close" => {
                let reason = "enough".to_owned();
                let _ = outbox.send(WebSocketMessage::Close { code: 4001, reason }).await;
            }
            "flood" => {
                let message = WebSocketMessage::Binary(Bytes::from(vec![b'x'; CHUNK]));
                while outbox.send(message.clone()).await.is_ok() {
                    seen.chunks.fetch_add(1, SeqCst);
                }
                return;
            }
            _ => {}
        }
        while let Some(message) = inbox.recv().await {
            seen.sockets.lock().unwrap().push(message.clone());
            if outbox.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("sec-websocket-protocol", "chat".parse().unwrap());
    response.extensions_mut().insert(accept);
    response
}

/// `app.test` has small limits, every other host that is not `unknown.test` large ones.
struct Hosts {
    service: Arc<Puppet>,
}

impl Resolve for Hosts {
    fn resolve(&self, host: &str) -> Option<Routed> {
        let (app, max_request_body, max_wall_ms) = match host {
            "unknown.test" => return None,
            "small.test" => ("small", 1000, 400),
            _ => ("large", 1 << 30, 0),
        };
        Some(Routed {
            app: app.parse().unwrap(),
            service: self.service.clone(),
            max_request_body,
            max_wall_ms,
            sessions: SessionPolicy::Off,
        })
    }
}

#[derive(Default)]
pub struct Log(Mutex<Vec<AccessRecord>>);

impl AccessLog for Log {
    fn record(&self, entry: AccessRecord) {
        self.0.lock().unwrap().push(entry);
    }
}

impl Log {
    pub fn any(&self, fits: impl Fn(&AccessRecord) -> bool) -> bool {
        self.0.lock().unwrap().iter().any(fits)
    }

    /// Waits for the first record that fits.
    pub async fn find(&self, fits: impl Fn(&AccessRecord) -> bool) -> AccessRecord {
        until("an access record", || self.0.lock().unwrap().iter().any(&fits)).await;
        self.0.lock().unwrap().iter().find(|entry| fits(entry)).unwrap().clone()
    }
}

/// A running gateway.
pub struct Stage {
    pub addr: SocketAddr,
    pub seen: Arc<Seen>,
    pub log: Arc<Log>,
    pub metrics: verge_telemetry::Metrics,
    pub cutter: Cutter,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Drained>,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(set: impl FnOnce(&mut GatewayConfig)) -> Self {
        let mut config = GatewayConfig::default();
        set(&mut config);
        let (seen, log) = (Arc::new(Seen::default()), Arc::new(Log::default()));
        let metrics = config.metrics.clone();
        let hosts = Hosts { service: Arc::new(Puppet(Arc::clone(&seen))) };
        let gateway = Gateway::bind(config, Arc::new(hosts), log.clone()).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        Self {
            addr: gateway.local_addr(),
            seen,
            log,
            metrics,
            cutter: gateway.cutter(),
            stop: Some(stop),
            serving: tokio::spawn(gateway.serve(async move {
                let _ = stopped.await;
            })),
        }
    }

    pub fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    pub async fn drained(&mut self) -> Drained {
        self.begin_stop();
        timeout(PATIENCE, &mut self.serving).await.unwrap().unwrap()
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends bytes on a new connection and reads until it is closed.
    pub async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        let _ = stream.write_all(bytes.as_ref()).await;
        read_to_end(&mut stream).await
    }

    /// One GET with `Connection: close`.
    pub async fn get(&self, host: &str, path: &str) -> String {
        self.raw(get(host, path)).await
    }
}

pub fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// Everything until the peer closes, a reset included.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match timeout(PATIENCE, stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(n)) => all.extend_from_slice(&buffer[..n]),
            Err(_) => panic!("still open after: {}", all.escape_ascii()),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until the text has come.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    while !String::from_utf8_lossy(&all).contains(end) {
        match timeout(PATIENCE, stream.read(&mut buffer)).await {
            Ok(Ok(n)) if n > 0 => all.extend_from_slice(&buffer[..n]),
            _ => panic!("`{end}` did not come; this did: {}", all.escape_ascii()),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An HTTP/2 client without TLS.
pub async fn h2(stage: &Stage) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(stage.connect().await).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    client.ready().await.unwrap()
}

pub fn h2_get(path: &str) -> Request<()> {
    Request::get(format!("http://app.test{path}")).body(()).unwrap()
}

/// All data of an h2 body; the window is given back as it comes.
pub async fn h2_read(mut body: h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.unwrap() {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// Resident pages of this process, in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
