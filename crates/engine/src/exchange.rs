//! Requests an isolate is working on.
//!
//! An exchange lives from its arrival until it was answered in full *and* nothing in JS holds
//! it any more (`waitUntil`, a WebSocket). Ids are never used again within an isolate, so a
//! stale id in JS finds nothing rather than somebody else's request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc, oneshot};
use verge_types::{Body, Fault, RequestContext};

/// Names an exchange within its isolate; 0 is none.
pub type ExchangeId = u32;

/// Where the answer goes.
pub enum Reply {
    Http(Answer),
    /// A scheduled event or an RPC call; the bytes are the serialized reply.
    Event(oneshot::Sender<Result<Vec<u8>, Fault>>),
}

impl Reply {
    /// True when nobody waits for the answer any more.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http(sender) => sender.is_closed(),
            Self::Event(sender) => sender.is_closed(),
        }
    }

    fn fail(self, fault: Fault) {
        // The receiver being gone is the client having left: nothing to tell.
        match self {
            Self::Http(sender) => drop(sender.send(Err(fault))),
            Self::Event(sender) => drop(sender.send(Err(fault))),
        }
    }
}

/// An HTTP answer.
pub type Answered = Result<Response<Body>, Fault>;

/// Where an HTTP answer goes.
pub type Answer = oneshot::Sender<Answered>;

/// An answer on its way out of an isolate.
pub struct Outgoing {
    answer: Answer,
    answered: Answered,
    /// Of a response with no other header, which it does not have yet.
    content_type: Option<HeaderValue>,
    /// What is left of a request that is done with.
    spent: Option<(Uri, HeaderMap)>,
}

/// Carries answers. All that one slice made leave together, so that the listener's thread is
/// woken once and not once an answer.
pub type Courier = mpsc::UnboundedSender<Vec<Outgoing>>;

/// One request or event.
pub struct Exchange {
    pub parts: Parts,
    /// The fields that tell who the client is are still to be added to the headers.
    describe_client: bool,
    /// Taken when the app first asks for it.
    pub body: Option<Body>,
    pub cx: RequestContext,
    pub started: Instant,
    /// CPU time charged so far.
    pub cpu: Duration,
    pub subrequests: u64,
    /// The app asked for whatever stands behind it to answer if it throws.
    pub pass_through: bool,
    /// Woken when the client leaves before its answer is whole.
    pub cancelled: Rc<Cancellation>,
    reply: Option<Reply>,
    /// The response body is still on its way.
    streaming: bool,
    /// `waitUntil` promises or a WebSocket.
    holds: u32,
}

/// Tells JS, once, that the client has left (true) or has its whole answer (false).
#[derive(Default)]
pub struct Cancellation {
    outcome: Cell<Option<bool>>,
    /// Why, where it was not the client's doing.
    fault: RefCell<Option<Fault>>,
    notify: Notify,
}

impl Cancellation {
    pub fn settle(&self, cancelled: bool) {
        if self.outcome.get().is_none() {
            self.outcome.set(Some(cancelled));
            self.notify.notify_waiters();
        }
    }

    /// Why the exchange was ended, told once.
    pub fn take_fault(&self) -> Option<Fault> {
        self.fault.borrow_mut().take()
    }

    pub async fn settled(&self) -> bool {
        loop {
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            self.notify.notified().await;
        }
    }
}

impl Outgoing {
    /// To be called on the listener's thread. That thread made the request's head and drops it:
    /// memory that another thread frees costs both of them a lock, and the listener cannot read
    /// on into a buffer that a head is still in. A response of a few words gets its header in
    /// the table that was the request's.
    pub fn deliver(mut self) {
        let table = self.spent.map(|(_, headers)| headers);
        if let (Some(content_type), Ok(response)) = (self.content_type, &mut self.answered) {
            let mut table = table.unwrap_or_default();
            table.clear();
            table.insert(CONTENT_TYPE, content_type);
            *response.headers_mut() = table;
        }
        // A client that left needs no answer.
        drop(self.answer.send(self.answered));
    }
}

