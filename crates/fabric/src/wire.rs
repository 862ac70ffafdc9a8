//! One h2 connection: its socket's counters, its end, and its settings. Knows no peer yet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::LinkLimits;
use crate::metrics::Counters;
use crate::{Error, NodeId};

/// What h2 buffers of one stream's output, in bytes.
const SEND_BUFFER: usize = 1 << 20;
/// Headers of h2 itself are tiny here; ours travel as data.
const MAX_H2_HEADERS: u32 = 16 * 1024;

pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Shared by the driver, the channels and the control loop of a connection.
pub(crate) struct Wire {
    /// Cancelled: the connection is dropped, everything on it fails.
    pub close: CancellationToken,
    /// Counts the channels in use.
    pub channels: TaskTracker,
    pub limits: LinkLimits,
    pub counters: Arc<Counters>,
    /// Who is at the other end, for errors.
    pub node: Mutex<Option<NodeId>>,
    why: Mutex<Option<String>>,
    /// It was ended although channels were open.
    pub forced: AtomicBool,
    began: Instant,
    /// Microseconds after `began` of the last byte that came.
    heard_us: AtomicU64,
}

impl Wire {
    pub fn new(limits: LinkLimits, counters: Arc<Counters>, stop: &CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            close: stop.child_token(),
            channels: TaskTracker::new(),
            limits,
            counters,
            node: Mutex::new(None),
            why: Mutex::new(None),
            forced: AtomicBool::new(false),
            began: Instant::now(),
            heard_us: AtomicU64::new(0),
        })
    }

    /// Ends the connection; the first reason is kept.
    pub fn end(&self, why: impl Into<String>) {
        self.why.lock().get_or_insert_with(|| why.into());
        self.close.cancel();
    }

    /// Why it ended.
    pub fn why(&self) -> String {
        self.why.lock().clone().unwrap_or_else(|| "closed".to_owned())
    }

    /// When the last byte came.
    pub fn heard(&self) -> Instant {
        self.began + Duration::from_micros(self.heard_us.load(Ordering::Relaxed))
    }

    /// An h2 failure as ours: a lost connection is told apart from one stream's end.
    pub fn error(&self, error: &h2::Error) -> Error {
        let node = self.node.lock().clone();
        match (error.reason(), node) {
            (Some(h2::Reason::REFUSED_STREAM), Some(node)) => Error::Declined(node),
            (Some(reason), _) if error.is_reset() => Error::Reset(reason.to_string()),
            _ => self.lost(),
        }
    }

    pub fn lost(&self) -> Error {
        match self.node.lock().clone() {
            Some(node) => Error::LinkLost(node),
            None => Error::Refused("the connection ended during the handshake".to_owned()),
        }
    }

    pub fn client(&self) -> h2::client::Builder {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(self.limits.stream_window)
            .initial_connection_window_size(self.connection_window())
            .max_header_list_size(MAX_H2_HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false);
        builder
    }

    pub fn server(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(self.limits.stream_window)
            .initial_connection_window_size(self.connection_window())
            .max_header_list_size(MAX_H2_HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_streams(self.max_streams());
        builder
    }

    /// Theirs, ours in reverse, as many parked ones, and the control channel.
    fn max_streams(&self) -> u32 {
        u32::try_from(self.limits.max_channels * 3 + 8).unwrap_or(u32::MAX)
    }

    /// Room for every stream's window, so that stalled readers never hold up the others.
    fn connection_window(&self) -> u32 {
        self.limits.stream_window.saturating_mul(self.max_streams()).min(i32::MAX as u32)
    }
}

/// A socket that counts.
pub(crate) struct Counted<T> {
    inner: T,
    wire: Arc<Wire>,
}

impl<T> Counted<T> {
    pub fn new(inner: T, wire: Arc<Wire>) -> Self {
        Self { inner, wire }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.wire.counters.bytes_in.add(read as u64);
            let at = u64::try_from(self.wire.began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.wire.heard_us.store(at, Ordering::Relaxed);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.wire.counters.bytes_out.add(*written as u64);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
