//! The listener: accepts, finds out the protocol, stops in good order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use verge_telemetry::{AccessLog, Rejection};
use verge_types::{ClientInfo, Resolve, Scheme};

use crate::admission::{Admission, Permit};
use crate::config::{ACCEPT_BACKOFF, GatewayConfig, LISTEN_BACKLOG};
use crate::connection::{Connection, Shared, Stage};
use crate::wire::Socket;
use crate::{http1, http2};

/// How an HTTP/2 client without TLS begins (RFC 9113, section 3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes read at once while the protocol is found out.
const FIRST_READ: usize = 2048;
/// After the last cut, how long tasks get to notice.
const CUT_GRACE: Duration = Duration::from_secs(2);

/// A bound listener. A node may have several.
pub struct Gateway {
    /// `None` only while `serve` has it.
    listener: Option<TcpListener>,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
}

/// Ends a listener from outside, as a crash would end it: nobody is waited for, connections break
/// off. For the points of presence of a simulated world.
#[derive(Clone)]
pub struct Cutter(Arc<Shared>);

impl Cutter {
    pub fn cut(&self) {
        self.0.enter(Stage::Cutting);
    }
}

/// What became of the requests that ran when the listener was told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Requests that were answered to the end.
    pub finished: usize,
    /// Requests whose client left, or that ran longer than the drain timeout.
    pub cut: usize,
    /// Connections that had to be cut, WebSockets among them.
    pub connections_cut: usize,
}

impl Gateway {
    /// Binds the address. Nothing is accepted before [`Gateway::serve`] runs, but clients
    /// that connect meanwhile wait in the kernel's queue.
    pub async fn bind(
        config: GatewayConfig,
        resolve: Arc<dyn Resolve>,
        access: Arc<dyn AccessLog>,
    ) -> io::Result<Self> {
        let socket =
            if config.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // So that a restart need not wait for old connections to leave TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(config.address)?;
        let listener = socket.listen(LISTEN_BACKLOG)?;
        let admission = Admission::new(
            config.max_connections,
            config.max_connections_per_peer,
            config.metrics.clone(),
        );
        Ok(Self {
            address: listener.local_addr()?,
            listener: Some(listener),
            tls: config.tls.as_ref().map(|tls| TlsAcceptor::from(tls.server_config())),
            shared: Arc::new(Shared::new(config, resolve, access)),
            admission,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    pub fn cutter(&self) -> Cutter {
        Cutter(Arc::clone(&self.shared))
    }

    /// Serves until `shutdown` resolves, then lets running requests finish for the drain
    /// timeout, then cuts the rest.
    pub async fn serve(mut self, shutdown: impl Future<Output = ()>) -> Drained {
        let Some(listener) = self.listener.take() else { return Drained::default() };
        let mut shutdown = std::pin::pin!(shutdown);
        let shared = Arc::clone(&self.shared);
        let mut cut = std::pin::pin!(shared.reaches(Stage::Cutting));
        loop {
            tokio::select! {
                biased;
                () = &mut cut => break,
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer),
                    Err(error) => self.accept_failed(&error).await,
                },
            }
        }
        self.drain(listener).await
    }

    async fn accept_failed(&self, error: &io::Error) {
        let of_the_peer = matches!(
            error.kind(),
            io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::Interrupted
        );
        if !of_the_peer {
            // No descriptors or no memory: the next accept would fail as well, at once.
            self.shared.config.metrics.connection_rejected(Rejection::accept_error);
            sleep(ACCEPT_BACKOFF).await;
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let permit = match self.admission.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(reason) => {
                self.shared.config.metrics.connection_rejected(reason);
                return;
            }
        };
        // Without it a small answer waits for the client's delayed ACK. It can only fail on
        // a socket that is already gone, which the first read will tell.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(&self.shared);
        match &self.tls {
            None => {
                tokio::spawn(serve_clear(shared, stream, peer, permit));
            }
            Some(tls) => {
                tokio::spawn(serve_tls(shared, tls.clone(), stream, peer, permit));
            }
        }
    }

    /// Whoever connected before now is served: closing the listener would reset them.
    fn empty_backlog(&self, listener: TcpListener) {
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..LISTEN_BACKLOG {
            let Ok((stream, peer)) = listener.accept() else { return };
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                self.admit(stream, peer);
            }
        }
    }

