//! What all tasks of a node's fabric share, and how decisions of the membership become deeds.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::FabricConfig;
use crate::control::{Hello, Message, PROTOCOL, Record};
use crate::link::{Link, Opener};
use crate::membership::{Effect, LinkFacts, MemberTable, Membership, replaces};
use crate::metrics::Counters;
use crate::serve::Handlers;
use crate::tls::Tls;
use crate::wire::Wire;
use crate::{Error, NodeId, Peer, dial};

/// A connection that was replaced may finish what it carries for so long.
pub(crate) const REPLACED_GRACE: Duration = Duration::from_secs(10);

/// What happened, for the owner's log.
#[derive(Clone, Debug)]
pub enum Event {
    /// A connection stands.
    Linked { peer: Peer, dialed: bool },
    /// The connection ended, and no other one had replaced it.
    Unlinked { peer: Peer, why: String },
    /// An attempt to connect failed.
    DialFailed { address: String, node: Option<NodeId>, why: String },
    /// Somebody connected and was turned away.
    Refused { from: SocketAddr, why: String },
}

pub(crate) struct Shared {
    pub config: FabricConfig,
    pub tls: Option<Tls>,
    pub me: Record,
    pub local: SocketAddr,
    pub start: Instant,
    pub core: Mutex<Membership>,
    pub table: watch::Sender<Arc<MemberTable>>,
    pub links: RwLock<HashMap<NodeId, Arc<Link>>>,
    pub handlers: Handlers,
    pub counters: Arc<Counters>,
    pub events: broadcast::Sender<Event>,
    /// No new connections, calls or streams.
    pub closing: CancellationToken,
    /// Everything ends now.
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
    pub next_link: AtomicU64,
    pub killed: AtomicBool,
}

impl Shared {
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn hello(&self) -> Hello {
        Hello { protocol: PROTOCOL, fleet: self.config.fleet.clone(), me: self.me.clone() }
    }

    pub fn wire(&self) -> Arc<Wire> {
        Wire::new(self.config.limits.clone(), self.counters.clone(), &self.stop)
    }

    pub fn link_id(&self) -> u64 {
        self.next_link.fetch_add(1, Ordering::Relaxed)
    }

    pub fn event(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
    }

    /// Lets the membership decide, publishes the table, does what was decided.
    pub fn decide(self: &Arc<Self>, step: impl FnOnce(&mut Membership, Duration) -> Vec<Effect>) {
        let mut core = self.core.lock();
        let effects = step(&mut core, self.now());
        if effects.contains(&Effect::Publish) {
            // Under the lock, so that tables are published in order.
            self.table.send_replace(Arc::new(core.table()));
        }
        drop(core);
        for effect in effects {
            match effect {
                Effect::Publish => {}
                Effect::Dial(target) if self.closing.is_cancelled() => drop(target),
                Effect::Dial(target) => {
                    self.tasks.spawn(dial::dial(self.clone(), target));
                }
                Effect::Unlink { node, link } => self.unlink(&node, link),
            }
        }
    }

    fn unlink(&self, node: &NodeId, id: u64) {
        if let Some(link) = self.links.read().get(node).filter(|link| link.id == id) {
            let silence = link.wire.heard().elapsed();
            link.wire.end(format!("nothing was heard for {:.1} s", silence.as_secs_f64()));
        }
    }

    fn facts(&self, link: &Link) -> LinkFacts {
        LinkFacts {
            by_lesser: link.by_me == (self.me.node < link.record.node),
            incarnation: link.record.incarnation,
            silent: link.wire.close.is_cancelled()
                || link.wire.heard().elapsed() >= self.config.timing.suspect_after,
        }
    }

    /// Makes a new connection the one to use, unless the existing one is to be kept: then false.
    pub fn install(self: &Arc<Self>, link: &Arc<Link>, dialed: Option<&str>) -> bool {
        let mut links = self.links.write();
        let old = links.get(&link.record.node).cloned();
        if let Some(old) = &old
            && !replaces(self.facts(link), self.facts(old))
        {
            self.counters.duplicates.one();
            return false;
        }
        links.insert(link.record.node.clone(), link.clone());
        drop(links);
        if let Some(old) = old {
            self.counters.duplicates.one();
            self.retire(&old, false, REPLACED_GRACE);
        }
        self.counters.links_made.one();
        self.decide(|core, now| core.linked(now, link.record.clone(), link.id, dialed));
        self.event(Event::Linked { peer: link.peer(), dialed: link.by_me });
        true
    }

    /// The connection ended.
    pub fn ended(self: &Arc<Self>, link: &Arc<Link>) {
        link.retire();
        if let Opener::Acceptor(parked) = &link.opener {
            parked.close();
        }
        let mut links = self.links.write();
        let current = links.get(&link.record.node).is_some_and(|current| current.id == link.id);
        if current {
            links.remove(&link.record.node);
        }
        drop(links);
        let why = link.wire.why();
        self.counters.links_lost.one();
        self.decide(|core, now| core.unlinked(now, &link.record.node, link.id, &why));
        if current {
            self.event(Event::Unlinked { peer: link.peer(), why });
        }
    }

    /// No new channels on a connection; it ends when the old ones have, or after `grace`.
    pub fn retire(self: &Arc<Self>, link: &Arc<Link>, leaving: bool, grace: Duration) {
        if !link.retire() {
            return;
        }
        link.wire.channels.close();
        // A full queue means that the other side takes nothing: then the grace decides.
        let _ = link.control.try_send(Message::Goodbye { leaving });
        let wire = link.wire.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = wire.close.cancelled() => {}
                () = tokio::time::sleep(grace) => {
                    wire.forced.store(true, Ordering::Release);
                    wire.end("closed with calls or streams still open");
                }
            }
        });
    }

    /// The connection to a node, if there is one.
    pub fn link(&self, node: &NodeId) -> Result<Arc<Link>, Error> {
        if self.closing.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        if *node == self.me.node {
            return Err(Error::Myself(node.clone()));
        }
        if let Some(link) = self.links.read().get(node) {
            return Ok(link.clone());
        }
        match self.table.borrow().get(node) {
            Some(member) => {
                Err(Error::NotLinked { node: node.clone(), why: member.last_error.clone() })
            }
            None => Err(Error::UnknownNode(node.clone())),
        }
    }
}
