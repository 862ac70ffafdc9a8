//! Fleets for tests.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use tempfile::TempDir;
use verge_fabric::{
    Fabric, FabricConfig, FleetAuthority, Links, MemberTable, NodeId, NodeIdentity, Peer, Security,
    Seed, Timing,
};
use verge_types::Body;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

pub fn peer(name: &str) -> Peer {
    Peer { node: id(name), pop: name[..3].parse().unwrap() }
}

/// A fleet's certificates.
pub struct Fleet {
    pub folder: TempDir,
    pub authority: FleetAuthority,
}

impl Fleet {
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = FleetAuthority::create(folder.path(), &name.parse().unwrap()).unwrap();
        Self { folder, authority }
    }

    pub fn identity(&self, name: &str) -> NodeIdentity {
        let Peer { node, pop } = peer(name);
        NodeIdentity::load(self.folder.path(), &node)
            .or_else(|_| self.authority.issue(&node, &pop, self.folder.path()))
            .unwrap()
    }

    /// Like production, only faster to find out who is gone.
    pub fn config(&self, name: &str) -> FabricConfig {
        let Peer { node, pop } = peer(name);
        let security = Security::MutualTls(self.identity(name));
        let fleet = self.authority.fleet().clone();
        let listen = "127.0.0.1:0".parse().unwrap();
        quick(FabricConfig::new(fleet, node, pop, listen, security))
    }
}

/// Without certificates, in a shared world.
pub fn plain(name: &str, links: &Links) -> FabricConfig {
    let Peer { node, pop } = peer(name);
    let listen = "127.0.0.1:0".parse().unwrap();
    let config = FabricConfig::new("dev".parse().unwrap(), node, pop, listen, Security::Loopback);
    FabricConfig { links: Some(links.clone()), ..quick(config) }
}

fn quick(mut config: FabricConfig) -> FabricConfig {
    config.timing = Timing {
        heartbeat: Duration::from_millis(100),
        suspect_after: Duration::from_millis(800),
        down_after: Duration::from_millis(2000),
        backoff_max: Duration::from_millis(500),
        dial_grace: Duration::from_millis(300),
        ..Timing::default()
    };
    config
}

pub fn seed(of: &Fabric) -> Seed {
    Seed { address: of.local_addr().to_string(), peer: Some(of.peer()) }
}

pub async fn start(config: FabricConfig) -> Fabric {
    Fabric::start(config).await.unwrap()
}

/// Two nodes that know each other, `iad-1` dialing `fra-1` or the other way round.
pub async fn pair(mut dialer: FabricConfig, acceptor: FabricConfig) -> (Fabric, Fabric) {
    let acceptor = start(acceptor).await;
    dialer.seeds.push(seed(&acceptor));
    let dialer = start(dialer).await;
    linked(&dialer, acceptor.node()).await;
    linked(&acceptor, dialer.node()).await;
    (dialer, acceptor)
}

pub async fn linked(fabric: &Fabric, to: &NodeId) {
    let there = fabric.wait_linked(to, PATIENCE).await;
    assert!(there, "{} has no link to {to}: {:?}", fabric.node(), fabric.members().borrow());
}

/// Waits until the table is as wanted.
pub async fn until(fabric: &Fabric, what: &str, wanted: impl Fn(&MemberTable) -> bool) {
    let mut table = fabric.members();
    let waited = tokio::time::timeout(PATIENCE, table.wait_for(|table| wanted(table))).await;
    assert!(waited.is_ok(), "{}: not {what}: {:?}", fabric.node(), fabric.members().borrow());
}

/// Answers with the request's body and method.
pub fn serve_echo(fabric: &Fabric) {
    fabric.serve_calls("echo", |_, request: Request<Body>| async move {
        let (parts, body) = request.into_parts();
        let mut response = Response::new(body);
        response.headers_mut().insert("method", parts.method.as_str().parse().unwrap());
        response.headers_mut().insert("uri", parts.uri.to_string().parse().unwrap());
        response
    });
}

pub async fn echo(fabric: &Fabric, to: &NodeId, text: &str) -> Result<Bytes, verge_fabric::Error> {
    let request = Request::new(Body::from(text.to_owned()));
    let response = fabric.call(to, "echo", request, PATIENCE).await?;
    Ok(response.into_body().collect().await.unwrap().to_bytes())
}
