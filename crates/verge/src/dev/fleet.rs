//! What the points of presence of `verge dev --pops` have in common: who they are, the links
//! between them, and where leases are kept.
//!
//! Their nodes speak to each other over loopback sockets, as nodes of a fleet do over the
//! internet; each link is as slow as the cities are far apart until somebody changes it.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use verge_fabric::{
    Conditions, Fabric, FabricConfig, FleetName, Links, NodeId, Peer, Security, Seed, Timing,
    cities,
};
use verge_node::{FileRegister, NodeConfig};
use verge_types::PopName;

use crate::failure::Failure;

/// The round trip to a point of presence whose code is no known city.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(50);
/// The fleet that the places are.
pub const FLEET: &str = "dev";
/// Most places of one command; each is a node with threads and sockets.
const MAX_PLACES: usize = 16;
/// Silence after which a link counts as gone. On one machine no packet is late by chance, and
/// whoever cuts a link wants to see what follows.
const DOWN_AFTER: Duration = Duration::from_secs(4);
const SUSPECT_AFTER: Duration = Duration::from_millis(1500);
/// A healed link is dialed again within this.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What was asked for on the command line.
pub struct Wanted<'a> {
    pub pops: &'a [PopName],
    pub primary: Option<&'a PopName>,
    /// `fra-nrt=230ms`.
    pub round_trips: &'a [String],
    pub data: PathBuf,
}

/// Which places a data folder was last served with: `verge db` opens them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetFile {
    pub pops: Vec<PopName>,
    pub primary: PopName,
}

impl FleetFile {
    fn path(data: &Path) -> PathBuf {
        data.join("fleet.json")
    }

    /// `None` where there is none, or none that can be read.
    pub fn load(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(Self::path(data)).ok()?;
        let value: serde_json::Value = serde_json::from_str(&text).ok()?;
        let pop = |value: &serde_json::Value| value.as_str()?.parse().ok();
        let pops: Option<Vec<PopName>> = value["pops"].as_array()?.iter().map(pop).collect();
        let (pops, primary) = (pops?, pop(&value["primary"])?);
        pops.contains(&primary).then_some(Self { pops, primary })
    }

    fn save(&self, data: &Path) -> Result<(), Failure> {
        let pops: Vec<_> = self.pops.iter().map(PopName::as_str).collect();
        let value = serde_json::json!({ "pops": pops, "primary": self.primary.as_str() });
        let path = Self::path(data);
        let written = std::fs::create_dir_all(data)
            .and_then(|()| std::fs::write(&path, format!("{value:#}\n")));
        written.map_err(|error| Failure::io("write", &path, &error))
    }
}

pub struct Fleet {
    pub links: Links,
    pub peers: Vec<Peer>,
    placement: PopName,
    leases: PathBuf,
    /// What links are like when nobody has touched them.
    normal: Links,
    fabrics: Mutex<Vec<(PopName, Fabric)>>,
}

pub fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new("data", format!("{what}: {error}"))
}

pub fn name_of(pop: &PopName) -> Result<NodeId, Failure> {
    format!("{pop}-1").parse().map_err(|error| failed("no name for a node", error))
}

impl Fleet {
    /// `None` where no points of presence are named.
    pub fn new(wanted: &Wanted<'_>) -> Result<Option<Self>, Failure> {
        let Some(first) = wanted.pops.first() else { return Ok(None) };
        check(wanted)?;
        let placement = wanted.primary.unwrap_or(first).clone();
        FleetFile { pops: wanted.pops.to_vec(), primary: placement.clone() }.save(&wanted.data)?;
        let mut overrides = Vec::new();
        for text in wanted.round_trips {
            let parsed = cities::parse_round_trip(text);
            overrides
                .push(parsed.map_err(|error| Failure::new("usage", format!("--rtt: {error}")))?);
        }
        let mut peers = Vec::new();
        for pop in wanted.pops {
            peers.push(Peer { node: name_of(pop)?, pop: pop.clone() });
        }
        let cities: Vec<_> =
            peers.iter().map(|peer| (peer.node.clone(), peer.pop.to_string())).collect();
        let (links, normal) = (Links::new(1), Links::new(1));
        for world in [&links, &normal] {
            world.set_round_trips(&cities, &overrides, UNKNOWN_ROUND_TRIP);
        }
        Ok(Some(Self {
            links,
            normal,
            peers,
            placement,
            leases: wanted.data.join("leases"),
            fabrics: Mutex::default(),
        }))
    }

