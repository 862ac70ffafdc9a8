//! What the tests share: a service over a database of its own.

pub mod sqlite;

use std::path::Path;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use verge_dataset::{CreateOptions, Store, StoreConfig};
use verge_hrana::{Access, Backend, DatabaseBackend, HranaConfig, HranaService, Limits, TokenList};
use verge_services::sql::{Database, Node, Policy};
use verge_types::{
    Body, ClientInfo, DatasetId, Geo, RequestContext, RequestId, Scheme, Service, TraceContext,
    WebSocketAccept, WebSocketMessage,
};

pub struct Served {
    pub service: HranaService,
    folder: tempfile::TempDir,
}

impl Served {
    pub fn new(limits: Limits) -> Self {
        Self::with(|config| config.limits = limits)
    }

    pub fn with(configure: impl FnOnce(&mut HranaConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = sqlite::SqliteBackend { path: folder.path().join("test.db") };
        Self::over(folder, Arc::new(backend), configure)
    }

    /// Over a dataset, as its primary.
    pub fn dataset() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(folder.path())).unwrap();
        let id: DatasetId = "app/main".parse().unwrap();
        let dataset = store.create(&id, CreateOptions::default()).unwrap();
        let node = Node { served_by: "here".into(), region: "here".into() };
        let database = Database::new(
            verge_services::sql::DatasetHome::new(dataset, None),
            None,
            node,
            Policy::default(),
        );
        let backend = DatabaseBackend::new(Arc::new(database), Limits::default().write_transaction);
        Self::over(folder, Arc::new(backend), |_| ())
    }

    fn over(
        folder: tempfile::TempDir,
        backend: Arc<dyn Backend>,
        configure: impl FnOnce(&mut HranaConfig),
    ) -> Self {
        let mut config = HranaConfig::new("app/main", [7; 32]);
        configure(&mut config);
        let tokens = TokenList::new([("full", Access::Full), ("read", Access::ReadOnly)]).unwrap();
        let service = HranaService::new(backend, Arc::new(tokens), config);
        Self { service, folder }
    }

    /// A connection of the test's own.
    pub fn sqlite(&self) -> rusqlite::Connection {
        let path: &Path = self.folder.path();
        let sqlite = rusqlite::Connection::open(path.join("test.db")).unwrap();
        sqlite.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        sqlite
    }

    pub async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.service.call(request, context()).await.unwrap()
    }

    /// Posts as `full`; returns the status and the body.
    pub async fn post(&self, path: &str, body: &Json) -> (u16, Json) {
        self.post_as(Some("Bearer full"), path, body).await
    }

    pub async fn post_as(
        &self,
        authorization: Option<&str>,
        path: &str,
        body: &Json,
    ) -> (u16, Json) {
        let mut request = Request::post(path);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = self.call(request.body(Body::from(body.to_string())).unwrap()).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// Runs a pipeline; returns its baton and results.
    pub async fn pipeline(&self, baton: &Json, requests: Json) -> (Json, Json) {
        let body = json!({"baton": baton, "requests": requests});
        let (status, mut body) = self.post("/v2/pipeline", &body).await;
        assert_eq!(status, 200, "{body}");
        (body["baton"].take(), body["results"].take())
    }

    pub async fn websocket(&self, protocols: Option<&str>) -> Result<Socket, Response<Body>> {
        let mut request = Request::get("/").header("upgrade", "websocket");
        if let Some(protocols) = protocols {
            request = request.header("sec-websocket-protocol", protocols);
        }
        let response = self.call(request.body(Body::Empty).unwrap()).await;
        let Some(accept) = response.extensions().get::<WebSocketAccept>() else {
            return Err(response);
        };
        let (to_app, from_app) = accept.take().unwrap();
        let protocol = response.headers().get("sec-websocket-protocol");
        let protocol = protocol.map(|name| name.to_str().unwrap().to_owned());
        Ok(Socket { to_app, from_app, protocol })
    }
}

/// The client's end of a WebSocket.
pub struct Socket {
    pub to_app: mpsc::Sender<WebSocketMessage>,
    pub from_app: mpsc::Receiver<WebSocketMessage>,
    pub protocol: Option<String>,
}

impl Socket {
    pub async fn send(&self, message: Json) {
        let _ = self.to_app.send(WebSocketMessage::Text(message.to_string())).await;
    }

    pub async fn request(&self, request_id: i32, request: Json) {
        self.send(json!({"type": "request", "request_id": request_id, "request": request})).await;
    }

    /// The next message; a close becomes `{"closed": code}`, the end of all `{"gone": true}`.
    pub async fn next(&mut self) -> Json {
        match self.from_app.recv().await {
            Some(WebSocketMessage::Text(text)) => serde_json::from_str(&text).unwrap(),
            Some(WebSocketMessage::Close { code, .. }) => json!({ "closed": code }),
            Some(WebSocketMessage::Binary(bytes)) => json!({ "binary": bytes.to_vec() }),
            None => json!({"gone": true}),
        }
    }

    pub async fn hello(&mut self) {
        self.send(json!({"type": "hello", "jwt": "full"})).await;
        assert_eq!(self.next().await["type"], "hello_ok");
    }
}

fn context() -> RequestContext {
    RequestContext {
        id: RequestId(1),
        client: Arc::new(ClientInfo {
            addr: ([127, 0, 0, 1], 1).into(),
            scheme: Scheme::Http,
            http_protocol: "HTTP/1.1",
            tls_version: "",
            tls_cipher: "",
        }),
        geo: Arc::new(Geo::default()),
        trace: TraceContext { trace_id: 1, span_id: 1, parent_id: None, sampled: false },
        session: verge_types::Session::off(),
    }
}

pub fn execute(sql: &str) -> Json {
    json!({"type": "execute", "stmt": {"sql": sql}})
}

/// A statement that ends only when interrupted.
pub const ENDLESS: &str =
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
