//! The bytes of one connection on their way between the socket and hyper.
//!
//! Holds: every byte hyper reads has passed `strict` first (HTTP/1), in order, unchanged.
//! A refused byte is replaced by one that no HTTP grammar takes and followed by the end of
//! input, so hyper answers 400 in its place among pipelined requests and closes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::strict::Strict;
use crate::vitals::{Progress, Vitals};

/// Bytes thrown away after a refused request before we close for good.
const MAX_LINGER_BYTES: usize = 256 * 1024;

/// Not a byte of any method, path, header or chunk size.
const POISON: u8 = 0;

/// Clear text or TLS, as one type so that hyper is compiled once.
pub enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}

/// Who is to be woken when there is something to read.
///
/// hyper asks for bytes each time its task runs, to learn that the client has left. While the
/// socket has not called this waker there are none, and asking it again is a lock and a search
/// for nothing.
struct Reader {
    task: Waker,
    called: AtomicBool,
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.called.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// The socket's promise to wake somebody.
struct Promise {
    reader: Arc<Reader>,
    waker: Waker,
    /// Given, and not kept yet.
    open: bool,
}

impl Promise {
    fn to(task: &Waker) -> Self {
        let reader = Arc::new(Reader { task: task.clone(), called: AtomicBool::new(false) });
        Self { waker: Waker::from(Arc::clone(&reader)), reader, open: false }
    }

    fn is_to(&self, task: &Waker) -> bool {
        self.reader.task.will_wake(task)
    }

    /// True while the socket has nothing and will say when it has.
    fn stands(&self) -> bool {
        self.open && !self.reader.called.load(Ordering::Acquire)
    }
}

/// A socket as hyper sees it.
pub struct Wire {
    socket: Socket,
    promise: Option<Promise>,
    /// Read while the protocol was found out; given to hyper first.
    early: Vec<u8>,
    guard: Guard,
    vitals: Arc<Vitals>,
    ended: bool,
    shut: bool,
    lingered: usize,
}

impl Wire {
    pub fn new(socket: Socket, early: Vec<u8>, guard: Guard, vitals: Arc<Vitals>) -> Self {
        Self { socket, promise: None, early, guard, vitals, ended: false, shut: false, lingered: 0 }
    }

    /// Reads from the socket, unless it has promised to wake this task and not done so.
    ///
    /// TLS makes no promise: it may read for its own ends, with another waker.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Socket::Plain(socket) = &mut self.socket else {
            return Pin::new(&mut self.socket).poll_read(cx, buf);
        };
        let promise = match self.promise.take().filter(|promise| promise.is_to(cx.waker())) {
            Some(promise) if promise.stands() => {
                self.promise = Some(promise);
                return Poll::Pending;
            }
            Some(promise) => promise,
            None => Promise::to(cx.waker()),
        };
        let promise = self.promise.insert(promise);
        // Before the socket is asked: it may call from another thread at any time after.
        promise.reader.called.store(false, Ordering::Release);
        let mut calling = Context::from_waker(&promise.waker);
        let poll = Pin::new(socket).poll_read(&mut calling, buf);
        promise.open = poll.is_pending();
        poll
    }

    /// Checks what was just appended to `buf` from `before` on.
    fn inspect(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let new = &mut buf.filled_mut()[before..];
        match &mut self.guard {
            Guard::Http1(strict) => {
                if strict.held()
                    && let Some(tunnel) = self.vitals.tunnel_answer()
                {
                    strict.release(tunnel);
                }
                let verdict = strict.feed(new);
                self.vitals.framing(strict.phase(), strict.heads());
                if let Err((at, _)) = verdict {
                    new[at] = POISON;
                    buf.set_filled(before + at + 1);
                    self.ended = true;
                    self.vitals.refuse();
                }
                Ok(())
            }
            Guard::Http2(budget) => budget.spend(new.len() as u64),
        }
    }
}

/// What is held against the bytes that come in.
pub enum Guard {
    Http1(Strict),
    Http2(Budget),
}

/// How much an HTTP/2 client may send to no effect.
pub struct Budget {
    max: u64,
    spent: u64,
    progress: Arc<Progress>,
    seen: u64,
}

impl Budget {
    pub fn new(max: u64, progress: Arc<Progress>) -> Self {
        Self { max, spent: 0, progress, seen: 0 }
    }

    fn spend(&mut self, bytes: u64) -> io::Result<()> {
        let count = self.progress.count();
        if count != self.seen {
            self.seen = count;
            self.spent = 0;
        }
        self.spent += bytes;
        if self.spent > self.max {
            return Err(io::Error::other("the peer sends frames to no effect"));
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if this.early.is_empty() {
            ready!(this.poll_socket(cx, buf))?;
        } else {
            let n = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early[..n]);
            this.early.drain(..n);
        }
        if buf.filled().len() > before {
            this.vitals.read();
            this.inspect(buf, before)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.socket).poll_write(cx, buf);
        note_write(&this.vitals, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        note_write(&this.vitals, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.socket).poll_flush(cx);
        if poll.is_pending() {
            this.vitals.write_blocked();
        }
        poll
    }

    /// Closes our side; if the client is still sending, reads on for a while: closing a
    /// socket with unread bytes resets it, and the reset can overtake our answer.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.shut {
            this.vitals.closing();
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            this.shut = true;
        }
        while this.vitals.mid_message() && this.lingered < MAX_LINGER_BYTES {
            let mut scratch = [0u8; 4096];
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(this.poll_socket(cx, &mut buf))?;
            if buf.filled().is_empty() {
                break;
            }
            this.lingered += buf.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

fn note_write(vitals: &Vitals, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    match &poll {
        Poll::Ready(Ok(bytes)) => vitals.wrote(*bytes),
        Poll::Ready(Err(_)) => {}
        Poll::Pending => vitals.write_blocked(),
    }
    poll
}