impl Exchange {
    #[inline]
    pub fn new(parts: Parts, body: Body, cx: RequestContext, reply: Reply, now: Instant) -> Self {
        Self {
            parts,
            describe_client: false,
            body: (!body.is_empty()).then_some(body),
            cx,
            started: now,
            cpu: Duration::ZERO,
            subrequests: 0,
            pass_through: false,
            cancelled: Rc::default(),
            reply: Some(reply),
            streaming: false,
            holds: 0,
        }
    }

    /// Adds the fields that tell who the client is to the headers, once they are asked for:
    /// many an app never does.
    pub fn describe_client(&mut self) {
        self.describe_client = true;
    }

    /// The request's headers as the app sees them.
    pub fn headers(&mut self) -> &HeaderMap {
        if std::mem::take(&mut self.describe_client) {
            self.cx.client.describe(&mut self.parts.headers);
        }
        &self.parts.headers
    }

    pub fn is_answered(&self) -> bool {
        self.reply.is_none()
    }

    /// The client left before the answer began.
    pub fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(Reply::is_closed)
    }
}

/// All exchanges of an isolate.
#[derive(Default)]
pub struct Exchanges {
    next: ExchangeId,
    open: FxHashMap<ExchangeId, Exchange>,
    /// Exchanges not yet answered; what the concurrency limit counts.
    unanswered: Rc<Cell<usize>>,
    courier: Option<Courier>,
    outbox: Vec<Outgoing>,
}

impl Exchanges {
    /// Answers leave by `courier` from now on, at each [`Self::flush`].
    pub fn set_courier(&mut self, courier: Courier) {
        self.courier = Some(courier);
    }

    /// Sends what the slice has answered.
    pub fn flush(&mut self) {
        if self.outbox.is_empty() {
            return;
        }
        // The next slice is likely to answer as many.
        let room = Vec::with_capacity(self.outbox.len());
        let outbox = std::mem::replace(&mut self.outbox, room);
        let undelivered = match &self.courier {
            Some(courier) => courier.send(outbox).err().map(|error| error.0),
            None => Some(outbox),
        };
        // Without a courier each answer finds its own way.
        for outgoing in undelivered.into_iter().flatten() {
            outgoing.deliver();
        }
    }

    /// Takes in a request. Ids start at 1; after 2³² requests the isolate must be replaced.
    #[inline]
    pub fn open(&mut self, exchange: Exchange) -> Option<ExchangeId> {
        self.next = self.next.checked_add(1)?;
        self.open.insert(self.next, exchange);
        self.unanswered.set(self.unanswered.get() + 1);
        Some(self.next)
    }

    pub fn get(&self, id: ExchangeId) -> Option<&Exchange> {
        self.open.get(&id)
    }

