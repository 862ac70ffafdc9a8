//! Replicas that serve replicas: whom a node follows, and serving those that follow it.

use verge_replicate::follow::Event as FollowEvent;
use verge_replicate::relay::{Relay, Source};
use verge_replicate::ship::{Event as ShipEvent, Origin, Shipper};
use verge_replicate::upstream::Around;

use super::{Process, Work, id};
use crate::Bug;
use crate::world::World;

impl World {
    /// Whom the node follows now. Links that are cut are known at once.
    pub(super) fn choose_upstream(&mut self, node: usize) -> Work {
        let now = self.clock(node);
        let reached = |other: &usize| {
            *other != node && !self.net.is_cut(node, *other) && !self.net.is_cut(*other, node)
        };
        let linked: Vec<_> = (0..self.nodes.len()).filter(reached).map(id).collect();
        let preferred = self.plan.relay_of(node).map(id);
        let chosen = self.nodes[node].process.as_mut().and_then(|process| {
            match process.followed.filter(|_| process.primary.is_none()) {
                Some(primary) => {
                    let primary = id(primary);
                    let as_of = process.follow.as_of();
                    let around = Around { primary, preferred, linked: &linked, as_of };
                    Some(process.upstream.choose(&around, now))
                }
                None => {
                    process.upstream.forget();
                    None
                }
            }
        });
        Work::Follow(FollowEvent::Upstream { node: chosen })
    }

    /// Whom the node follows says goodbye.
    pub(super) fn turned_away(&mut self, node: usize, by: usize) -> Option<Work> {
        let now = self.clock(node);
        let process = self.nodes[node].process.as_mut()?;
        if process.upstream.chosen() != Some(id(by)) || process.followed == Some(by) {
            return None;
        }
        process.upstream.refused(id(by), now);
        Some(self.choose_upstream(node))
    }

    /// Begins to serve others, if what the node has is good enough for `from`.
    pub(super) fn begin_relay(&mut self, node: usize, from: usize) {
        let (now, config) = (self.clock(node), self.plan.ship());
        let max_age = self.plan.upstream().stale;
        let voters = self.plan.lease(node, 0).voters;
        let machine = &mut self.nodes[node];
        let Some(process) = &mut machine.process else { return };
        if process.shipper.is_some() {
            return;
        }
        let Some(relay) = Relay::begin(source(process), id(from), max_age, now) else { return };
        let (term, lineage) = (relay.term(), relay.lineage().clone());
        let (_, checksum) = machine.storage.head();
        process.relay = Some(relay);
        let txid = process.txid;
        let origin = match self.plan.bug {
            Some(Bug::RelayAsPrimary) => {
                Origin::Primary { me: id(node), mode: self.plan.mode, voters }
            }
            _ => Origin::Relay { voters },
        };
        process.shipper = Some(Shipper::new(config, origin, term, lineage, txid, checksum, now));
        self.relays += 1;
    }

    /// Tells the followers how old the data is, or that it is not to be had here any more.
    pub(super) fn keep_relay(&mut self, node: usize) -> Option<Work> {
        let process = self.nodes[node].process.as_ref()?;
        if !process.relay.as_ref()?.goes_on(source(process), self.clock(node)) {
            self.end_relay(node);
            return None;
        }
        Some(Work::Ship(ShipEvent::Fresh { as_of: process.follow.as_of() }))
    }

    /// Sends the followers away.
    pub(super) fn end_relay(&mut self, node: usize) {
        let now = self.clock(node);
        let Some(process) = &mut self.nodes[node].process else { return };
        if process.relay.take().is_none() {
            return;
        }
        let Some(mut shipper) = process.shipper.take() else { return };
        let (term, effects) = (shipper.term(), shipper.on(ShipEvent::Retire, now));
        for effect in effects {
            // Goodbyes, and the ends of snapshots: nothing that asks for more.
            self.ship_effect(node, term, effect, &mut Default::default());
        }
    }
}

fn source(process: &Process) -> Source<'_> {
    Source {
        follow: &process.follow,
        upstream: process.upstream.chosen(),
        leads: process.primary.is_some(),
        seeding: process.seeding,
    }
}
