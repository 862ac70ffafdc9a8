//! One database's Hrana service: sorts requests by their path and answers errors.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::mpsc;
use verge_types::{
    Blame, Body, BoxFuture, Fault, RequestContext, Service, WEBSOCKET_QUEUE, WebSocketAccept,
};

use crate::baton::Batons;
use crate::http::{HttpStreams, answer_cursor, answer_pipeline};
use crate::session::page;
use crate::{Access, Backend, Encoding, Error, Limits, Tokens, codes, websocket};

/// What a service is told at its making.
#[derive(Clone, Debug)]
pub struct HranaConfig {
    /// The database's name: batons of one are not good for another.
    pub database: String,
    /// Signs batons. The same on nodes that share streams (none do); random bytes otherwise.
    pub node_key: [u8; 32],
    /// The path the service is mounted at, without a slash at its end: empty for the root.
    pub mount: String,
    /// Where clients shall send a stream's further requests, an absolute URL that ends in `/`:
    /// this very node, if the first request may have come through another.
    pub base_url: Option<String>,
    pub limits: Limits,
}

impl HranaConfig {
    /// Mounted at the root, with default limits.
    pub fn new(database: impl Into<String>, node_key: [u8; 32]) -> Self {
        Self {
            database: database.into(),
            node_key,
            mount: String::new(),
            base_url: None,
            limits: Limits::default(),
        }
    }
}

/// Answers Hrana requests for one database.
///
/// Paths below the mount: `GET v2`, `v3`, `v3-protobuf`; `POST v2/pipeline`, `v3/pipeline`,
/// `v3/cursor`, `v3-protobuf/pipeline`, `v3-protobuf/cursor`; WebSocket at any of the others.
///
/// A request with an `Origin` header comes from a page in a browser; without a token it is
/// refused even if [`Tokens`] would let it in, since any page can reach a database on its
/// visitor's own machine.
pub struct HranaService {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub backend: Arc<dyn Backend>,
    pub tokens: Arc<dyn Tokens>,
    pub limits: Arc<Limits>,
    pub batons: Batons,
    pub base_url: Option<String>,
    pub streams: Arc<HttpStreams>,
    mount: String,
}

impl HranaService {
    pub fn new(backend: Arc<dyn Backend>, tokens: Arc<dyn Tokens>, config: HranaConfig) -> Self {
        let limits = Arc::new(config.limits);
        let shared = Shared {
            backend,
            tokens,
            streams: HttpStreams::new(limits.http_streams),
            limits,
            batons: Batons::new(config.node_key, config.database),
            base_url: config.base_url,
            mount: config.mount,
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Service for HranaService {
    fn call(
        &self,
        request: Request<Body>,
        _: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match answer(shared, request).await {
                Ok(response) => Ok(response),
                Err(Failure::Told(error)) => Ok(told(&error)),
                Err(Failure::Fault(fault)) => Err(fault),
            }
        })
    }
}

/// Why a request has no answer of its own.
pub(crate) enum Failure {
    /// The client is told in the protocol's terms.
    Told(Error),
    /// The listener's business: a body that broke off.
    Fault(Fault),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Body>) -> Result<Response<Body>, Failure> {
    let path = request.uri().path();
    let below = path.strip_prefix(shared.mount.as_str());
    let Some(below) = below.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
        return Ok(plain(StatusCode::NOT_FOUND, "not found"));
    };
    let upgrade = request.headers().get(UPGRADE);
    if upgrade.is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Ok(accept(&shared, request.headers()));
    }
    let (encoding, cursor) = match (request.method(), below) {
        (&Method::GET | &Method::HEAD, "/v2" | "/v3" | "/v3-protobuf") => {
            return Ok(plain(StatusCode::OK, "Hrana is spoken here"));
        }
        (&Method::POST, "/v2/pipeline" | "/v3/pipeline") => (Encoding::Json, false),
        (&Method::POST, "/v3/cursor") => (Encoding::Json, true),
        (&Method::POST, "/v3-protobuf/pipeline") => (Encoding::Protobuf, false),
        (&Method::POST, "/v3-protobuf/cursor") => (Encoding::Protobuf, true),
        _ => return Ok(plain(StatusCode::NOT_FOUND, "not found")),
    };
    let access = authenticate(&*shared.tokens, request.headers())?;
    let body = read_body(request.into_body(), shared.limits.message_bytes).await?;
    if cursor {
        answer_cursor(&shared, encoding, access, &body)
    } else {
        answer_pipeline(&shared, encoding, access, &body).await
    }
}

