//! Replicas that serve replicas: whom this one follows, and serving those that follow it.

use std::borrow::Cow;

use verge_replicate::follow::Event as FollowEvent;
use verge_replicate::relay::{RELAY_MAX_AGE, Relay, Source};
use verge_replicate::ship::{Event as ShipEvent, Origin, ShipConfig, Shipper};
use verge_replicate::upstream::Around;
use verge_replicate::{AckMode, NodeId};

use super::{Driver, Work};

impl Driver {
    /// Whom to follow from now on: a primary, possibly by way of others, or nobody.
    pub(super) fn follow_primary(&mut self, primary: Option<NodeId>) {
        self.followed = primary.filter(|node| *node != self.node.roster.me);
        self.choose_upstream();
    }

    /// Follows whoever is the best to follow now.
    pub(super) fn choose_upstream(&mut self) {
        let chosen = match (self.followed, self.primary) {
            (Some(primary), None) => {
                let linked = self.node.linked();
                let mut nodes = Cow::Borrowed(&linked.nodes);
                if !linked.nodes.contains(&primary) {
                    nodes = Cow::Owned(self.node.by_distance(&linked.nodes));
                }
                let preferred = linked.first_here.filter(|_| self.prefers_relay(primary));
                let as_of = self.follow.as_of();
                let around = Around { primary, preferred, linked: &nodes, as_of };
                Some(self.upstream.choose(&around, self.node.clock.now()))
            }
            _ => {
                self.upstream.forget();
                None
            }
        };
        self.queue.push_back(Work::Follow(FollowEvent::Upstream { node: chosen }));
        let relay = chosen.filter(|node| Some(*node) != self.followed);
        if self.desk.standing().relay == relay {
            return;
        }
        match relay.and_then(|relay| self.node.roster.peer(relay)) {
            Some(peer) => {
                tracing::info!(dataset = %self.desk.id, relay = %peer.node, "following by way of another replica");
            }
            None => tracing::info!(dataset = %self.desk.id, "following no other replica any more"),
        }
        self.desk.change(|standing| standing.relay = relay);
        self.node.changed();
    }

    /// Whether the first node of our PoP is followed, so that a primary elsewhere sends once to
    /// each PoP. Not where the primary waits for us: a relay's followers answer the relay.
    fn prefers_relay(&self, primary: NodeId) -> bool {
        let roster = &self.node.roster;
        let counts = self.node.config.ack != AckMode::Local && roster.voters.contains(&roster.me);
        let pop = roster.peer(primary).map(|peer| peer.pop);
        !counts && pop.is_some_and(|pop| pop != self.node.config.pop)
    }

    /// Whom we follow does not serve us.
    pub(super) fn turned_away(&mut self, by: NodeId) {
        if self.upstream.chosen() == Some(by) && self.followed != Some(by) {
            self.upstream.refused(by, self.node.clock.now());
            self.choose_upstream();
        }
    }

    /// Begins to serve others, if what we have is good enough for `from`.
    pub(super) fn begin_relay(&mut self, from: NodeId) {
        if self.shipper.is_some() {
            return;
        }
        let now = self.node.clock.now();
        let Some(relay) = Relay::begin(self.source(), from, RELAY_MAX_AGE, now) else { return };
        let (term, lineage) = (relay.term(), relay.lineage().clone());
        let (position, checksum) = self.dataset.checksum();
        // What is applied and not told to the core yet is told with the next input.
        if lineage.position(position.txid) != position {
            return;
        }
        let Ok(live) = self.dataset.subscribe(position) else { return };
        tracing::info!(dataset = %self.desk.id, term, at = %position, "serving other replicas");
        let origin = Origin::Relay { voters: self.node.roster.voters.clone() };
        (self.lineage, self.txid) = (lineage.clone(), position.txid);
        let config = ShipConfig::default();
        let txid = position.txid;
        self.shipper = Some(Shipper::new(config, origin, term, lineage, txid, checksum, now));
        self.relay = Some(relay);
        self.live = Some(live);
        self.positions = self.dataset.watch();
        self.tell_age();
    }

    fn source(&self) -> Source<'_> {
        Source {
            follow: &self.follow,
            upstream: self.upstream.chosen(),
            leads: self.primary.is_some(),
            seeding: self.seed.is_some() || self.installing,
        }
    }

    /// Tells the followers how old our data is, or that it is not to be had here any more.
    pub(super) fn keep_relay(&mut self) {
        match &self.relay {
            None => {}
            Some(relay) if relay.goes_on(self.source(), self.node.clock.now()) => self.tell_age(),
            Some(_) => self.end_relay(),
        }
    }

    fn tell_age(&mut self) {
        let as_of = self.follow.as_of();
        self.queue.push_back(Work::Ship(ShipEvent::Fresh { as_of }));
    }

    /// Sends the followers away.
    pub(super) fn end_relay(&mut self) {
        if self.relay.take().is_none() {
            return;
        }
        tracing::info!(dataset = %self.desk.id, "serving other replicas no longer");
        let now = self.node.clock.now();
        if let Some(mut shipper) = self.shipper.take() {
            for effect in shipper.on(ShipEvent::Retire, now) {
                self.ship_effect(effect);
            }
        }
        self.live = None;
        self.snapshots.clear();
    }
}
