//! Who answers calls and streams of other nodes, by name, and how an incoming channel gets there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use parking_lot::RwLock;
use tokio::time::{Instant, timeout};
use verge_types::{Body, BoxFuture};

use crate::body::{self, Incoming};
use crate::channel::{Channel, Sender};
use crate::frame;
use crate::head::{Kind, MAX_HEAD, Open, Outcome, Reply};
use crate::link::Link;
use crate::message::MessageStream;
use crate::{Error, Peer};

/// An unread request body is read on for so long after the answer.
const DRAIN: Duration = Duration::from_secs(10);

/// What is known of a call beside its request.
#[derive(Clone, Debug)]
pub struct CallContext {
    pub from: Peer,
    /// When the caller stops waiting for the head of the answer. The clock is this node's.
    pub deadline: Instant,
}

/// Answers calls. The future is dropped when the caller gives up.
pub trait CallHandler: Send + Sync + 'static {
    fn call(&self, context: CallContext, request: Request<Body>) -> BoxFuture<Response<Body>>;
}

impl<F, Fut> CallHandler for F
where
    F: Fn(CallContext, Request<Body>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    fn call(&self, context: CallContext, request: Request<Body>) -> BoxFuture<Response<Body>> {
        Box::pin(self(context, request))
    }
}

/// Takes message streams. The future runs until it ends by itself: the stream tells it when the
/// other side or the connection is gone.
pub trait StreamHandler: Send + Sync + 'static {
    fn open(&self, from: Peer, headers: HeaderMap, stream: MessageStream) -> BoxFuture<()>;
}

impl<F, Fut> StreamHandler for F
where
    F: Fn(Peer, HeaderMap, MessageStream) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn open(&self, from: Peer, headers: HeaderMap, stream: MessageStream) -> BoxFuture<()> {
        Box::pin(self(from, headers, stream))
    }
}

#[derive(Default)]
pub(crate) struct Handlers {
    pub calls: RwLock<HashMap<String, Arc<dyn CallHandler>>>,
    pub streams: RwLock<HashMap<String, Arc<dyn StreamHandler>>>,
}

impl Handlers {
    /// Serves one channel that the other side opened.
    pub async fn serve(&self, link: &Link, mut channel: Channel) {
        let wire = link.wire.clone();
        let read = timeout(wire.limits.handshake_timeout, channel.rx.head()).await;
        let opened = match read {
            Ok(Ok((head, rest))) => {
                Open::decode(head).map(|open| (open, rest)).map_err(Error::from)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => return, // dropped, so reset
        };
        match opened {
            Ok((open, rest)) => match open.kind {
                Kind::Call => self.call(link, open, channel, rest).await,
                Kind::Stream => self.stream(link, open, channel, rest).await,
            },
            Err(Error::LinkLost(_) | Error::Reset(_)) => {}
            Err(_) => refuse(channel, Outcome::Malformed).await,
        }
    }

    async fn call(&self, link: &Link, open: Open, channel: Channel, rest: Bytes) {
        let Some(handler) = self.calls.read().get(&open.name).cloned() else {
            link.wire.counters.names_unknown.one();
            return refuse(channel, Outcome::UnknownName).await;
        };
        link.wire.counters.calls_served.one();
        let Channel { mut tx, rx } = channel;
        let (body, unread) = Incoming::request(rx, rest);
        let mut request = Request::new(body);
        *request.method_mut() = open.method;
        *request.uri_mut() = open.uri;
        *request.headers_mut() = open.headers;
        let wait = Duration::from_millis(open.deadline_ms.into());
        let context = CallContext { from: link.peer(), deadline: Instant::now() + wait };
        let response = tokio::select! {
            response = handler.call(context, request) => response,
            _ = tx.reset_by_peer() => return,
        };
        let (parts, body) = response.into_parts();
        let reply = Reply { outcome: Outcome::Taken, status: parts.status, headers: parts.headers };
        if answer(&mut tx, &reply, body).await.is_err() {
            return;
        }
        if let Ok(Ok(mut rx)) = timeout(DRAIN, unread).await {
            let _ = timeout(DRAIN, rx.drain()).await;
        }
    }

    async fn stream(&self, link: &Link, open: Open, mut channel: Channel, rest: Bytes) {
        let Some(handler) = self.streams.read().get(&open.name).cloned() else {
            link.wire.counters.names_unknown.one();
            return refuse(channel, Outcome::UnknownName).await;
        };
        let reply =
            Reply { outcome: Outcome::Taken, status: StatusCode::OK, headers: HeaderMap::new() };
        if put_head(&mut channel.tx, reply.encode(), &Bytes::new(), false).is_err() {
            return;
        }
        link.wire.counters.streams_served.one();
        let limit = link.wire.limits.max_message;
        let stream = MessageStream::new(link.peer(), channel, limit, rest);
        handler.open(link.peer(), open.headers, stream).await;
    }
}

async fn answer(tx: &mut Sender, reply: &Reply, body: Body) -> Result<(), Error> {
    match body {
        Body::Empty => put_head(tx, reply.encode(), &Bytes::new(), true),
        Body::Full(bytes) => put_head(tx, reply.encode(), &bytes, true),
        body @ Body::Stream(_) => {
            put_head(tx, reply.encode(), &Bytes::new(), false)?;
            body::send(tx, body).await
        }
    }
}

/// Queues a head, and a body that is in memory already, in as few h2 frames as possible.
pub(crate) fn put_head(
    tx: &mut Sender,
    head: Result<Bytes, crate::head::BadHead>,
    body: &Bytes,
    end: bool,
) -> Result<(), Error> {
    /// Bodies up to here are copied behind the head.
    const TOGETHER: usize = 8 * 1024;
    let (first, second) = frame::encode(head?, MAX_HEAD)?;
    if second.is_empty() && body.len() <= TOGETHER {
        return tx.put(Bytes::from([&first[..], &body[..]].concat()), end);
    }
    tx.put(first, false)?;
    if body.is_empty() {
        return tx.put(second, end);
    }
    if !second.is_empty() {
        tx.put(second, false)?;
    }
    tx.put(body.clone(), end)
}

async fn refuse(channel: Channel, outcome: Outcome) {
    let Channel { mut tx, mut rx } = channel;
    let reply = Reply { outcome, status: StatusCode::BAD_GATEWAY, headers: HeaderMap::new() };
    if put_head(&mut tx, reply.encode(), &Bytes::new(), true).is_ok() {
        let _ = timeout(DRAIN, rx.drain()).await;
    }
}
