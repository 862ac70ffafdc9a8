//! The contract between what listens and what answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};

use crate::{AppName, Body, Fault, RequestContext, SessionPolicy};

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Answers requests of one app: the asset server, the isolate pool, or a chain of them.
///
/// The request's extensions carry nothing the service needs; all context is in `cx`. The fields
/// that tell who the client is are not among the headers: whoever shows headers to an app sets
/// them, by [`crate::ClientInfo::describe`].
/// A WebSocket is accepted by answering `101` with a [`crate::WebSocketAccept`] in the
/// response's extensions; the listener then does the handshake and moves the frames.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. A [`Fault`] becomes an error page in one place, the gateway.
    fn call(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>>;
}

/// The app a host name leads to.
#[derive(Clone)]
pub struct Routed {
    /// For the access log and metrics.
    pub app: AppName,
    /// Answers its requests.
    pub service: Arc<dyn Service>,
    /// Largest request body accepted, in bytes.
    pub max_request_body: u64,
    /// Longest a request may take to its last response byte, in milliseconds; 0 is no limit.
    pub max_wall_ms: u64,
    /// What is remembered of the app's clients.
    pub sessions: SessionPolicy,
}

/// Host name to app. Called once a request, so it must not block.
pub trait Resolve: Send + Sync + 'static {
    /// `host` is lower-case, without port or trailing dot.
    fn resolve(&self, host: &str) -> Option<Routed>;

    /// The same where some paths of a host are not the app's. `path` is as the client sent it.
    fn route(&self, host: &str, path: &str) -> Option<Routed> {
        let _ = path;
        self.resolve(host)
    }
}
