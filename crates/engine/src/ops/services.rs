//! Service bindings and the count of subrequests.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use deno_core::{JsBuffer, OpState, ResourceId, ToJsBuffer, op2};
use http::Request;
use tokio::sync::mpsc;
use verge_types::{Body, Limit, RequestContext};

use super::request::BodyResource;
use super::respond::{Piece, header_map};
use super::{OpError, exchanges, host};
use crate::host::{Callee, RpcCall};
use crate::{ExchangeId, Host};

/// Counts one subrequest of exchange `id`; outside a request there is nothing to count.
#[op2(fast)]
pub fn op_verge_subrequest(state: &mut OpState, #[smi] id: ExchangeId) -> Result<(), OpError> {
    let limit = host(state).map_or(u64::MAX, |host| host.limits.subrequests);
    let Some(exchange) = exchanges(state).get_mut(id) else { return Ok(()) };
    exchange.subrequests += 1;
    let count = exchange.subrequests;
    if count > limit {
        // Once a request, however often it tries again.
        if count == limit + 1
            && let Some(host) = host(state)
        {
            host.limit_hit(Limit::Subrequests);
        }
        return Err(OpError::limit(Limit::Subrequests, limit));
    }
    Ok(())
}

fn callee(
    state: &mut OpState,
    id: ExchangeId,
    binding: &str,
) -> Result<(Arc<dyn Callee>, RequestContext), OpError> {
    let cx = exchanges(state).get(id).map(|exchange| exchange.cx.clone()).ok_or_else(|| {
        OpError::Service(format!(
            "env.{binding} was called outside a request; call it from a handler"
        ))
    })?;
    let callee = host(state)
        .and_then(|host: &Arc<Host>| host.services.get(binding).cloned())
        .ok_or_else(|| OpError::Service(format!("env.{binding} leads nowhere")))?;
    Ok((callee, cx))
}

/// `[status, flat headers, body resource or null]`.
#[op2]
#[serde]
#[allow(clippy::too_many_arguments, reason = "one argument a part of the request")]
pub async fn op_verge_service_fetch(
    state: Rc<RefCell<OpState>>,
    #[smi] id: ExchangeId,
    #[string] binding: String,
    #[string] method: String,
    #[string] url: String,
    #[serde] headers: Vec<deno_core::ByteString>,
    #[buffer] bytes: Option<JsBuffer>,
    #[smi] rid: Option<ResourceId>,
) -> Result<(u16, Vec<deno_core::ByteString>, Option<ResourceId>), OpError> {
    let (callee, cx) = callee(&mut state.borrow_mut(), id, &binding)?;
    let body = match (bytes, rid) {
        (Some(bytes), _) => Body::from(Bytes::copy_from_slice(&bytes)),
        (None, Some(rid)) => stream_of(&mut state.borrow_mut(), rid)?,
        (None, None) => Body::Empty,
    };
    let mut request = Request::builder()
        .method(method.as_str())
        .uri(url.as_str())
        .body(body)
        .map_err(|error| OpError::Type(format!("env.{binding}.fetch(): {error}")))?;
    *request.headers_mut() = header_map(headers)?;
    let response = callee
        .fetch(request, cx)
        .await
        .map_err(|fault| OpError::Service(format!("env.{binding}.fetch(): {}", fault.message)))?;
    let (parts, body) = response.into_parts();
    let mut flat = Vec::with_capacity(parts.headers.len() * 2);
    for (name, value) in &parts.headers {
        flat.push(name.as_str().into());
        flat.push(value.as_bytes().into());
    }
    let rid =
        (!body.is_empty()).then(|| state.borrow_mut().resource_table.add(BodyResource::new(body)));
    Ok((parts.status.as_u16(), flat, rid))
}

/// A JS stream as a body another isolate can read.
fn stream_of(state: &mut OpState, rid: ResourceId) -> Result<Body, OpError> {
    let resource = state.resource_table.take_any(rid)?;
    let (sender, receiver) = mpsc::channel(4);
    deno_core::unsync::spawn(async move {
        loop {
            let piece = tokio::select! {
                biased;
                () = sender.closed() => break,
                piece = resource.clone().read(64 * 1024) => piece,
            };
            let piece = match piece {
                Ok(piece) if piece.is_empty() => Piece::End,
                Ok(piece) => Piece::Frame(http_body::Frame::data(Bytes::copy_from_slice(&piece))),
                Err(error) => {
                    Piece::Failed(verge_types::BodyError::Transport(error.to_string().into()))
                }
            };
            let more = matches!(piece, Piece::Frame(_));
            if sender.send(piece).await.is_err() || !more {
                break;
            }
        }
        resource.close();
    });
    Ok(super::respond::body_of(receiver))
}

/// Calls a method of the bound app's entrypoint; arguments and reply are structured clones.
#[op2]
#[serde]
pub async fn op_verge_service_rpc(
    state: Rc<RefCell<OpState>>,
    #[smi] id: ExchangeId,
    #[string] binding: String,
    #[string] method: String,
    #[buffer(copy)] args: Vec<u8>,
) -> Result<ToJsBuffer, OpError> {
    let (callee, cx) = callee(&mut state.borrow_mut(), id, &binding)?;
    let label = format!("env.{binding}.{method}()");
    let reply = callee
        .call(RpcCall { method, args }, cx)
        .await
        .map_err(|fault| OpError::Service(format!("{label}: {}", fault.message)))?;
    Ok(reply.into())
}
