//! The server's side of a WebSocket. Frames, pings and the handshake are the gateway's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use deno_core::{AsyncRefCell, OpState, RcRef, Resource, ResourceId, op2, v8};
use http::{Response, StatusCode};
use tokio::sync::mpsc;
use verge_types::{Body, WEBSOCKET_QUEUE, WebSocketAccept, WebSocketMessage};

use super::respond::header_map;
use super::{OpError, exchanges};
use crate::ExchangeId;

/// Bytes that may wait for a client that reads slowly before its socket is closed with 1013.
const MAX_BUFFERED: usize = 16 * 1024 * 1024;

struct Socket {
    exchange: ExchangeId,
    incoming: AsyncRefCell<mpsc::Receiver<WebSocketMessage>>,
    outgoing: mpsc::UnboundedSender<WebSocketMessage>,
    buffered: Rc<Cell<usize>>,
}

impl Resource for Socket {
    fn name(&self) -> std::borrow::Cow<'_, str> {
        "webSocket".into()
    }
}

/// Answers 101 and gives the socket's resource.
#[op2]
#[smi]
pub fn op_verge_ws_accept(
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[serde] headers: Vec<deno_core::ByteString>,
) -> Result<ResourceId, OpError> {
    let (to_app, incoming) = mpsc::channel(WEBSOCKET_QUEUE);
    let (to_client, from_app) = mpsc::channel(WEBSOCKET_QUEUE);
    let (outgoing, mut queued) = mpsc::unbounded_channel::<WebSocketMessage>();
    let buffered = Rc::new(Cell::new(0usize));

    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = header_map(headers)?;
    response.extensions_mut().insert(WebSocketAccept::new(to_app, from_app));
    exchanges(state).hold(id);
    exchanges(state).respond(id, response, false);

    let waiting = buffered.clone();
    deno_core::unsync::spawn(async move {
        while let Some(message) = queued.recv().await {
            let size = size_of(&message);
            if to_client.send(message).await.is_err() {
                break;
            }
            waiting.set(waiting.get().saturating_sub(size));
        }
    });
    Ok(state.resource_table.add(Socket {
        exchange: id,
        incoming: AsyncRefCell::new(incoming),
        outgoing,
        buffered,
    }))
}

fn size_of(message: &WebSocketMessage) -> usize {
    match message {
        WebSocketMessage::Text(text) => text.len(),
        WebSocketMessage::Binary(bytes) => bytes.len(),
        WebSocketMessage::Close { .. } => 0,
    }
}

/// Sends a string or bytes. False when the socket is gone or was closed for reading too slowly.
#[op2(fast)]
pub fn op_verge_ws_send<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: &mut OpState,
    #[smi] rid: ResourceId,
    data: v8::Local<'s, v8::Value>,
) -> Result<bool, OpError> {
    let Ok(socket) = state.resource_table.get::<Socket>(rid) else { return Ok(false) };
    let message = if let Ok(view) = v8::Local::<v8::ArrayBufferView>::try_from(data) {
        let mut bytes = vec![0; view.byte_length()];
        view.copy_contents(&mut bytes);
        WebSocketMessage::Binary(Bytes::from(bytes))
    } else {
        WebSocketMessage::Text(data.to_rust_string_lossy(scope))
    };
    let buffered = socket.buffered.get() + size_of(&message);
    if buffered > MAX_BUFFERED {
        let reason = "the client reads too slowly".to_owned();
        let _ = socket.outgoing.send(WebSocketMessage::Close { code: 1013, reason });
        let _ = state.resource_table.take::<Socket>(rid);
        return Ok(false);
    }
    socket.buffered.set(buffered);
    Ok(socket.outgoing.send(message).is_ok())
}

#[op2(fast)]
pub fn op_verge_ws_close(
    state: &mut OpState,
    #[smi] rid: ResourceId,
    #[smi] code: u16,
    #[string] reason: String,
) {
    if let Ok(socket) = state.resource_table.get::<Socket>(rid) {
        let _ = socket.outgoing.send(WebSocketMessage::Close { code, reason });
    }
}

/// A string, a `Uint8Array`, `[code, reason]` for a close, or `null` when the client vanished.
pub enum Next {
    Text(String),
    Binary(Bytes),
    Close(u16, String),
    Gone,
}

impl<'a> deno_core::ToV8<'a> for Next {
    type Error = std::convert::Infallible;

    fn to_v8<'i>(
        self,
        scope: &mut v8::PinScope<'a, 'i>,
    ) -> Result<v8::Local<'a, v8::Value>, Self::Error> {
        let string = |scope: &mut v8::PinScope<'a, 'i>, text: &str| {
            v8::String::new(scope, text).unwrap_or_else(|| v8::String::empty(scope))
        };
        Ok(match self {
            Self::Text(text) => string(scope, &text).into(),
            Self::Binary(bytes) => {
                let len = bytes.len();
                let store =
                    v8::ArrayBuffer::new_backing_store_from_vec(bytes.to_vec()).make_shared();
                let buffer = v8::ArrayBuffer::with_backing_store(scope, &store);
                match v8::Uint8Array::new(scope, buffer, 0, len) {
                    Some(array) => array.into(),
                    None => v8::null(scope).into(),
                }
            }
            Self::Close(code, reason) => {
                let code = v8::Integer::new(scope, i32::from(code)).into();
                let reason = string(scope, &reason).into();
                v8::Array::new_with_elements(scope, &[code, reason]).into()
            }
            Self::Gone => v8::null(scope).into(),
        })
    }
}

/// Waits for the client's next message.
#[op2]
pub async fn op_verge_ws_next(state: Rc<RefCell<OpState>>, #[smi] rid: ResourceId) -> Next {
    let Ok(socket) = state.borrow().resource_table.get::<Socket>(rid) else { return Next::Gone };
    let message = RcRef::map(&socket, |s| &s.incoming).borrow_mut().await.recv().await;
    let next = match message {
        Some(WebSocketMessage::Text(text)) => return Next::Text(text),
        Some(WebSocketMessage::Binary(bytes)) => return Next::Binary(bytes),
        Some(WebSocketMessage::Close { code, reason }) => Next::Close(code, reason),
        None => Next::Gone,
    };
    let mut state = state.borrow_mut();
    exchanges(&mut state).release(socket.exchange);
    let _ = state.resource_table.take::<Socket>(rid);
    next
}
