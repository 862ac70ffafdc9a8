//! The accepting side of a connection, from the socket to the welcome.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::channel::Guard;
use crate::config::Security;
use crate::control::{Hello, MAX_CONTROL, Message, PROTOCOL, Refusal};
use crate::link::{HELLO, Link, OPEN, Opener, PARK, Parked, accept as accept_channel};
use crate::message::{MessageReceiver, MessageSender};
use crate::session::{CONTROL_QUEUE, Session};
use crate::shared::{Event, Shared};
use crate::wire::{Counted, Socket, Wire};
use crate::{Error, Peer, tls};

/// A refused peer has so long to read why.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// Accepts until the node closes.
pub(crate) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(shared.config.limits.max_handshakes));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.closing.cancelled() => return,
        };
        let Ok((socket, from)) = accepted else {
            // Out of descriptors, most likely.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            shared.counters.handshakes_refused.one();
            continue;
        };
        let shared = shared.clone();
        shared.tasks.clone().spawn(async move {
            let wire = shared.wire();
            let limit = shared.config.limits.handshake_timeout;
            let late = Error::Deadline { what: "the handshake", after: limit, sent: false };
            let welcomed = timeout(limit, handshake(&shared, socket, wire.clone())).await;
            drop(permit);
            match welcomed.unwrap_or(Err(late)) {
                Ok(Some(session)) => session.run(shared).await,
                Ok(None) => {}
                Err(error) => {
                    wire.end("the handshake failed");
                    shared.counters.handshakes_refused.one();
                    shared.event(Event::Refused { from, why: error.to_string() });
                }
            }
        });
    }
}

/// `None`: the other connection of the pair is kept.
async fn handshake(
    shared: &Arc<Shared>,
    socket: TcpStream,
    wire: Arc<Wire>,
) -> Result<Option<Session>, Error> {
    socket.set_nodelay(true).map_err(|error| Error::io("accepting", error))?;
    let counted = Counted::new(socket, wire.clone());
    let (io, certified): (Box<dyn Socket>, Option<Peer>) =
        match (&shared.tls, &shared.config.security) {
            (Some(tls), Security::MutualTls(identity)) => {
                let stream = match tls.acceptor.accept(counted).into_fallible().await {
                    Ok(stream) => stream,
                    Err((error, socket)) => {
                        linger(socket).await;
                        return Err(tls::explain(error));
                    }
                };
                let peer = tls::peer_of(stream.get_ref().1.peer_certificates(), identity)?;
                (Box::new(stream), Some(peer))
            }
            _ => (Box::new(counted), None),
        };
    let no_node = |error: h2::Error| {
        Error::Protocol(format!("whoever connected is no node of a fleet: {error}"))
    };
    let connection = wire.server().handshake(io).await.map_err(no_node)?;
    let (said, hello) = oneshot::channel();
    let link = Arc::new(OnceLock::new());
    let router = Router {
        shared: shared.clone(),
        wire: wire.clone(),
        hello: Mutex::new(Some(said)),
        link: link.clone(),
        room: Arc::new(Semaphore::new(wire.limits.max_channels)),
    };
    shared.tasks.spawn(router.drive(connection));

    let (input, respond) = hello.await.map_err(|_| wire.lost())?;
    let channel = accept_channel(Guard::uncounted(&wire), input, respond)?;
    let mut tx = MessageSender::control(channel.tx, MAX_CONTROL);
    let mut rx = MessageReceiver::new(channel.rx, MAX_CONTROL, Bytes::new(), None);
    let first = rx.recv().await?.ok_or_else(|| wire.lost())?;
    let Message::Hello(hello) = Message::decode(&first)? else {
        return Err(Error::Protocol("no hello came".to_owned()));
    };
    let myself = hello.me == shared.me;
    if let Err((why, text)) = check(shared, &hello, certified.as_ref()) {
        refuse(&mut tx, &wire, why, text.clone()).await;
        return Err(Error::Refused(text));
    }
    if myself {
        // The dialing half of this very process sees from the welcome that it dialed itself.
        tx.send(Message::Welcome(shared.hello()).encode()?).await?;
        let _ = timeout(REFUSED_LINGER, wire.close.cancelled()).await;
        wire.end("a connection to itself");
        return Ok(None);
    }
    let (control, outbox) = mpsc::channel(CONTROL_QUEUE);
    let opener = Opener::Acceptor(Parked::new(wire.limits.max_channels));
    let new = Link::new(shared.link_id(), hello.me, false, wire.clone(), control, opener);
    if link.set(new.clone()).is_err() || !shared.install(&new, None) {
        refuse(&mut tx, &wire, Refusal::Duplicate, "connected already".to_owned()).await;
        return Ok(None);
    }
    let session = Session { link: new.clone(), tx, rx, outbox, parks: None };
    match session.welcome(shared).await {
        Ok(session) => Ok(Some(session)),
        Err(error) => {
            new.wire.end("the welcome could not be sent");
            shared.ended(&new);
            Err(error)
        }
    }
}

