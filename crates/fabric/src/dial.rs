//! The dialing side of a connection, from the socket to the welcome.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::channel::{Channel, Guard};
use crate::config::Security;
use crate::control::{Hello, MAX_CONTROL, Message, PROTOCOL, Refusal};
use crate::link::{HELLO, Link, Opener, request};
use crate::membership::Target;
use crate::message::{MessageReceiver, MessageSender};
use crate::session::{CONTROL_QUEUE, Session};
use crate::shared::{Event, REPLACED_GRACE, Shared};
use crate::wire::{Counted, Socket, Wire};
use crate::{Error, Peer, shaped, tls};

/// Why there is no connection of ours.
enum Failure {
    Failed(Error),
    /// A connection of the pair exists and is the one to keep.
    Needless,
    /// The address is this node's own.
    Myself,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Dials once, and serves the connection to its end.
pub(crate) async fn dial(shared: Arc<Shared>, target: Target) {
    shared.counters.dials.one();
    let attempt = async {
        tokio::select! {
            session = connect(&shared, &target) => session,
            () = shared.closing.cancelled() => Err(Failure::Failed(Error::ShuttingDown)),
        }
    };
    match attempt.await {
        Ok(session) => {
            let link = session.link.clone();
            if shared.install(&link, Some(&target.address)) {
                session.run(shared).await;
            } else {
                // The other side may have begun to use it: it ends like a replaced one.
                shared.decide(|core, now| {
                    core.dial_needless(now, &target);
                    Vec::new()
                });
                shared.counters.links_made.one();
                shared.retire(&link, false, REPLACED_GRACE);
                session.run(shared).await;
            }
        }
        Err(Failure::Needless) => shared.decide(|core, now| {
            core.dial_needless(now, &target);
            Vec::new()
        }),
        Err(Failure::Myself) => {
            shared.decide(|core, now| core.dial_failed(now, &target, "it is this node", true));
        }
        Err(Failure::Failed(error)) => {
            let why = error.to_string();
            shared.counters.dial_failures.one();
            shared.decide(|core, now| core.dial_failed(now, &target, &why, false));
            shared.event(Event::DialFailed { address: target.address, node: target.node, why });
        }
    }
}

async fn connect(shared: &Arc<Shared>, target: &Target) -> Result<Session, Failure> {
    let limits = &shared.config.limits;
    let late = |what, after| Error::Deadline { what, after, sent: false };
    let socket = timeout(limits.connect_timeout, socket(shared, target))
        .await
        .map_err(|_| late("connecting", limits.connect_timeout))??;
    let wire = shared.wire();
    let session =
        timeout(limits.handshake_timeout, handshake(shared, target, socket, wire.clone()))
            .await
            .unwrap_or_else(|_| Err(late("the handshake", limits.handshake_timeout).into()));
    session.inspect_err(|_| wire.end("the handshake failed"))
}

async fn socket(shared: &Shared, target: &Target) -> Result<Box<dyn Socket>, Error> {
    let failed = |error| Error::io(format!("connecting to {}", target.address), error);
    let address = lookup_host(&target.address)
        .await
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    let tcp = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    };
    let world = shared.config.links.as_ref();
    let far = world.and_then(|links| target.node.clone().or_else(|| links.listener(&address)));
    Ok(match (world, far) {
        (Some(links), Some(far)) => Box::new(
            shaped::connect(links, &shared.me.node, &far, tcp, &shared.stop)
                .await
                .map_err(failed)?,
        ),
        _ => Box::new(tcp.await.map_err(failed)?),
    })
}

