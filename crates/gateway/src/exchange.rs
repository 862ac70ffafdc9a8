//! One request: checked, routed, handed to its service, its answer made fit for the wire.
//!
//! Nothing here allocates per request beyond what the service contract itself asks for; no
//! timer is armed. The wall limit is enforced by whoever polls (`http1`, `http2`), which
//! wakes this future when the deadline in the vitals is over.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use verge_types::{
    Body, BoxFuture, Fault, Limit, RequestContext, RequestId, Routed, Scheme, Session,
    TraceContext, WebSocketAccept,
};

use crate::body::{RequestBody, ResponseBody};
use crate::connection::Connection;
use crate::finish::{Finish, LogLine};
use crate::handshake::Offer;
use crate::headers::{self, Survey, TRACEPARENT, X_REQUEST_ID};
use crate::respond::{self, faults};
use crate::session::ClientSession;
use crate::vitals::Vitals;
use crate::{host, ids, trace, websocket};

type Answer = Result<Response<Body>, Fault>;

enum State {
    Running(BoxFuture<Answer>),
    Answered(Answer),
    Done,
}

/// The future of one response.
pub struct Exchange {
    state: State,
    finish: Option<Finish>,
    offer: Option<Box<Offer>>,
    session: Option<Box<ClientSession>>,
    max_wall_ms: u64,
    hearsay: Option<(Option<IpAddr>, Option<Scheme>)>,
    head: bool,
    json: bool,
}

impl Exchange {
    pub fn begin(
        connection: Arc<Connection>,
        vitals: Arc<Vitals>,
        mut request: Request<Incoming>,
    ) -> Self {
        let start = Instant::now();
        let id = RequestId(ids::next());
        let survey = headers::survey(request.headers());
        let trace = trace::context(request.headers(), &survey);
        let log = connection.logs().then(|| {
            let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
            Box::new(LogLine::new(trace, request.method().clone(), path.to_owned()))
        });
        vitals.begin();
        let mut finish = Finish::new(Arc::clone(&connection), vitals, start, id, log);
        let mut exchange = Self {
            state: State::Done,
            finish: None,
            offer: None,
            session: None,
            max_wall_ms: 0,
            hearsay: None,
            head: request.method() == Method::HEAD,
            json: false,
        };
        match exchange.admit(&connection, &mut finish, &mut request, &survey) {
            Ok(routed) => {
                exchange.max_wall_ms = routed.max_wall_ms;
                let hearsay = exchange.hearsay;
                let session = exchange.session.as_ref().map(|s| s.session()).unwrap_or_default();
                let about = About { trace, traced: survey.traceparent, hearsay, session };
                exchange.state = call(&connection, &finish, &routed, request, about);
            }
            Err(fault) => {
                exchange.json = respond::prefers_json(request.headers());
                exchange.state = State::Answered(Err(fault));
            }
        }
        exchange.finish = Some(finish);
        exchange
    }

    /// All checks before the service is asked.
    fn admit(
        &mut self,
        connection: &Arc<Connection>,
        finish: &mut Finish,
        request: &mut Request<Incoming>,
        survey: &Survey,
    ) -> Result<Routed, Fault> {
        let routed = route(connection, request, survey.hosts);
        if survey.upgrade || request.extensions().get::<hyper::ext::Protocol>().is_some() {
            self.offer = Offer::take(request)?.map(Box::new);
        } else if request.method() == Method::CONNECT || request.method() == Method::TRACE {
            return Err(faults::method());
        }
        let routed = routed?;
        finish.app(&routed.app, connection.requests_of(Some(&routed.app)));
        if survey.expect
            && !headers::has_token(request.headers(), &http::header::EXPECT, "100-continue")
        {
            return Err(faults::expectation());
        }
        if request.headers().len() > connection.config().max_headers {
            return Err(faults::headers_too_large());
        }
        let uri = request.uri();
        if !uri.path().starts_with('/') {
            return Err(faults::bad_request("The request target is no path"));
        }
        let length = uri.path_and_query().map_or(0, |p| p.as_str().len());
        if length > connection.config().max_uri_bytes {
            return Err(faults::uri_too_long());
        }
        if request.body().size_hint().lower() > routed.max_request_body {
            finish.limit_hit(Limit::RequestBody);
            return Err(Fault::limit(Limit::RequestBody, routed.max_request_body));
        }
        to_origin_form(request);
        self.json = survey.accept && respond::prefers_json(request.headers());
        self.hearsay = connection.hearsay(request.headers());
        let told = self.hearsay.and_then(|(_, scheme)| scheme);
        self.session = ClientSession::open(
            &routed,
            request.headers_mut(),
            survey,
            told.unwrap_or_else(|| connection.scheme()),
            &connection.config().metrics,
        )?;
        headers::strip(request.headers_mut(), survey);
        Ok(routed)
    }

