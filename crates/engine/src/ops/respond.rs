//! Answering a request: from an app's values to a [`Response`].

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use deno_core::{OpState, Resource, ResourceId, op2};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc;
use verge_telemetry::Level;
use verge_types::{Blame, Body, BodyError, Fault, Limit};

use super::{OpError, exchanges, host, log};
use crate::exchange::Cancellation;
use crate::{ExchangeId, RefusedBuffers, stack};

/// Bytes asked of a response stream at a time.
const READ_SIZE: usize = 64 * 1024;
/// Pieces of a streamed response that wait for the connection before the stream is held back.
const STREAM_QUEUE: usize = 4;

pub(super) fn header_map(flat: Vec<deno_core::ByteString>) -> Result<HeaderMap, OpError> {
    let mut headers = HeaderMap::with_capacity(flat.len() / 2);
    let mut pairs = flat.into_iter();
    while let (Some(name), Some(value)) = (pairs.next(), pairs.next()) {
        let lossy = || String::from_utf8_lossy(&name).into_owned();
        let parsed = HeaderName::from_bytes(&name).map_err(|_| OpError::HeaderName(lossy()))?;
        let value = HeaderValue::from_bytes(&value).map_err(|_| OpError::HeaderValue(lossy()))?;
        headers.append(parsed, value);
    }
    Ok(headers)
}

fn response(status: u16, headers: HeaderMap, body: Body) -> Result<Response<Body>, OpError> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| OpError::Status(status))?;
    *response.headers_mut() = headers;
    Ok(response)
}

fn check_size(state: &OpState, size: usize) -> Result<(), OpError> {
    let limit = host(state).map_or(u64::MAX, |host| host.limits.response_body);
    if size as u64 > limit {
        if let Some(host) = host(state) {
            host.limit_hit(Limit::ResponseBody);
        }
        return Err(OpError::limit(Limit::ResponseBody, limit));
    }
    Ok(())
}

/// The hot path: a string with at most a content type.
#[op2(fast)]
pub fn op_verge_respond_text(
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[smi] status: u16,
    #[string] content_type: &str,
    #[string] body: String,
) -> Result<(), OpError> {
    check_size(state, body.len())?;
    let content_type = match content_type {
        "" => None,
        "text/plain;charset=UTF-8" => Some(HeaderValue::from_static("text/plain;charset=UTF-8")),
        other => Some(
            HeaderValue::from_str(other)
                .map_err(|_| OpError::HeaderValue("content-type".to_owned()))?,
        ),
    };
    let response = response(status, HeaderMap::new(), body.into())?;
    exchanges(state).respond_plainly(id, response, content_type);
    Ok(())
}

#[op2]
pub fn op_verge_respond_bytes(
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[smi] status: u16,
    #[serde] headers: Vec<deno_core::ByteString>,
    #[buffer(copy)] body: Bytes,
) -> Result<(), OpError> {
    check_size(state, body.len())?;
    let response = response(status, header_map(headers)?, body.into())?;
    exchanges(state).respond(id, response, false);
    Ok(())
}

#[op2]
pub fn op_verge_respond_empty(
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[smi] status: u16,
    #[serde] headers: Vec<deno_core::ByteString>,
) -> Result<(), OpError> {
    let response = response(status, header_map(headers)?, Body::Empty)?;
    exchanges(state).respond(id, response, false);
    Ok(())
}

/// Streams a resource as the body, as fast as the client reads.
#[op2]
pub fn op_verge_respond_stream(
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[smi] status: u16,
    #[serde] headers: Vec<deno_core::ByteString>,
    #[smi] rid: ResourceId,
) -> Result<(), OpError> {
    let resource = state.resource_table.take_any(rid)?;
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    let body = body_of(receiver);
    let response = response(status, header_map(headers)?, body)?;
    let cancelled = exchanges(state).get(id).map(|exchange| exchange.cancelled.clone());
    if let Some(cancelled) = cancelled
        && exchanges(state).respond(id, response, true)
    {
        let limit = host(state).map_or(u64::MAX, |host| host.limits.response_body);
        let shared = state.borrow::<Rc<RefCell<SharedState>>>().clone();
        let out = Outgoing { id, resource, sender, limit, cancelled };
        deno_core::unsync::spawn(pump(shared, out));
    } else {
        resource.close();
    }
    Ok(())
}

/// A way back to the `OpState` for tasks that outlive the op that started them.
pub struct SharedState(pub Rc<RefCell<OpState>>);

/// A response body on its way out.
struct Outgoing {
    id: ExchangeId,
    resource: Rc<dyn Resource>,
    sender: mpsc::Sender<Piece>,
    limit: u64,
    cancelled: Rc<Cancellation>,
}

async fn pump(shared: Rc<RefCell<SharedState>>, out: Outgoing) {
    let Outgoing { id, resource, sender, limit, cancelled } = out;
    let mut sent = 0u64;
    let client_left = loop {
        let piece = tokio::select! {
            biased;
            () = sender.closed() => break true,
            _ = cancelled.settled() => {
                let fault = cancelled.take_fault().unwrap_or_else(broken);
                // The head is out, so the only honest end is an aborted connection.
                let _ = sender.send(Piece::Failed(BodyError::Fault(fault))).await;
                break true;
            }
            piece = resource.clone().read(READ_SIZE) => piece,
        };
        let error = match piece {
            Ok(piece) if piece.is_empty() => {
                let _ = sender.send(Piece::End).await;
                break false;
            }
            Ok(piece) => {
                sent += piece.len() as u64;
                if sent <= limit {
                    let frame = Frame::data(Bytes::copy_from_slice(&piece));
                    if sender.send(Piece::Frame(frame)).await.is_err() {
                        break true;
                    }
                    continue;
                }
                Fault::limit(Limit::ResponseBody, limit)
            }
            Err(error) => broken().with_detail(error.to_string()),
        };
        let state = shared.borrow().0.clone();
        if let (Some((limit, _)), Some(host)) = (error.limit, host(&state.borrow())) {
            host.limit_hit(limit);
        }
        log::write(&mut state.borrow_mut(), Level::Error, id, error.to_string());
        let _ = sender.send(Piece::Failed(BodyError::Fault(error))).await;
        break true;
    };
    resource.close();
    let state = shared.borrow().0.clone();
    exchanges(&mut state.borrow_mut()).streamed(id, client_left);
}