/// The alert that says why would be lost if the socket closed while the peer still writes.
async fn linger<T: Socket>(mut socket: T) {
    let rest = async {
        let _ = socket.shutdown().await;
        let mut ignored = [0; 1024];
        while matches!(socket.read(&mut ignored).await, Ok(1..)) {}
    };
    let _ = timeout(REFUSED_LINGER, rest).await;
}

async fn refuse(tx: &mut MessageSender, wire: &Wire, why: Refusal, text: String) {
    let said = async {
        if let Ok(message) = (Message::Refused { why, text }).encode()
            && tx.send(message).await.is_ok()
        {
            wire.close.cancelled().await;
        }
    };
    let _ = timeout(REFUSED_LINGER, said).await;
    wire.end("refused");
}

fn check(
    shared: &Shared,
    hello: &Hello,
    certified: Option<&Peer>,
) -> Result<(), (Refusal, String)> {
    let (them, me) = (&hello.me, &shared.me);
    if hello.protocol != PROTOCOL {
        let text = format!(
            "{} speaks version {}, {} version {PROTOCOL}",
            them.node, hello.protocol, me.node
        );
        return Err((Refusal::Protocol, text));
    }
    if hello.fleet != shared.config.fleet {
        let text = format!(
            "{} is of fleet {}, {} is of fleet {}",
            them.node, hello.fleet, me.node, shared.config.fleet
        );
        return Err((Refusal::Fleet, text));
    }
    if certified.is_some_and(|peer| (&peer.node, &peer.pop) != (&them.node, &them.pop)) {
        let text = format!("{} ({}) came with another node's certificate", them.node, them.pop);
        return Err((Refusal::Identity, text));
    }
    if them.node == me.node && them != me {
        let text = format!("there are two nodes called {}", me.node);
        return Err((Refusal::SameName, text));
    }
    if shared.closing.is_cancelled() {
        return Err((Refusal::ShuttingDown, format!("{} is shutting down", me.node)));
    }
    let table = shared.table.borrow();
    if table.get(&them.node).is_none() && table.members.len() >= shared.config.limits.max_members {
        return Err((Refusal::Full, format!("the member table of {} is full", me.node)));
    }
    Ok(())
}

/// A stream the other side opened, not yet answered.
type Opened = (RecvStream, SendResponse<Bytes>);

/// Leads the streams of an accepted connection to where they belong.
struct Router {
    shared: Arc<Shared>,
    wire: Arc<Wire>,
    hello: Mutex<Option<oneshot::Sender<Opened>>>,
    link: Arc<OnceLock<Arc<Link>>>,
    /// The other side's calls and streams.
    room: Arc<Semaphore>,
}

impl Router {
    async fn drive<T: Socket>(self, mut connection: h2::server::Connection<T, Bytes>) {
        loop {
            tokio::select! {
                next = connection.accept() => match next {
                    Some(Ok((request, respond))) => self.route(request, respond),
                    Some(Err(error)) => {
                        self.wire.end(error.to_string());
                        return;
                    }
                    None => {
                        self.wire.end("the other side closed the connection");
                        return;
                    }
                },
                () = self.wire.close.cancelled() => return,
            }
        }
    }

    fn route(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (head, input) = request.into_parts();
        match (head.uri.path(), self.link.get()) {
            (HELLO, None) => {
                if let Some(said) = self.hello.lock().take() {
                    // Whoever waited has given up otherwise, and the connection ends.
                    let _ = said.send((input, respond));
                    return;
                }
            }
            (PARK, Some(link)) => {
                if let Opener::Acceptor(parked) = &link.opener {
                    parked.add(input, respond);
                    return;
                }
            }
            (OPEN, Some(link)) if !link.is_retired() => {
                if let Ok(permit) = self.room.clone().try_acquire_owned() {
                    let guard = Guard::counted(&self.wire, Some(permit));
                    if let Ok(channel) = accept_channel(guard, input, respond) {
                        let (shared, link) = (self.shared.clone(), link.clone());
                        self.shared.tasks.spawn(async move {
                            shared.handlers.serve(&link, channel).await;
                        });
                    }
                    return;
                }
            }
            _ => {}
        }
        respond.send_reset(Reason::REFUSED_STREAM);
    }
}