    fn answer(&mut self, answer: Answer) -> Response<ResponseBody> {
        let Some(mut finish) = self.finish.take() else {
            // Polled after the end, which hyper does not do.
            unreachable!("an exchange answers once")
        };
        let offer = self.offer.take();
        let mut response = match answer.and_then(|response| self.fit(response, offer, &mut finish))
        {
            Ok(response) => response,
            Err(fault) => self.fault(fault, &mut finish),
        };
        let session = self.session.take();
        let late = session.and_then(|session| session.close(&mut response, self.head));
        let connection = finish.connection();
        if !connection.is_http2()
            && (connection.draining() || finish.vitals().wants_close())
            && response.status() != StatusCode::SWITCHING_PROTOCOLS
        {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(X_REQUEST_ID, ids::header_value(finish.id));
        let status = response.status();
        finish.status(status.as_u16());
        finish.vitals().respond(status == StatusCode::SWITCHING_PROTOCOLS);
        response.map(|body| {
            let body = if self.head { Body::Empty } else { body };
            if body.is_empty() {
                finish.complete();
            }
            ResponseBody::new(body, late, finish)
        })
    }

    fn fault(&self, mut fault: Fault, finish: &mut Finish) -> Response<Body> {
        if finish.vitals().is_over_body_limit() {
            finish.limit_hit(Limit::RequestBody);
            // The app failed over the cut body; what matters is why it was cut.
            let limit = finish.vitals().body_limit();
            fault = Fault::limit(Limit::RequestBody, limit).with_detail(fault.to_string());
        }
        if fault.code == "bad_request" || fault.code == Limit::RequestBody.spec().code {
            finish.vitals().want_close();
        }
        finish.failed(&fault);
        let mut response = respond::page(&fault, finish.id, self.json);
        if self.head {
            keep_length(&mut response);
        }
        response
    }

    /// Checks and cleans what the service answered.
    fn fit(
        &self,
        mut response: Response<Body>,
        offer: Option<Box<Offer>>,
        finish: &mut Finish,
    ) -> Result<Response<Body>, Fault> {
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let accept = response.extensions_mut().remove::<WebSocketAccept>();
            let max_message = accept.as_ref().and_then(WebSocketAccept::max_message);
            let ends = accept
                .and_then(|accept| accept.take())
                .ok_or_else(|| faults::bad_response("101 without an accepted WebSocket"))?;
            let offer = offer
                .ok_or_else(|| faults::bad_response("101 to a request that was no WebSocket's"))?;
            headers::sanitize_response(response.headers_mut(), Some(0));
            let connection = finish.connection();
            return Ok(websocket::accept(connection, *offer, response, ends, max_message));
        }
        if status.is_informational() {
            return Err(faults::bad_response("a 1xx status is no answer"));
        }
        let without_body = status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
            || status == StatusCode::RESET_CONTENT;
        if without_body {
            *response.body_mut() = Body::Empty;
            if status != StatusCode::NOT_MODIFIED {
                response.headers_mut().remove(CONTENT_LENGTH);
            }
        }
        let exact = match response.body() {
            Body::Empty if self.head || without_body => None,
            body => body.size_hint().exact(),
        };
        if !headers::sanitize_response(response.headers_mut(), exact) {
            return Err(faults::bad_response("its content-length is no single number"));
        }
        if self.head {
            keep_length(&mut response);
        }
        Ok(response)
    }
}