    async fn drain(self, listener: TcpListener) -> Drained {
        if self.shared.stage() == Stage::Cutting {
            drop(listener);
        } else {
            self.empty_backlog(listener);
        }
        let Self { shared, admission, .. } = self;
        shared.enter(Stage::Draining);
        let drained = wait_until_empty(&admission, Instant::now() + shared.config.drain_timeout);
        tokio::select! {
            () = drained => {}
            () = shared.reaches(Stage::Cutting) => {}
        }
        let connections_cut = admission.open();
        if connections_cut > 0 {
            shared.enter(Stage::Cutting);
            wait_until_empty(&admission, Instant::now() + CUT_GRACE).await;
        }
        Drained { finished: shared.finished(), cut: shared.cut(), connections_cut }
    }
}

async fn wait_until_empty(admission: &Admission, deadline: Instant) {
    while admission.open() > 0 {
        if timeout_at(deadline, admission.empty.notified()).await.is_err() {
            return;
        }
    }
}

async fn serve_clear(shared: Arc<Shared>, mut stream: TcpStream, peer: SocketAddr, permit: Permit) {
    let mut early = Vec::new();
    let found = timeout(shared.config.head_timeout, speaks_h2(&mut stream, &mut early)).await;
    let http2 = match found {
        Ok(Ok(http2)) => http2,
        Ok(Err(_)) => return,
        Err(_) => {
            shared.config.metrics.connection_rejected(Rejection::head_timeout);
            return;
        }
    };
    let client = ClientInfo {
        addr: peer,
        scheme: Scheme::Http,
        http_protocol: protocol(http2),
        tls_version: "",
        tls_cipher: "",
    };
    serve(Connection::new(shared, client, http2, permit), Socket::Plain(stream), early).await;
}

fn protocol(http2: bool) -> &'static str {
    if http2 { "HTTP/2" } else { "HTTP/1.1" }
}

/// Reads until it is clear whether the client begins with the HTTP/2 preface.
async fn speaks_h2(stream: &mut TcpStream, early: &mut Vec<u8>) -> io::Result<bool> {
    early.reserve(FIRST_READ);
    loop {
        if stream.read_buf(early).await? == 0 {
            return if early.is_empty() {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(false)
            };
        }
        let known = early.len().min(H2_PREFACE.len());
        if early[..known] != H2_PREFACE[..known] {
            return Ok(false);
        }
        if known == H2_PREFACE.len() {
            return Ok(true);
        }
    }
}

async fn serve_tls(
    shared: Arc<Shared>,
    tls: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    permit: Permit,
) {
    let metrics = &shared.config.metrics;
    let stream = match timeout(shared.config.tls_handshake_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return metrics.connection_rejected(Rejection::tls),
        Err(_) => return metrics.connection_rejected(Rejection::tls_timeout),
    };
    let (_, session) = stream.get_ref();
    let http2 = session.alpn_protocol() == Some(b"h2");
    let client = ClientInfo {
        addr: peer,
        scheme: Scheme::Https,
        http_protocol: protocol(http2),
        tls_version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "",
        },
        tls_cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or_default(),
    };
    let connection = Connection::new(shared, client, http2, permit);
    serve(connection, Socket::Tls(Box::new(stream)), Vec::new()).await;
}

async fn serve(connection: Connection, socket: Socket, early: Vec<u8>) {
    let connection = Arc::new(connection);
    if connection.is_http2() {
        http2::serve(connection, socket, early).await;
    } else {
        http1::serve(connection, socket, early).await;
    }
}
