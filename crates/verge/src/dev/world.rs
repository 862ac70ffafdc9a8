//! What can be done to the points of presence and the links of `verge dev --pops` while it
//! runs. Keys and `verge link` / `verge pop` both come here.

use std::sync::Arc;
use std::time::Duration;

use verge_bundle::nearest;
use verge_fabric::{Conditions, NodeId};
use verge_node::DatasetStatus;

use super::fleet::Fleet;
use super::places::Place;
use super::port::Port;
use super::site::Site;
use crate::failure::Failure;
use crate::running::{Condition, LinkState, PopState};

pub struct World {
    pub places: Arc<[Place]>,
    pub sites: Vec<Arc<Site>>,
    /// As many as there are places, in their order.
    pub ports: Vec<Port>,
    pub scheme: &'static str,
    /// `None` with one place only.
    fleet: Option<Arc<Fleet>>,
    /// One thing at a time is done to places.
    acting: tokio::sync::Mutex<()>,
}

impl World {
    pub fn new(
        places: Arc<[Place]>,
        sites: Vec<Arc<Site>>,
        ports: Vec<Port>,
        scheme: &'static str,
        fleet: Option<Arc<Fleet>>,
    ) -> Self {
        Self { places, sites, ports, scheme, fleet, acting: tokio::sync::Mutex::new(()) }
    }

    /// True where there are several places, with links between them.
    pub fn has_links(&self) -> bool {
        self.fleet.is_some()
    }

    pub fn url(&self, place: usize) -> String {
        format!("{}://localhost:{}", self.scheme, self.ports[place].number)
    }

    fn fleet(&self) -> Result<&Fleet, Failure> {
        self.fleet.as_deref().ok_or_else(|| {
            Failure::new("no_pops", "this verge dev runs one place only, without links")
                .hint("start it with several points of presence: verge dev --pops iad,fra,nrt")
        })
    }

