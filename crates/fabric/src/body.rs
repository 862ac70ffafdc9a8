//! Bodies of calls: from a channel into a [`Body`], and the other way.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use verge_types::{Body, BodyError};

use crate::Error;
use crate::channel::{Receiver, Sender};

/// What comes in. Reads only when it is read.
pub(crate) struct Incoming {
    rx: Option<Receiver>,
    /// Came together with the head.
    first: Bytes,
    /// Gets the receiver back if the body is dropped before its end.
    unread: Option<oneshot::Sender<Receiver>>,
    /// Sends the other direction; of no use after this body's end.
    _pump: Option<Pump>,
}

/// A task that sends a body; it ends with whoever holds this.
pub(crate) struct Pump(pub AbortHandle);

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Incoming {
    /// A request's body. What is not read comes back through the second value.
    pub fn request(rx: Receiver, first: Bytes) -> (Body, oneshot::Receiver<Receiver>) {
        let (unread, back) = oneshot::channel();
        let body = Self { rx: Some(rx), first, unread: Some(unread), _pump: None };
        (body.boxed(), back)
    }

    /// A reply's body. `pump` still sends the request.
    pub fn reply(rx: Receiver, first: Bytes, pump: Option<Pump>) -> Body {
        Self { rx: Some(rx), first, unread: None, _pump: pump }.boxed()
    }

    fn boxed(self) -> Body {
        if self.is_end_stream() { Body::Empty } else { Body::stream(self) }
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        let Some(rx) = &mut self.rx else { return Poll::Ready(None) };
        match ready!(rx.poll_data(cx)) {
            Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Err(error)) => {
                self.rx = None;
                return Poll::Ready(Some(Err(BodyError::Transport(Box::new(error)))));
            }
            None => {}
        }
        let trailers = ready!(rx.poll_trailers(cx));
        self.rx = None;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rx.as_ref().is_none_or(Receiver::is_finished)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let (Some(unread), Some(rx)) = (self.unread.take(), self.rx.take()) {
            // Nobody waits for it if the call is over.
            let _ = unread.send(rx);
        }
    }
}

/// Small frames that are ready together leave together, up to this many bytes: a frame costs its
/// reader more memory than a few bytes are worth.
const TOGETHER: usize = 16 * 1024;

enum Next {
    Frame(Frame<Bytes>),
    End,
    /// Nothing is ready and something is gathered.
    Pause,
}

/// Sends a body to its end. Ends early, dropping the body, when the other side gives up.
pub(crate) async fn send(tx: &mut Sender, mut body: Body) -> Result<(), Error> {
    let mut gathered = BytesMut::new();
    loop {
        tokio::task::coop::consume_budget().await;
        let next = poll_fn(|cx| {
            if let Poll::Ready(error) = tx.poll_reset(cx) {
                return Poll::Ready(Err(error));
            }
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => Poll::Ready(Ok(Next::Frame(frame))),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Err(Error::Body(error.to_string()))),
                Poll::Ready(None) => Poll::Ready(Ok(Next::End)),
                Poll::Pending if gathered.is_empty() => Poll::Pending,
                Poll::Pending => Poll::Ready(Ok(Next::Pause)),
            }
        })
        .await;
        let frame = match next {
            Ok(Next::Frame(frame)) => match frame.into_data() {
                Ok(bytes) if bytes.len() + gathered.len() < TOGETHER => {
                    gathered.extend_from_slice(&bytes);
                    continue;
                }
                other => Some(other),
            },
            Ok(Next::Pause) => None,
            Ok(Next::End) => {
                tx.send(gathered.freeze()).await?;
                return tx.finish();
            }
            Err(error) => {
                tx.reset();
                return Err(error);
            }
        };
        tx.send(gathered.split().freeze()).await?;
        match frame {
            Some(Ok(bytes)) => tx.send(bytes).await?,
            Some(Err(frame)) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return tx.trailers(trailers);
                }
            }
            None => {}
        }
    }
}
