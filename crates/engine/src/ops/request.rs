//! Reading a request. Strings cross into V8 only when the app asks for them.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use deno_core::{AsyncRefCell, AsyncResult, BufView, OpState, RcRef, Resource, ResourceId, op2};
use http_body_util::BodyExt;
use verge_types::{Body, BodyError};

use super::{OpError, exchanges};
use crate::ExchangeId;

#[op2]
#[string]
pub fn op_verge_request_method(
    state: &mut OpState,
    #[smi] id: ExchangeId,
) -> Result<String, OpError> {
    let exchange = exchanges(state).get(id).ok_or(OpError::RequestOver("its method"))?;
    Ok(exchange.parts.method.as_str().to_owned())
}

/// The absolute URL, made of what the client sent: scheme, authority, path and query.
#[op2]
#[string]
pub fn op_verge_request_url(state: &mut OpState, #[smi] id: ExchangeId) -> Result<String, OpError> {
    let exchange = exchanges(state).get(id).ok_or(OpError::RequestOver("its URL"))?;
    let uri = &exchange.parts.uri;
    let host = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => exchange
            .parts
            .headers
            .get(http::header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("localhost"),
    };
    let scheme = uri.scheme_str().unwrap_or(exchange.cx.client.scheme.as_str());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut url = String::with_capacity(scheme.len() + 3 + host.len() + path.len());
    url.push_str(scheme);
    url.push_str("://");
    url.push_str(host);
    url.push_str(path);
    Ok(url)
}

/// All headers as `[name, value, name, value, …]`; values are bytes read as Latin-1.
#[op2]
#[serde]
pub fn op_verge_request_headers(
    state: &mut OpState,
    #[smi] id: ExchangeId,
) -> Result<Vec<deno_core::ByteString>, OpError> {
    let exchange = exchanges(state).get_mut(id).ok_or(OpError::RequestOver("its headers"))?;
    let headers = exchange.headers();
    let mut flat = Vec::with_capacity(headers.len() * 2);
    for (name, value) in headers {
        flat.push(name.as_str().into());
        flat.push(value.as_bytes().into());
    }
    Ok(flat)
}

/// One header, values joined as the Fetch standard says; `null` if it is not there.
#[op2]
#[serde]
pub fn op_verge_request_header(
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[string] name: &str,
) -> Result<Option<deno_core::ByteString>, OpError> {
    let exchange = exchanges(state).get_mut(id).ok_or(OpError::RequestOver("its headers"))?;
    let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b", " };
    let mut joined: Option<Vec<u8>> = None;
    for value in exchange.headers().get_all(name) {
        match &mut joined {
            None => joined = Some(value.as_bytes().to_vec()),
            Some(all) => {
                all.extend_from_slice(separator);
                all.extend_from_slice(value.as_bytes());
            }
        }
    }
    Ok(joined.map(Into::into))
}

/// The body if it is all here already, else `null`.
#[op2]
#[buffer]
pub fn op_verge_request_body_bytes(
    state: &mut OpState,
    #[smi] id: ExchangeId,
) -> Result<Option<Vec<u8>>, OpError> {
    let exchange = exchanges(state).get_mut(id).ok_or(OpError::RequestOver("its body"))?;
    match exchange.body.take() {
        Some(Body::Full(bytes)) => Ok(Some(bytes.to_vec())),
        Some(Body::Empty) | None => Ok(Some(Vec::new())),
        stream @ Some(Body::Stream(_)) => {
            exchange.body = stream;
            Ok(None)
        }
    }
}

/// The body as a resource to be read in pieces.
#[op2(fast)]
#[smi]
pub fn op_verge_request_body_stream(
    state: &mut OpState,
    #[smi] id: ExchangeId,
) -> Result<ResourceId, OpError> {
    let exchange = exchanges(state).get_mut(id).ok_or(OpError::RequestOver("its body"))?;
    let body = exchange.body.take().unwrap_or_default();
    Ok(state.resource_table.add(BodyResource::new(body)))
}

/// Resolves to true when the client leaves before its answer is whole, else to false.
#[op2]
pub async fn op_verge_request_cancelled(
    state: Rc<RefCell<OpState>>,
    #[smi] id: ExchangeId,
) -> bool {
    let cancelled = match exchanges(&mut state.borrow_mut()).get(id) {
        Some(exchange) => exchange.cancelled.clone(),
        None => return false,
    };
    cancelled.settled().await
}

/// `request.cf` as JSON.
#[op2]
#[string]
pub fn op_verge_request_cf(state: &mut OpState, #[smi] id: ExchangeId) -> Result<String, OpError> {
    let exchange = exchanges(state).get(id).ok_or(OpError::RequestOver("its properties"))?;
    let (geo, client) = (&exchange.cx.geo, &exchange.cx.client);
    let mut cf = match deno_core::serde_json::to_value(&**geo) {
        Ok(deno_core::serde_json::Value::Object(map)) => map,
        _ => deno_core::serde_json::Map::new(),
    };
    // Unknown is absent in Workers, not an empty string.
    cf.retain(|_, value| value.as_str() != Some("") && value.as_u64() != Some(0));
    cf.insert("httpProtocol".into(), client.http_protocol.into());
    cf.insert("tlsVersion".into(), client.tls_version.into());
    cf.insert("tlsCipher".into(), client.tls_cipher.into());
    Ok(deno_core::serde_json::Value::Object(cf).to_string())
}

/// `[address, port]` of the client.
#[op2]
#[serde]
pub fn op_verge_remote_addr(
    state: &mut OpState,
    #[smi] id: ExchangeId,
) -> Result<(String, u16), OpError> {
    let exchange = exchanges(state).get(id).ok_or(OpError::RequestOver("its address"))?;
    let addr = exchange.cx.client.addr;
    Ok((addr.ip().to_string(), addr.port()))
}

/// A body that JS reads piece by piece; not polled before it is asked for, which is what
/// holds back a fast sender.
pub struct BodyResource {
    reader: AsyncRefCell<BodyReader>,
}

struct BodyReader {
    body: Body,
    rest: Bytes,
}

impl BodyResource {
    pub fn new(body: Body) -> Self {
        Self { reader: AsyncRefCell::new(BodyReader { body, rest: Bytes::new() }) }
    }
}

#[derive(Debug, thiserror::Error, deno_error::JsError)]
#[class(type)]
#[error("{0}")]
struct BodyReadError(String);

impl BodyReader {
    async fn read(&mut self, limit: usize) -> Result<BufView, BodyReadError> {
        while self.rest.is_empty() {
            match self.body.frame().await {
                None => return Ok(BufView::empty()),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest = data;
                    }
                }
                Some(Err(BodyError::Fault(fault))) => return Err(BodyReadError(fault.message)),
                Some(Err(error @ BodyError::Transport(_))) => {
                    return Err(BodyReadError(error.to_string()));
                }
            }
        }
        let take = limit.min(self.rest.remaining());
        let piece = self.rest.split_to(take);
        // A view over shared bytes would be copied by V8 anyway; hand over an owned buffer.
        Ok(BufView::from(BytesMut::from(piece.as_ref()).to_vec()))
    }
}

impl Resource for BodyResource {
    fn name(&self) -> std::borrow::Cow<'_, str> {
        "body".into()
    }

    fn read(self: Rc<Self>, limit: usize) -> AsyncResult<BufView> {
        Box::pin(async move {
            let mut reader = RcRef::map(&self, |r| &r.reader).borrow_mut().await;
            reader.read(limit).await.map_err(deno_error::JsErrorBox::from_err)
        })
    }
}