/// The answer to HEAD tells the length of the body that it does not carry.
fn keep_length(response: &mut Response<Body>) {
    if let Some(length) = response.body().size_hint().exact().filter(|length| *length > 0) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The app that the request's host leads to.
fn route(
    connection: &Connection,
    request: &Request<Incoming>,
    hosts: usize,
) -> Result<Routed, Fault> {
    let given = request.headers().get(HOST).map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(|a| a.as_str().as_bytes());
    let named = match (given, authority) {
        _ if hosts > 1 => return Err(faults::bad_request("There is more than one Host header")),
        (None, Some(authority)) if request.version() == Version::HTTP_2 => authority,
        (None, _) => return Err(faults::bad_request("There is no Host header")),
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            return Err(faults::bad_request("The target and the Host header name different hosts"));
        }
        (Some(host), _) => host,
    };
    let host = host::normalize(named)
        .ok_or_else(|| faults::bad_request("The Host header holds no host name"))?;
    connection.route(&host, request.uri().path()).ok_or_else(faults::unknown_host)
}

/// The service sees path and query as target and the authority as `host`, on every protocol.
fn to_origin_form(request: &mut Request<Incoming>) {
    if request.uri().authority().is_none() {
        return;
    }
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = &parts.authority
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, value);
    }
    let path = parts.path_and_query;
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
}

/// What is known of a request beside its bytes and its connection.
struct About {
    trace: TraceContext,
    /// The caller sent a trace.
    traced: bool,
    hearsay: Option<(Option<IpAddr>, Option<Scheme>)>,
    session: Session,
}

/// Hands the request over. A panic of the service is a fault, not the connection's end.
fn call(
    connection: &Arc<Connection>,
    finish: &Finish,
    routed: &Routed,
    mut request: Request<Incoming>,
    About { trace, traced, hearsay, session }: About,
) -> State {
    let vitals = finish.vitals();
    if routed.max_wall_ms > 0 {
        let wall = Duration::from_millis(routed.max_wall_ms);
        vitals.set_wall(finish.start().checked_add(wall));
    }
    vitals.set_body_limit(routed.max_request_body);
    let client = connection.client_of(hearsay);
    if traced && let Ok(value) = HeaderValue::try_from(trace.traceparent()) {
        request.headers_mut().insert(TRACEPARENT, value);
    }
    let request = request.map(|incoming| {
        if incoming.is_end_stream() {
            Body::Empty
        } else {
            let limit = routed.max_request_body;
            let progress = connection.progress();
            Body::stream(RequestBody::new(incoming, limit, Arc::clone(vitals), progress))
        }
    });
    let cx = RequestContext { id: finish.id, client, geo: connection.geo(), trace, session };
    match catch_unwind(AssertUnwindSafe(|| routed.service.call(request, cx))) {
        Ok(future) => State::Running(future),
        Err(panic) => State::Answered(Err(panicked(&*panic))),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Fault {
    let said = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    faults::internal(format!("the service panicked: {said}"))
}

impl Future for Exchange {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = match &mut this.state {
            State::Running(future) => {
                match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(Poll::Ready(answer)) => answer,
                    Err(panic) => Err(panicked(&*panic)),
                    Ok(Poll::Pending) => {
                        let vitals = this.finish.as_ref().map(Finish::vitals);
                        if !vitals.is_some_and(|vitals| vitals.wall_is_over()) {
                            return Poll::Pending;
                        }
                        if let Some(finish) = &this.finish {
                            finish.limit_hit(Limit::WallTime);
                        }
                        Err(Fault::limit(Limit::WallTime, this.max_wall_ms))
                    }
                }
            }
            State::Answered(_) => match std::mem::replace(&mut this.state, State::Done) {
                State::Answered(answer) => answer,
                _ => return Poll::Pending,
            },
            State::Done => return Poll::Pending,
        };
        this.state = State::Done;
        Poll::Ready(Ok(this.answer(answer)))
    }
}
