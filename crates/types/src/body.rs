//! The one body type of requests and responses.
//!
//! `Empty` and `Full` keep the common small answers free of boxing; everything that
//! streams is `Stream`. Trailers travel as frames of a `Stream`.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::sync::mpsc;

use crate::Fault;

/// Any error that may be sent between threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a body ended before its end.
#[derive(Debug)]
pub enum BodyError {
    /// A limit or a guest failure; carries the public code.
    Fault(Fault),
    /// The peer went away or broke the protocol.
    Transport(BoxError),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => fault.fmt(f),
            Self::Transport(error) => write!(f, "the body ended early: {error}"),
        }
    }
}

impl Error for BodyError {}

impl From<Fault> for BodyError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A request or response body.
#[derive(Default)]
pub enum Body {
    /// No bytes and no trailers.
    #[default]
    Empty,
    /// All bytes at hand.
    Full(Bytes),
    /// Frames as they come.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// Wraps any body whose errors are already [`BodyError`]s.
    pub fn stream<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self::Stream(body.boxed_unsync())
    }

    /// What is sent into a channel, until its senders are gone or one sends an error.
    pub fn channel(chunks: mpsc::Receiver<Result<Bytes, BodyError>>) -> Self {
        Self::stream(Chunks(chunks))
    }

    /// True when the body is known to carry nothing.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(body) => http_body::Body::is_end_stream(body),
        }
    }
}

struct Chunks(mpsc::Receiver<Result<Bytes, BodyError>>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|chunk| Some(chunk?.map(Frame::data)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Body::Empty"),
            Self::Full(bytes) => write!(f, "Body::Full({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Body::Stream"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
        }
    }
}