fn broken() -> Fault {
    let message = "The app failed while it was streaming its response";
    Fault::new("guest_exception", Blame::Guest, 500, message)
}

/// What comes out of an isolate of a body.
pub(super) enum Piece {
    Frame(Frame<Bytes>),
    Failed(BodyError),
    /// The body is whole. A channel that closes without it was cut off.
    End,
}

/// A body that yields what is sent into its channel.
pub(super) fn body_of(receiver: mpsc::Receiver<Piece>) -> Body {
    Body::stream(ChannelBody { receiver, ended: false })
}

struct ChannelBody {
    receiver: mpsc::Receiver<Piece>,
    ended: bool,
}

impl http_body::Body for ChannelBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.receiver.poll_recv(cx));
        if let Some(Piece::Frame(frame)) = piece {
            return Poll::Ready(Some(Ok(frame)));
        }
        self.ended = true;
        Poll::Ready(match piece {
            Some(Piece::Failed(error)) => Some(Err(error)),
            Some(Piece::End | Piece::Frame(_)) => None,
            None => Some(Err(BodyError::Fault(broken()))),
        })
    }
}

/// The handler threw, or returned what cannot be sent.
#[op2(fast)]
pub fn op_verge_fail(
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[string] limit_code: &str,
    #[string] text: &str,
) {
    let limit = Limit::ALL
        .iter()
        .copied()
        .find(|limit| limit.spec().code == limit_code)
        .or_else(|| refused_buffer(state, text));
    let fault = match (limit, host(state)) {
        (Some(limit), Some(host)) => Fault::limit(limit, host.limits.get(limit)),
        _ if limit_code == DATABASE_UNAVAILABLE => Fault::new(
            DATABASE_UNAVAILABLE,
            Blame::Platform,
            503,
            "The app's database cannot answer at the moment",
        )
        .with_retry_after(1),
        _ => Fault::new("guest_exception", Blame::Guest, 500, "The app threw an exception"),
    };
    let fault = fault.with_detail(stack::of_the_app(text));
    log::write(state, Level::Error, id, text.to_owned());
    if !pass_through(state, id) {
        exchanges(state).fail(id, fault);
    }
}

/// What js/runtime/app.js says of a request that failed for want of a database.
const DATABASE_UNAVAILABLE: &str = "database_unavailable";

/// The failure of an allocation that our own budget refused is that limit's, not the app's.
fn refused_buffer(state: &OpState, text: &str) -> Option<Limit> {
    let failed = text.contains("RangeError: Array buffer allocation failed")
        || text.contains("could not allocate memory");
    let refused = state.try_borrow::<RefusedBuffers>()?.0.load(Ordering::Relaxed) > 0;
    (failed && refused).then_some(Limit::ExternalMemory)
}

/// Lets what stands behind the app answer in its place, if the app asked for that and there
/// is such a thing. The body is not passed on: the app may have read it.
fn pass_through(state: &mut OpState, id: ExchangeId) -> bool {
    let fallback = host(state).and_then(|host| host.fallback.clone());
    let Some(exchange) = exchanges(state).get(id).filter(|exchange| exchange.pass_through) else {
        return false;
    };
    let Some(fallback) = fallback else {
        let text = "passThroughOnException(): the app has no assets to pass to".to_owned();
        log::write(state, Level::Warn, id, text);
        return false;
    };
    let mut request = http::Request::new(Body::Empty);
    *request.method_mut() = exchange.parts.method.clone();
    *request.uri_mut() = exchange.parts.uri.clone();
    *request.headers_mut() = exchange.parts.headers.clone();
    let cx = exchange.cx.clone();
    let shared = state.borrow::<Rc<RefCell<SharedState>>>().clone();
    deno_core::unsync::spawn(async move {
        let answer = fallback.call(request, cx).await;
        let state = shared.borrow().0.clone();
        let mut state = state.borrow_mut();
        match answer {
            Ok(response) => drop(exchanges(&mut state).respond(id, response, false)),
            Err(fault) => drop(exchanges(&mut state).fail(id, fault)),
        }
    });
    true
}

/// A scheduled event or an RPC call is over.
#[op2(fast)]
pub fn op_verge_event_done(state: &mut OpState, #[smi] id: ExchangeId, #[buffer] bytes: &[u8]) {
    exchanges(state).event_done(id, bytes.to_vec());
}

#[op2(fast)]
pub fn op_verge_hold(state: &mut OpState, #[smi] id: ExchangeId) {
    exchanges(state).hold(id);
}

#[op2(fast)]
pub fn op_verge_release(state: &mut OpState, #[smi] id: ExchangeId) {
    exchanges(state).release(id);
}

#[op2(fast)]
pub fn op_verge_pass_through(state: &mut OpState, #[smi] id: ExchangeId) {
    if let Some(exchange) = exchanges(state).get_mut(id) {
        exchange.pass_through = true;
    }
}