    fn peer(&self, pop: &PopName) -> Result<&Peer, Failure> {
        let found = self.peers.iter().find(|peer| peer.pop == *pop);
        found.ok_or_else(|| failed("no such point of presence", pop))
    }

    /// The two directions of a link as they are when nobody has touched them.
    pub fn normal(&self, from: &NodeId, to: &NodeId) -> Conditions {
        self.normal.get(from, to)
    }

    /// Begins to listen and to dial the others that run.
    pub async fn fabric(&self, pop: &PopName) -> Result<Fabric, Failure> {
        let fleet: FleetName = FLEET.parse().map_err(|error| failed("the fleet", error))?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let node = self.peer(pop)?.node.clone();
        let mut config = FabricConfig::new(fleet, node, pop.clone(), listen, Security::Loopback);
        config.links = Some(self.links.clone());
        config.timing = Timing {
            suspect_after: SUSPECT_AFTER,
            down_after: DOWN_AFTER,
            backoff_max: BACKOFF_MAX,
            ..Timing::default()
        };
        config.seeds = self.seeds();
        Fabric::start(config).await.map_err(|error| failed("the link between the places", error))
    }

    /// Those that run.
    fn seeds(&self) -> Vec<Seed> {
        let fabrics = self.fabrics.lock();
        let seed = |fabric: &Fabric| Seed {
            address: fabric.local_addr().to_string(),
            peer: Some(fabric.peer()),
        };
        fabrics.iter().map(|(_, fabric)| seed(fabric)).collect()
    }

    pub fn node_config(
        &self,
        pop: &PopName,
        data: &Path,
        fabric: Fabric,
    ) -> Result<NodeConfig, Failure> {
        let mut config = NodeConfig::new(data, self.peer(pop)?.node.clone(), pop.clone());
        config.fabric = Some(fabric);
        config.voters = self.peers.clone();
        config.placement = Some(self.placement.clone());
        let leases = FileRegister::open(&self.leases);
        config.register = Some(Arc::new(leases.map_err(|e| failed("the folder of leases", e))?));
        config.control = true;
        Ok(config)
    }

    /// From now on others begin with this one.
    pub fn joined(&self, pop: &PopName, fabric: &Fabric) {
        self.fabrics.lock().push((pop.clone(), fabric.clone()));
    }

    /// Whether two places have a connection now: after a cut they find out within seconds.
    pub fn connected(&self, a: &PopName, b: &NodeId) -> bool {
        let fabrics = self.fabrics.lock();
        let Some((_, fabric)) = fabrics.iter().find(|(pop, _)| pop == a) else { return false };
        fabric.members().borrow().get(b).is_some_and(|member| member.linked)
    }

    pub fn left(&self, pop: &PopName) {
        self.fabrics.lock().retain(|(other, _)| other != pop);
    }
}

fn check(wanted: &Wanted<'_>) -> Result<(), Failure> {
    let different: BTreeSet<_> = wanted.pops.iter().collect();
    if different.len() < wanted.pops.len() {
        return Err(Failure::new("usage", "--pops: a name stands twice"));
    }
    if wanted.pops.len() > MAX_PLACES {
        let message = format!("--pops: at most {MAX_PLACES} points of presence on one machine");
        return Err(Failure::new("usage", message));
    }
    match wanted.primary {
        Some(primary) if !wanted.pops.contains(primary) => Err(Failure::new(
            "usage",
            format!("--primary: `{primary}` is none of the points of presence of --pops"),
        )),
        _ => Ok(()),
    }
}