    pub fn get_mut(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.open.get_mut(&id)
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub fn unanswered(&self) -> usize {
        self.unanswered.get()
    }

    pub fn ids(&self) -> Vec<ExchangeId> {
        self.open.keys().copied().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (ExchangeId, &Exchange)> {
        self.open.iter().map(|(id, exchange)| (*id, exchange))
    }

    fn take_reply(&mut self, id: ExchangeId) -> Option<Reply> {
        let reply = self.open.get_mut(&id)?.reply.take()?;
        self.unanswered.set(self.unanswered.get() - 1);
        Some(reply)
    }

    /// Sends the response; `streaming` keeps the exchange until [`Self::streamed`].
    /// False if it was answered before or the client left.
    pub fn respond(&mut self, id: ExchangeId, response: Response<Body>, streaming: bool) -> bool {
        self.answer(id, response, None, streaming)
    }

    /// Sends a response without headers, and with the one that is given.
    pub fn respond_plainly(
        &mut self,
        id: ExchangeId,
        response: Response<Body>,
        content_type: Option<HeaderValue>,
    ) {
        self.answer(id, response, content_type, false);
    }

    fn answer(
        &mut self,
        id: ExchangeId,
        response: Response<Body>,
        content_type: Option<HeaderValue>,
        streaming: bool,
    ) -> bool {
        let mut outgoing = None;
        let sent = match self.take_reply(id) {
            Some(Reply::Http(answer)) if streaming => answer.send(Ok(response)).is_ok(),
            Some(Reply::Http(answer)) => {
                let wanted = !answer.is_closed();
                let answered = Ok(response);
                outgoing = Some(Outgoing { answer, answered, content_type, spent: None });
                wanted
            }
            Some(Reply::Event(sender)) => {
                drop(sender.send(Err(Fault::new(
                    "not_an_event",
                    verge_types::Blame::Platform,
                    StatusCode::INTERNAL_SERVER_ERROR.as_u16(),
                    "An event was answered with a response",
                ))));
                false
            }
            None => false,
        };
        let mut done = None;
        if streaming && sent {
            if let Some(exchange) = self.open.get_mut(&id) {
                exchange.streaming = true;
            }
        } else {
            done = self.settle(id, !sent);
        }
        if let Some(mut outgoing) = outgoing {
            outgoing.spent = done.map(|done| (done.parts.uri, done.parts.headers));
            match self.courier {
                Some(_) => self.outbox.push(outgoing),
                None => outgoing.deliver(),
            }
        }
        sent
    }

    /// Ends an event with its serialized reply.
    pub fn event_done(&mut self, id: ExchangeId, bytes: Vec<u8>) {
        if let Some(Reply::Event(sender)) = self.take_reply(id) {
            drop(sender.send(Ok(bytes)));
        }
        self.settle(id, false);
    }

    /// Ends the exchange in a fault. False if it was already answered.
    pub fn fail(&mut self, id: ExchangeId, fault: Fault) -> bool {
        let reply = self.take_reply(id);
        let failed = reply.is_some();
        if let Some(reply) = reply {
            reply.fail(fault);
        } else if let Some(exchange) = self.open.get(&id) {
            // Its response is on the way and must not end as if it were whole.
            exchange.cancelled.fault.replace(Some(fault));
        }
        self.settle(id, true);
        failed
    }

    /// The last byte of a streamed body left, or the client did.
    pub fn streamed(&mut self, id: ExchangeId, cancelled: bool) {
        if let Some(exchange) = self.open.get_mut(&id) {
            exchange.streaming = false;
        }
        self.settle(id, cancelled);
    }

    /// Keeps the exchange although it was answered.
    pub fn hold(&mut self, id: ExchangeId) {
        if let Some(exchange) = self.open.get_mut(&id) {
            exchange.holds += 1;
        }
    }

    pub fn release(&mut self, id: ExchangeId) {
        if let Some(exchange) = self.open.get_mut(&id) {
            exchange.holds = exchange.holds.saturating_sub(1);
            self.forget_if_done(id);
        }
    }

    /// Ends what is left of the exchange, whatever still holds it.
    pub fn forget(&mut self, id: ExchangeId) {
        if let Some(exchange) = self.open.remove(&id) {
            exchange.cancelled.settle(true);
            if exchange.reply.is_some() {
                self.unanswered.set(self.unanswered.get() - 1);
            }
        }
    }

    /// Ends all of them.
    pub fn fail_all(&mut self, fault: &Fault) {
        for id in self.ids() {
            self.fail(id, fault.clone());
            self.forget(id);
        }
    }

    /// Gives the exchange if that was the last of it.
    fn settle(&mut self, id: ExchangeId, cancelled: bool) -> Option<Exchange> {
        if let Some(exchange) = self.open.get(&id) {
            exchange.cancelled.settle(cancelled);
        }
        self.forget_if_done(id)
    }

    fn forget_if_done(&mut self, id: ExchangeId) -> Option<Exchange> {
        let done =
            self.open.get(&id).is_some_and(|e| e.reply.is_none() && !e.streaming && e.holds == 0);
        if done { self.open.remove(&id) } else { None }
    }
}
