//! Answering a request: from an app's values to a [`Response`].

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use deno_core::{OpState, Resource, ResourceId, op2};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc;
use verge_telemetry::Level;
use verge_types::{Blame, Body, BodyError, Fault, Limit};

use super::{OpError, exchanges, host, log};
use crate::{ExchangeId, stack};

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
    let mut headers = HeaderMap::new();
    match content_type {
        "" => {}
        "text/plain;charset=UTF-8" => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=UTF-8"));
        }
        other => {
            let value = HeaderValue::from_str(other)
                .map_err(|_| OpError::HeaderValue("content-type".to_owned()))?;
            headers.insert(CONTENT_TYPE, value);
        }
    }
    let response = response(status, headers, body.into())?;
    exchanges(state).respond(id, response, false);
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
    if exchanges(state).respond(id, response, true) {
        let limit = host(state).map_or(u64::MAX, |host| host.limits.response_body);
        let shared = state.borrow::<Rc<RefCell<SharedState>>>().clone();
        deno_core::unsync::spawn(pump(shared, id, resource, sender, limit));
    } else {
        resource.close();
    }
    Ok(())
}

/// A way back to the `OpState` for tasks that outlive the op that started them.
pub struct SharedState(pub Rc<RefCell<OpState>>);

async fn pump(
    shared: Rc<RefCell<SharedState>>,
    id: ExchangeId,
    resource: Rc<dyn Resource>,
    sender: mpsc::Sender<Result<Frame<Bytes>, BodyError>>,
    limit: u64,
) {
    let mut sent = 0u64;
    let cancelled = loop {
        let piece = tokio::select! {
            biased;
            () = sender.closed() => break true,
            piece = resource.clone().read(READ_SIZE) => piece,
        };
        let error = match piece {
            Ok(piece) if piece.is_empty() => break false,
            Ok(piece) => {
                sent += piece.len() as u64;
                if sent <= limit {
                    let frame = Frame::data(Bytes::copy_from_slice(&piece));
                    if sender.send(Ok(frame)).await.is_err() {
                        break true;
                    }
                    continue;
                }
                Fault::limit(Limit::ResponseBody, limit)
            }
            Err(error) => Fault::new(
                "guest_exception",
                Blame::Guest,
                500,
                "The app failed while it was streaming its response",
            )
            .with_detail(error.to_string()),
        };
        let state = shared.borrow().0.clone();
        log::write(&mut state.borrow_mut(), Level::Error, id, error.to_string());
        // The head is out, so the only honest end is an aborted connection.
        let _ = sender.send(Err(BodyError::Fault(error))).await;
        break true;
    };
    resource.close();
    let state = shared.borrow().0.clone();
    exchanges(&mut state.borrow_mut()).streamed(id, cancelled);
}

/// A body that yields what is sent into its channel.
pub(super) fn body_of(receiver: mpsc::Receiver<Result<Frame<Bytes>, BodyError>>) -> Body {
    Body::stream(ChannelBody { receiver })
}

struct ChannelBody {
    receiver: mpsc::Receiver<Result<Frame<Bytes>, BodyError>>,
}

impl http_body::Body for ChannelBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.receiver.poll_recv(cx)
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
    let limit = Limit::ALL.iter().copied().find(|limit| limit.spec().code == limit_code);
    let fault = match (limit, host(state)) {
        (Some(limit), Some(host)) => Fault::limit(limit, host.limits.get(limit)),
        _ => Fault::new("guest_exception", Blame::Guest, 500, "The app threw an exception"),
    };
    let fault = fault.with_detail(stack::of_the_app(text));
    log::write(state, Level::Error, id, text.to_owned());
    if !pass_through(state, id) {
        exchanges(state).fail(id, fault);
    }
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
