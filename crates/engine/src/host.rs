//! What an isolate may ask of the node. All of an isolate's reach beyond its own heap goes
//! through this, so that it can later stand in another process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use verge_telemetry::{LogSink, Metrics};
use verge_types::{
    AppName, Body, BoxFuture, DeploymentId, Fault, Limit, Limits, RequestContext, Service,
};

use crate::ExchangeId;

/// A call of a method of another app's entrypoint.
pub struct RpcCall {
    pub method: String,
    /// The arguments as an array, in V8's structured-clone format.
    pub args: Vec<u8>,
}

/// `{ ok, value }` or `{ ok, name, message }`, in V8's structured-clone format.
pub type RpcReply = Vec<u8>;

/// Why a call did not reach the other app's code, or ended it.
pub type RpcFailure = Fault;

/// Where a service binding leads.
pub trait Callee: Send + Sync + 'static {
    fn fetch(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>>;

    fn call(&self, call: RpcCall, cx: RequestContext) -> BoxFuture<Result<RpcReply, RpcFailure>>;
}

/// A SQL database of this node.
pub type SqlDatabase = verge_node::NodeDatabase;

/// The node, as one isolate sees it.
pub struct Host {
    pub app: AppName,
    pub deployment: DeploymentId,
    pub limits: Limits,
    pub log: Arc<dyn LogSink>,
    pub metrics: Option<Metrics>,
    /// By binding name.
    pub services: HashMap<String, Arc<dyn Callee>>,
    /// SQL databases, by binding name.
    pub databases: HashMap<String, Arc<SqlDatabase>>,
    /// Bytes of `.wasm` and binary modules, by path.
    pub data: HashMap<String, Bytes>,
    /// Answers a request whose handler threw after `ctx.passThroughOnException()`.
    pub fallback: Option<Arc<dyn Service>>,
}

impl Host {
    /// Counts a limit that the app has hit.
    pub fn limit_hit(&self, limit: Limit) {
        if let Some(metrics) = &self.metrics {
            metrics.limit_hit(Some(&self.app), limit);
        }
    }
}

/// Array buffers that were refused to the isolate because of their limit, so that a request
/// that fails for it can be told so.
#[derive(Clone, Debug, Default)]
pub struct RefusedBuffers(pub Arc<std::sync::atomic::AtomicU64>);

/// Asks whether an op that has worked for a request for a while must end: its CPU time may be up.
/// No interrupt of the engine gets through to an op.
#[derive(Clone)]
pub struct LongOp(pub Rc<dyn Fn(ExchangeId) -> bool>);

/// Why a name was not looked up.
#[derive(Debug)]
pub enum LookupFailure {
    /// It leads nowhere an app may go; the text is for the app.
    Refused(String),
    NotFound,
}

/// Decides where sockets may lead. `fetch` and WebSockets are held by the resolver and the
/// permissions that the engine is made with.
pub trait Outbound: Send + Sync + 'static {
    /// Judges an address before a socket connects to it; the error is for the app.
    fn socket(&self, address: &str, port: u16) -> Result<(), String>;

    /// The addresses of a name that a socket may connect to.
    fn lookup(
        &self,
        host: String,
        port: Option<u16>,
    ) -> BoxFuture<Result<Vec<IpAddr>, LookupFailure>>;
}