fn authenticate(tokens: &dyn Tokens, headers: &HeaderMap) -> Result<Access, Error> {
    let Some(header) = headers.get(AUTHORIZATION) else {
        return tokens
            .verify(None)
            .map_err(|error| match &*error.code {
                codes::AUTH_MISSING => Error::caller(codes::AUTH_HEADER_MISSING, error.message),
                _ => error,
            })
            .and_then(
                |access| if headers.contains_key(ORIGIN) { Err(page()) } else { Ok(access) },
            );
    };
    let header = header.to_str().map_err(|_| {
        Error::caller(codes::AUTH_HEADER_INVALID, "the Authorization header is no text")
    })?;
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            tokens.verify(Some(token.trim()))
        }
        _ => Err(Error::caller(
            codes::AUTH_HEADER_SCHEME,
            "the Authorization header has to be `Bearer` and a token",
        )),
    }
}

async fn read_body(mut body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    use http_body_util::BodyExt as _;
    let too_large =
        || Error::caller(codes::MESSAGE_TOO_LARGE, format!("a request may have {limit} bytes"));
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::Fault(match error {
                verge_types::BodyError::Fault(fault) => fault,
                verge_types::BodyError::Transport(error) => {
                    Fault::new("body_broken", Blame::Caller, 400, "the request's body broke off")
                        .with_detail(error.to_string())
                }
            })
        })?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(too_large().into());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Accepts a WebSocket with the first subprotocol of the client's that we speak.
fn accept(shared: &Arc<Shared>, headers: &HeaderMap) -> Response<Body> {
    let mut offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    // Without a subprotocol it is version 1, whose messages are a part of version 2's.
    let none = offered.peek().is_none();
    let spoken = offered.find_map(|name| match name {
        "hrana1" | "hrana2" | "hrana3" => Some((name.to_owned(), Encoding::Json)),
        "hrana3-protobuf" => Some((name.to_owned(), Encoding::Protobuf)),
        _ => None,
    });
    let encoding = match &spoken {
        Some((_, encoding)) => *encoding,
        None if none => Encoding::Json,
        None => {
            let text =
                "none of the subprotocols is spoken here: hrana1, hrana2, hrana3, hrana3-protobuf";
            return plain(StatusCode::BAD_REQUEST, text);
        }
    };
    let (to_app, from_client) = mpsc::channel(WEBSOCKET_QUEUE);
    let (to_client, from_app) = mpsc::channel(WEBSOCKET_QUEUE);
    let parts = websocket::Parts {
        backend: Arc::clone(&shared.backend),
        tokens: Arc::clone(&shared.tokens),
        limits: Arc::clone(&shared.limits),
        encoding,
        from_page: headers.contains_key(ORIGIN),
    };
    tokio::spawn(websocket::run(parts, from_client, to_client));
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accept = WebSocketAccept::new(to_app, from_app);
    let accept = accept.with_max_message(shared.limits.message_bytes);
    response.extensions_mut().insert(accept);
    if let Some((name, _)) = spoken
        && let Ok(name) = HeaderValue::try_from(name)
    {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, name);
    }
    response
}

/// Always JSON: clients read errors of no other encoding.
fn told(error: &Error) -> Response<Body> {
    let status = match &*error.code {
        code if code.starts_with("AUTH_") => StatusCode::UNAUTHORIZED,
        codes::ORIGIN => StatusCode::FORBIDDEN,
        codes::MESSAGE_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        _ if error.retry => StatusCode::SERVICE_UNAVAILABLE,
        _ if error.blame == Blame::Caller => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut response = respond(status, Encoding::Json, Encoding::Json.write_error(error));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

pub(crate) fn respond(
    status: StatusCode,
    encoding: Encoding,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    respond_with(status, encoding.content_type(), Body::from(body.into()))
}

pub(crate) fn respond_with(
    status: StatusCode,
    content_type: &'static str,
    body: Body,
) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    respond_with(status, "text/plain", Body::from(text))
}