    fn index(&self, name: &str) -> Result<usize, Failure> {
        self.fleet()?;
        let names = || self.places.iter().map(|place| place.pop.as_str());
        if let Some(index) = names().position(|known| known == name) {
            return Ok(index);
        }
        let all: Vec<_> = names().collect();
        let message = format!("there is no point of presence `{name}`");
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`? there are {}", all.join(", ")),
            None => format!("there are {}", all.join(", ")),
        };
        Err(Failure::new("unknown_pop", message).hint(hint))
    }

    fn link(&self, a: &str, b: &str) -> Result<(NodeId, NodeId), Failure> {
        let peers = &self.fleet()?.peers;
        let (first, second) = (self.index(a)?, self.index(b)?);
        if first == second {
            let message = format!("a link is between two points of presence, not `{a}` and itself");
            return Err(Failure::new("unknown_link", message));
        }
        Ok((peers[first].node.clone(), peers[second].node.clone()))
    }

    /// Nothing passes between two places, or from the first to the second only.
    pub fn cut(&self, a: &str, b: &str, one_way: bool) -> Result<Vec<LinkState>, Failure> {
        let (from, to) = self.link(a, b)?;
        let links = &self.fleet()?.links;
        if one_way {
            links.cut_one_way(&from, &to);
        } else {
            links.cut(&from, &to);
        }
        self.between(a, b)
    }

    /// What is not named stays as it is.
    pub fn slow(&self, a: &str, b: &str, condition: Condition) -> Result<Vec<LinkState>, Failure> {
        let (from, to) = self.link(a, b)?;
        self.fleet()?.links.update_both(&from, &to, |now| condition.change(now));
        self.between(a, b)
    }

    /// One link as it was at the start, or all of them.
    pub fn heal(&self, pair: Option<(&str, &str)>) -> Result<Vec<LinkState>, Failure> {
        let fleet = self.fleet()?;
        let mend = |from: &NodeId, to: &NodeId| {
            fleet.links.set(from, to, fleet.normal(from, to));
            fleet.links.set(to, from, fleet.normal(to, from));
        };
        match pair {
            Some((a, b)) => {
                let (from, to) = self.link(a, b)?;
                mend(&from, &to);
                self.between(a, b)
            }
            None => {
                for (at, peer) in fleet.peers.iter().enumerate() {
                    for other in &fleet.peers[at + 1..] {
                        mend(&peer.node, &other.node);
                    }
                }
                self.links()
            }
        }
    }

    fn between(&self, a: &str, b: &str) -> Result<Vec<LinkState>, Failure> {
        let mut all = self.links()?;
        all.retain(|link| (link.a == a && link.b == b) || (link.a == b && link.b == a));
        Ok(all)
    }

    /// Every pair of places, in order.
    pub fn links(&self) -> Result<Vec<LinkState>, Failure> {
        let fleet = self.fleet()?;
        let mut all = Vec::new();
        for (at, a) in fleet.peers.iter().enumerate() {
            for b in &fleet.peers[at + 1..] {
                let there = fleet.links.get(&a.node, &b.node);
                let back = fleet.links.get(&b.node, &a.node);
                let normal = (fleet.normal(&a.node, &b.node), fleet.normal(&b.node, &a.node));
                let connected = fleet.connected(&a.pop, &b.node);
                let link = state(a.pop.as_str(), b.pop.as_str(), (there, back), normal);
                all.push(LinkState { connected, ..link });
            }
        }
        Ok(all)
    }

    /// Ends a place as a crash would: its port is closed, its node says nothing to anyone, its
    /// data stays. True if it was up.
    pub async fn kill(&self, name: &str) -> Result<bool, Failure> {
        let index = self.index(name)?;
        let _one = self.acting.lock().await;
        if self.places[index].is_down().await {
            return Ok(false);
        }
        self.ports[index].cut().await;
        let killed = self.places[index].kill().await;
        for site in &self.sites {
            // A place that is down needs nothing, so that this cannot fail.
            let _ = site.restart_at(index).await;
        }
        Ok(killed)
    }

    /// Starts a place on the data that it has. True if it was down.
    pub async fn start(&self, name: &str) -> Result<bool, Failure> {
        let index = self.index(name)?;
        let _one = self.acting.lock().await;
        if !self.places[index].start().await? {
            return Ok(false);
        }
        for site in &self.sites {
            site.restart_at(index).await?;
        }
        self.ports[index].reopen().await?;
        Ok(true)
    }

    pub async fn pops(&self) -> Vec<PopState> {
        let mut all = Vec::new();
        for (index, place) in self.places.iter().enumerate() {
            let statuses = self.statuses(index).await;
            all.push(PopState {
                pop: place.pop.to_string(),
                url: self.url(index),
                up: !place.is_down().await,
                databases: statuses.unwrap_or_default(),
            });
        }
        all
    }

    /// The databases that are in use at one place; `None` if it is down.
    pub async fn statuses(&self, place: usize) -> Option<Vec<DatasetStatus>> {
        let place = &self.places[place];
        match place.running().await {
            // It may look at files.
            Some(node) => tokio::task::spawn_blocking(move || node.status()).await.ok(),
            None if place.is_down().await => None,
            None => Some(Vec::new()),
        }
    }
}

fn state(
    a: &str,
    b: &str,
    (there, back): (Conditions, Conditions),
    normal: (Conditions, Conditions),
) -> LinkState {
    LinkState {
        a: a.to_owned(),
        b: b.to_owned(),
        rtt_ms: millis(there.delay + back.delay),
        normal_rtt_ms: millis(normal.0.delay + normal.1.delay),
        jitter_ms: millis(there.jitter.max(back.jitter)),
        loss: there.loss.max(back.loss),
        bandwidth: there.bandwidth.or(back.bandwidth),
        cut: there.cut && back.cut,
        connected: false,
        cut_from: match (there.cut, back.cut) {
            (true, false) => Some(a.to_owned()),
            (false, true) => Some(b.to_owned()),
            _ => None,
        },
    }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}
