//! What one of the processes does: a node, and an HTTP server with a small bank on it.
//!
//! `GET /read?n=N`, `POST /write?n=N&from=A&to=B&amount=C`, `POST /control` (a [`Command`] as
//! JSON), `POST /cut?peer=P`, `/heal?peer=P`, `/fill`, `/unfill`. A session goes as
//! `verge-seen: epoch/txid`, there and back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use verge_dataset::Settings;
use verge_fabric::{Fabric, FabricConfig, Links, Security, Seed, Timing as FabricTiming};
use verge_node::{Command, FileRegister, Node, NodeConfig, NodeDatabase, Timing};
use verge_replicate::AckMode;
use verge_services::sql::{ErrorKind, Freshness, Query, SqlError, Value};
use verge_types::Position;

use crate::world::{id, peer};

pub const CHILD: &str = "VERGE_NODE_FAULTS_CHILD";
pub const SEEN: &str = "verge-seen";
pub const APP: &str = "app/bank";
/// A full disk is met by the log itself, not by the reserve that is kept before it.
const NO_RESERVE: u64 = 0;
/// How long a read waits for its replica.
const WAIT: Duration = Duration::from_millis(500);

/// What a process is told by its parent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub name: String,
    pub folder: PathBuf,
    pub leases: PathBuf,
    /// Name and fabric address of each node.
    pub nodes: Vec<(String, String)>,
    pub quorum: bool,
}

struct App {
    node: Node,
    links: Links,
    orders: Orders,
}

