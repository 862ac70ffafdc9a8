//! A channel: bytes in both directions over one h2 stream, with flow control, whoever opened it.
//!
//! A side that goes away without [`Sender::finish`] resets the stream, so the other side never
//! takes a cut-off body for a whole one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::coop::consume_budget;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::Error;
use crate::frame::Decoder;
use crate::head::MAX_HEAD;
use crate::wire::Wire;

/// What a channel keeps as long as either half lives.
pub(crate) struct Guard {
    pub wire: Arc<Wire>,
    _permit: Option<OwnedSemaphorePermit>,
    _counted: Option<TaskTrackerToken>,
}

impl Guard {
    /// A channel that a drain waits for.
    pub fn counted(wire: &Arc<Wire>, permit: Option<OwnedSemaphorePermit>) -> Arc<Self> {
        let token = wire.channels.token();
        Arc::new(Self { wire: wire.clone(), _permit: permit, _counted: Some(token) })
    }

    /// The control channel.
    pub fn uncounted(wire: &Arc<Wire>) -> Arc<Self> {
        Arc::new(Self { wire: wire.clone(), _permit: None, _counted: None })
    }
}

pub(crate) struct Channel {
    pub tx: Sender,
    pub rx: Receiver,
}

impl Channel {
    /// The dialing side's: the answer's head may still be under way.
    pub fn opening(guard: Arc<Guard>, answer: ResponseFuture, stream: SendStream<Bytes>) -> Self {
        let rx = Receiver { source: Source::Opening(answer), guard: guard.clone() };
        Self { tx: Sender { stream, guard }, rx }
    }

    /// Both directions are open.
    pub fn open(guard: Arc<Guard>, input: RecvStream, stream: SendStream<Bytes>) -> Self {
        let rx = Receiver { source: Source::Open(input), guard: guard.clone() };
        Self { tx: Sender { stream, guard }, rx }
    }
}

pub(crate) struct Sender {
    stream: SendStream<Bytes>,
    guard: Arc<Guard>,
}

impl Sender {
    /// Sends as the other side takes. Dropping the future half-way has sent a part.
    pub async fn send(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            // h2 knows nothing of tokio's budget: without this an endless body holds its thread.
            consume_budget().await;
            self.stream.reserve_capacity(bytes.len());
            let room = match self.stream.capacity() {
                0 => self.wait_for_room().await?,
                room => room,
            };
            let piece = bytes.split_to(room.min(bytes.len()));
            self.put(piece, false)?;
        }
        Ok(())
    }

    async fn wait_for_room(&mut self) -> Result<usize, Error> {
        let stall = self.guard.wire.limits.send_stall;
        let stream = &mut self.stream;
        let room = poll_fn(|cx| {
            loop {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(0)) => {}
                    other => return Poll::Ready(other),
                }
            }
        });
        match tokio::time::timeout(stall, room).await {
            Ok(Some(Ok(room))) => Ok(room),
            Ok(Some(Err(error))) => Err(self.guard.wire.error(&error)),
            Ok(None) => Err(self.gone().await),
            Err(_) => Err(Error::Stalled(stall)),
        }
    }

    /// Why the stream takes nothing any more.
    async fn gone(&mut self) -> Error {
        let wait = tokio::time::timeout(Duration::from_millis(100), self.reset_by_peer()).await;
        wait.unwrap_or_else(|_| self.guard.wire.lost())
    }

    /// Queues bytes that are in memory anyway, without waiting for room.
    pub fn put(&mut self, bytes: Bytes, end: bool) -> Result<(), Error> {
        self.stream.send_data(bytes, end).map_err(|error| self.guard.wire.error(&error))
    }

    /// The clean end.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.put(Bytes::new(), true)
    }

    /// The clean end with trailers.
    pub fn trailers(&mut self, trailers: HeaderMap) -> Result<(), Error> {
        self.stream.send_trailers(trailers).map_err(|error| self.guard.wire.error(&error))
    }

    /// Tells the other side that this is not the whole.
    pub fn reset(&mut self) {
        self.stream.send_reset(Reason::INTERNAL_ERROR);
    }

    /// Ready when the other side gave the channel up or the connection ended.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.stream.poll_reset(cx).map(|end| match end {
            Ok(reason) => Error::Reset(reason.to_string()),
            Err(error) => self.guard.wire.error(&error),
        })
    }

    pub async fn reset_by_peer(&mut self) -> Error {
        poll_fn(|cx| self.poll_reset(cx)).await
    }

    pub fn wire(&self) -> &Arc<Wire> {
        &self.guard.wire
    }
}

pub(crate) struct Receiver {
    source: Source,
    guard: Arc<Guard>,
}

enum Source {
    Opening(ResponseFuture),
    Open(RecvStream),
    Failed,
}

impl Receiver {
    /// The next bytes; taking them lets the other side send as many more.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        ready!(std::pin::pin!(consume_budget()).poll(cx));
        loop {
            match &mut self.source {
                Source::Opening(answer) => match ready!(std::pin::Pin::new(answer).poll(cx)) {
                    Ok(response) => self.source = Source::Open(response.into_body()),
                    Err(error) => {
                        self.source = Source::Failed;
                        return Poll::Ready(Some(Err(self.guard.wire.error(&error))));
                    }
                },
                Source::Open(input) => {
                    return Poll::Ready(match ready!(input.poll_data(cx)) {
                        // The end may come as a frame without bytes.
                        Some(Ok(bytes)) if bytes.is_empty() => continue,
                        Some(Ok(bytes)) => {
                            // Fails only when the stream has ended, and then nothing is owed.
                            let _ = input.flow_control().release_capacity(bytes.len());
                            Some(Ok(bytes))
                        }
                        Some(Err(error)) => Some(Err(self.guard.wire.error(&error))),
                        None => None,
                    });
                }
                Source::Failed => return Poll::Ready(None),
            }
        }
    }

    pub async fn data(&mut self) -> Option<Result<Bytes, Error>> {
        poll_fn(|cx| self.poll_data(cx)).await
    }

    /// After the last data.
    pub fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<HeaderMap>> {
        match &mut self.source {
            Source::Open(input) => input.poll_trailers(cx).map(|end| end.ok().flatten()),
            _ => Poll::Ready(None),
        }
    }

    /// True when the other side finished and everything was read.
    pub fn is_finished(&self) -> bool {
        match &self.source {
            Source::Opening(_) => false,
            Source::Open(input) => input.is_end_stream(),
            Source::Failed => true,
        }
    }

    /// Reads the head that comes first, and what lies behind it already.
    pub async fn head(&mut self) -> Result<(Bytes, Bytes), Error> {
        let mut decoder = Decoder::new(MAX_HEAD);
        loop {
            if let Some(head) = decoder.next_message()? {
                return Ok((head, decoder.into_rest()));
            }
            match self.data().await {
                Some(bytes) => decoder.push(bytes?),
                None => return Err(Error::Truncated),
            }
        }
    }

    /// Takes and forgets what still comes, so that the other side's end stays a clean one.
    pub async fn drain(&mut self) {
        while let Some(Ok(_)) = self.data().await {}
    }
}