async fn handshake(
    shared: &Arc<Shared>,
    target: &Target,
    socket: Box<dyn Socket>,
    wire: Arc<Wire>,
) -> Result<Session, Failure> {
    let counted = Counted::new(socket, wire.clone());
    let (io, certified): (Box<dyn Socket>, Option<Peer>) =
        match (&shared.tls, &shared.config.security) {
            (Some(tls), Security::MutualTls(identity)) => {
                let stream =
                    tls.connector.connect(tls.name.clone(), counted).await.map_err(tls::explain)?;
                let peer = tls::peer_of(stream.get_ref().1.peer_certificates(), identity)?;
                (Box::new(stream), Some(peer))
            }
            _ => (Box::new(counted), None),
        };
    let (requests, connection) = wire.client().handshake(io).await.map_err(refused)?;
    // The far end's refusal of our certificate shows on the first read: after the handshake.
    let (failed, failure) = tokio::sync::oneshot::channel();
    let driver = wire.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            end = connection => match end {
                Ok(()) => driver.end("the other side closed the connection"),
                Err(error) => {
                    driver.end(error.to_string());
                    let _ = failed.send(error);
                }
            },
            () = driver.close.cancelled() => {}
        }
    });
    let hello = hello(shared, target, requests, wire, certified);
    match hello.await {
        Err(Failure::Failed(Error::Refused(why))) => match failure.await {
            Ok(error) if error.is_io() => Err(refused(error).into()),
            _ => Err(Error::Refused(why).into()),
        },
        other => other,
    }
}

fn refused(error: h2::Error) -> Error {
    if error.is_io() {
        error.into_io().map_or_else(|| Error::Protocol("h2".to_owned()), tls::explain)
    } else {
        Error::Protocol(format!("the other side is no node of a fleet: {error}"))
    }
}

async fn hello(
    shared: &Arc<Shared>,
    target: &Target,
    requests: SendRequest<Bytes>,
    wire: Arc<Wire>,
    certified: Option<Peer>,
) -> Result<Session, Failure> {
    let (answer, stream) = requests
        .clone()
        .ready()
        .await
        .and_then(|mut requests| requests.send_request(request(HELLO), false))
        .map_err(|error| wire.error(&error))?;
    let channel = Channel::opening(Guard::uncounted(&wire), answer, stream);
    let mut tx = MessageSender::control(channel.tx, MAX_CONTROL);
    let mut rx = MessageReceiver::new(channel.rx, MAX_CONTROL, Bytes::new(), None);
    tx.send(Message::Hello(shared.hello()).encode()?).await?;
    let first = rx.recv().await?.ok_or_else(|| wire.lost())?;
    let welcome = match Message::decode(&first)? {
        Message::Welcome(welcome) => welcome,
        Message::Refused { why: Refusal::Duplicate, .. } => return Err(Failure::Needless),
        Message::Refused { text, .. } => {
            wire.end("refused");
            return Err(Error::Refused(text).into());
        }
        _ => return Err(Error::Protocol("no welcome came".to_owned()).into()),
    };
    if welcome.me == shared.me {
        return Err(Failure::Myself);
    }
    check(shared, target, &welcome, certified.as_ref()).inspect_err(|_| wire.end("refused"))?;
    let (control, outbox) = mpsc::channel(CONTROL_QUEUE);
    let opener = Opener::Dialer(requests.clone());
    let link = Link::new(shared.link_id(), welcome.me, true, wire, control, opener);
    Ok(Session { link, tx, rx, outbox, parks: Some(requests) })
}

fn check(
    shared: &Shared,
    target: &Target,
    welcome: &Hello,
    certified: Option<&Peer>,
) -> Result<(), Error> {
    let them = &welcome.me;
    let wrong = |text: String| Err(Error::Refused(text));
    if welcome.protocol != PROTOCOL {
        return wrong(format!("{} speaks version {}", them.node, welcome.protocol));
    }
    if welcome.fleet != shared.config.fleet {
        return wrong(format!("{} is of fleet {}", them.node, welcome.fleet));
    }
    if certified.is_some_and(|peer| (&peer.node, &peer.pop) != (&them.node, &them.pop)) {
        return wrong(format!("{} ({}) has another node's certificate", them.node, them.pop));
    }
    match &target.node {
        Some(node) if *node != them.node => {
            wrong(format!("at {} is {}, not {node}", target.address, them.node))
        }
        _ if them.node == shared.me.node => {
            wrong(format!("the node at {} is called {} too", target.address, them.node))
        }
        _ => Ok(()),
    }
}