/// Not a test of its own: what the child process does, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_is_a_node() {
    let Ok(orders) = std::env::var(CHILD) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    tracing::subscriber::set_global_default(super::log::ToStderr).unwrap();
    let links = Links::new(7);
    let own = orders.nodes.iter().find(|(name, _)| *name == orders.name).unwrap();
    let this = peer(&orders.name);
    let mut fabric = FabricConfig::new(
        "faults".parse().unwrap(),
        this.node.clone(),
        this.pop.clone(),
        own.1.parse().unwrap(),
        Security::Loopback,
    );
    fabric.links = Some(links.clone());
    fabric.timing = FabricTiming {
        heartbeat: Duration::from_millis(150),
        suspect_after: Duration::from_millis(700),
        down_after: Duration::from_millis(1500),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(300),
        dial_grace: Duration::from_millis(200),
        ..FabricTiming::default()
    };
    for (name, address) in orders.nodes.iter().filter(|(name, _)| *name != orders.name) {
        fabric.seeds.push(Seed { address: address.clone(), peer: Some(peer(name)) });
    }
    let mut config = NodeConfig::new(&orders.folder, this.node, this.pop);
    config.fabric = Some(Fabric::start(fabric).await.unwrap());
    config.voters = orders.nodes.iter().map(|(name, _)| peer(name)).collect();
    config.placement = Some(peer(&orders.nodes[0].0).pop);
    config.ack = if orders.quorum { AckMode::Quorum } else { AckMode::Local };
    config.register = Some(Arc::new(FileRegister::open(&orders.leases).unwrap()));
    config.settings = Settings {
        min_free_bytes: NO_RESERVE,
        checkpoint_bytes: 256 << 10,
        log_file_bytes: 512 << 10,
        max_log_bytes: 4 << 20,
        ..Settings::default()
    };
    config.timing = Timing {
        lease_ttl: Duration::from_millis(1500),
        lease_margin: Duration::from_millis(200),
        lease_renew_every: Duration::from_millis(300),
        forward_deadline: Duration::from_secs(5),
        primary_patience: Duration::from_secs(2),
        ..Timing::default()
    };
    let node = Node::start(config).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = Arc::new(App { node, links, orders });
    println!("\nready {}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let app = app.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let app = app.clone();
                async move { Ok::<_, Infallible>(app.answer(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = Response<Full<Bytes>>;

fn said(status: StatusCode, text: impl Into<String>) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(text.into())));
    *response.status_mut() = status;
    response
}

impl App {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let query: HashMap<String, String> = request
            .uri()
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let seen = request.headers().get(SEEN).and_then(|seen| {
            let (epoch, txid) = seen.to_str().ok()?.split_once('/')?;
            Some(Position::new(epoch.parse().ok()?, txid.parse().ok()?))
        });
        let this = || peer(&self.orders.name).node;
        let other = || query.get("peer").map(|name| peer(name).node).unwrap();
        match request.uri().path() {
            "/read" => self.read(&query, seen).await,
            "/write" => self.write(&query, seen).await,
            "/cut" => {
                self.links.cut(&this(), &other());
                said(StatusCode::OK, "")
            }
            "/heal" => {
                self.links.heal(&this(), &other());
                said(StatusCode::OK, "")
            }
            "/fill" => self.fill(),
            "/unfill" => {
                let removed = std::fs::remove_file(self.orders.folder.join("ballast"));
                said(StatusCode::OK, format!("{removed:?}"))
            }
            "/control" => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let command: Command = serde_json::from_slice(&body).unwrap();
                match self.node.run(command).await {
                    Ok(value) => said(StatusCode::OK, value.to_string()),
                    Err(error) => said(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                }
            }
            other => said(StatusCode::NOT_FOUND, other),
        }
    }

    /// Writes until the disk is full.
    fn fill(&self) -> Answer {
        let mut file = std::fs::File::create(self.orders.folder.join("ballast")).unwrap();
        let mut size = 64 << 10;
        loop {
            match file.write_all(&vec![7; size]) {
                Ok(()) => {}
                Err(_) if size > 1 => size /= 4,
                Err(error) => return said(StatusCode::OK, error.to_string()),
            }
        }
    }

    async fn database(&self) -> Result<Arc<NodeDatabase>, Answer> {
        self.node
            .database(&id(APP))
            .await
            .map_err(|error| said(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
    }

    async fn read(&self, query: &HashMap<String, String>, seen: Option<Position>) -> Answer {
        let db = match self.database().await {
            Ok(db) => db,
            Err(answer) => return answer,
        };
        let text = "SELECT (SELECT sum(has) FROM bank), (SELECT count(*) FROM done), \
                    EXISTS (SELECT 1 FROM done WHERE n = ?1)";
        let n = query.get("n").and_then(|n| n.parse().ok()).unwrap_or(0);
        let freshness = Freshness { at_least: seen, wait: WAIT, ..Freshness::default() };
        let read = Query::new(text, vec![Value::Integer(n)]);
        match db.query(&freshness, read, None).await {
            Ok(answer) => {
                let numbers = answer.value.rows.values.iter().map(|value| match value {
                    Value::Integer(n) => n.to_string(),
                    other => format!("{other:?}"),
                });
                let text = numbers.collect::<Vec<_>>().join(" ");
                with_position(said(StatusCode::OK, text), answer.position)
            }
            Err(error) => failed(&error),
        }
    }

    async fn write(&self, query: &HashMap<String, String>, seen: Option<Position>) -> Answer {
        let db = match self.database().await {
            Ok(db) => db,
            Err(answer) => return answer,
        };
        let number = |key: &str| Value::Integer(query[key].parse().unwrap());
        let freshness = Freshness { at_least: seen, wait: WAIT, ..Freshness::default() };
        let take = "UPDATE bank SET has = has - ?1 WHERE who = ?2";
        let give = "UPDATE bank SET has = has + ?1 WHERE who = ?2";
        let pad = "INSERT INTO done (n, pad) VALUES (?1, randomblob(?1 % 700))";
        let batch = vec![
            Query::new(pad, vec![number("n")]),
            Query::new(take, vec![number("amount"), number("from")]),
            Query::new(give, vec![number("amount"), number("to")]),
        ];
        match db.batch(&freshness, batch, None).await {
            Ok(answer) => with_position(said(StatusCode::OK, "kept"), answer.position),
            Err(error) => failed(&error),
        }
    }
}

fn with_position(mut answer: Answer, at: Position) -> Answer {
    let text = format!("{}/{}", at.epoch, at.txid);
    answer.headers_mut().insert(SEEN, text.parse().unwrap());
    answer
}

fn failed(error: &SqlError) -> Answer {
    let status = match error.kind {
        _ if error.retryable() => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::HistoryLost => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    said(status, format!("{:?}: {error}", error.kind))
}
