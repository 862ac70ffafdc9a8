//! A link: the one connection to another node, and how channels are opened on it.
//!
//! In h2 only the dialing side can open streams. So it also opens some that it parks at the
//! accepting side, which takes one of them whenever it wants to open a channel: no round trip is
//! lost. A taken one is replaced at once; if they ever run out, twice as many are asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{Method, Request, Response};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::channel::{Channel, Guard};
use crate::control::{Message, Record};
use crate::wire::Wire;
use crate::{Error, Peer};

/// Channels parked at first; doubled when they run out, up to `max_channels`.
pub(crate) const PARKED: usize = 32;

/// What a stream is for, as its path.
pub(crate) const HELLO: &str = "/hello";
pub(crate) const OPEN: &str = "/open";
pub(crate) const PARK: &str = "/park";

pub(crate) struct Link {
    pub id: u64,
    pub record: Record,
    pub by_me: bool,
    pub wire: Arc<Wire>,
    pub control: mpsc::Sender<Message>,
    pub opener: Opener,
    permits: Arc<Semaphore>,
    retired: AtomicBool,
    /// Microseconds; 0 is not measured yet.
    rtt_us: AtomicU64,
}

pub(crate) enum Opener {
    Dialer(SendRequest<Bytes>),
    Acceptor(Parked),
}

impl Link {
    pub fn new(
        id: u64,
        record: Record,
        by_me: bool,
        wire: Arc<Wire>,
        control: mpsc::Sender<Message>,
        opener: Opener,
    ) -> Arc<Self> {
        *wire.node.lock() = Some(record.node.clone());
        let permits = Arc::new(Semaphore::new(wire.limits.max_channels));
        let (retired, rtt_us) = (AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Self { id, record, by_me, wire, control, opener, permits, retired, rtt_us })
    }

    pub fn peer(&self) -> Peer {
        Peer { node: self.record.node.clone(), pop: self.record.pop.clone() }
    }

    /// Opens a channel; waits for room until `deadline`.
    pub async fn open(&self, deadline: Instant) -> Result<Channel, Error> {
        let node = || self.record.node.clone();
        if self.is_retired() || self.wire.close.is_cancelled() {
            return Err(Error::NotLinked { node: node(), why: Some("it is closing".to_owned()) });
        }
        let busy = |_| {
            self.wire.counters.busy.one();
            Error::Busy { node: node(), limit: self.wire.limits.max_channels }
        };
        let permit = timeout_at(deadline, self.permits.clone().acquire_owned())
            .await
            .map_err(busy)?
            .map_err(|_| self.wire.lost())?;
        let guard = Guard::counted(&self.wire, Some(permit));
        match &self.opener {
            Opener::Dialer(requests) => {
                let ready = timeout_at(deadline, requests.clone().ready()).await.map_err(busy)?;
                let (answer, stream) = ready
                    .and_then(|mut requests| requests.send_request(request(OPEN), false))
                    .map_err(|error| self.wire.error(&error))?;
                Ok(Channel::opening(guard, answer, stream))
            }
            Opener::Acceptor(parked) => {
                let taken = timeout_at(deadline, parked.take(&self.control)).await;
                let (input, respond) = taken.map_err(busy)?.ok_or_else(|| self.wire.lost())?;
                accept(guard, input, respond)
            }
        }
    }

    /// No new channels from now on. True the first time.
    pub fn retire(&self) -> bool {
        !self.retired.swap(true, Ordering::AcqRel)
    }

    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_us.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// A measured round trip; kept smoothed (7/8 old, 1/8 new).
    pub fn measured(&self, rtt: Duration) {
        let new = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.rtt_us.load(Ordering::Relaxed);
        let smooth = if old == 0 { new } else { old - old / 8 + new / 8 };
        self.rtt_us.store(smooth.max(1), Ordering::Relaxed);
    }
}

pub(crate) fn request(path: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(match path {
        HELLO => "http://fabric/hello",
        PARK => "http://fabric/park",
        _ => "http://fabric/open",
    });
    request
}

/// Answers an h2 request with an open channel.
pub(crate) fn accept(
    guard: Arc<Guard>,
    input: RecvStream,
    mut respond: SendResponse<Bytes>,
) -> Result<Channel, Error> {
    let stream = respond
        .send_response(Response::new(()), false)
        .map_err(|error| guard.wire.error(&error))?;
    Ok(Channel::open(guard, input, stream))
}

/// The channels that the dialing side left here to be taken.
pub(crate) struct Parked {
    waiting: Mutex<VecDeque<(RecvStream, SendResponse<Bytes>)>>,
    available: Semaphore,
    /// How many the dialing side keeps parked.
    target: AtomicUsize,
    limit: usize,
}

impl Parked {
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            available: Semaphore::new(0),
            target: AtomicUsize::new(PARKED.min(limit)),
            limit,
        }
    }

    /// One more; refused (dropped, so reset) beyond the limit.
    pub fn add(&self, input: RecvStream, respond: SendResponse<Bytes>) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < self.limit {
            waiting.push_back((input, respond));
            self.available.add_permits(1);
        }
    }

    /// The link has ended.
    pub fn close(&self) {
        self.available.close();
        self.waiting.lock().clear();
    }

    async fn take(
        &self,
        control: &mpsc::Sender<Message>,
    ) -> Option<(RecvStream, SendResponse<Bytes>)> {
        if self.available.available_permits() == 0 {
            self.ask_for_more(control);
        }
        let permit = self.available.acquire().await.ok()?;
        permit.forget();
        self.waiting.lock().pop_front()
    }

    fn ask_for_more(&self, control: &mpsc::Sender<Message>) {
        let target = self.target.load(Ordering::Relaxed);
        let more = target.min(self.limit - target.min(self.limit));
        let raised = self.target.compare_exchange(
            target,
            target + more,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if more > 0 && raised.is_ok() && control.try_send(Message::Park { more }).is_err() {
            self.target.fetch_sub(more, Ordering::Relaxed);
        }
    }
}
