//! Opens the data folder of a project where no process has it open.
//!
//! A folder of one place has a node that is primary of everything. Folders of several points of
//! presence are opened together, as `verge dev --pops` does, with their leases: a copy that was a
//! replica never becomes a primary by being alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use verge_fabric::{Fabric, FabricConfig, Peer, Security, Seed};
use verge_node::{FileRegister, Node, NodeConfig};
use verge_types::PopName;

use super::problem;
use crate::dev::fleet::{FLEET, FleetFile, name_of};
use crate::dev::places;
use crate::failure::Failure;

/// How long the nodes of one process look for each other.
const LINKED_WITHIN: Duration = Duration::from_secs(10);

/// Nodes of this process.
pub struct Opened {
    pub nodes: BTreeMap<PopName, Node>,
    fabrics: Vec<Fabric>,
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new("data", format!("{what}: {error}"))
}

async fn start(config: NodeConfig) -> Result<Node, Failure> {
    Node::start(config).await.map_err(|error| problem::of_node(&error))
}

/// The node of the only place.
pub async fn open_alone(data: &Path) -> Result<Opened, Failure> {
    let pop: PopName = places::ALONE.parse().map_err(|error| failed("the place", error))?;
    let mut config = NodeConfig::new(data.join(places::ALONE), name_of(&pop)?, pop.clone());
    config.control = true;
    let node = start(config).await?;
    Ok(Opened { nodes: [(pop, node)].into(), fabrics: Vec::new() })
}

/// All points of presence of the folder.
pub async fn open_fleet(data: &Path, fleet: &FleetFile) -> Result<Opened, Failure> {
    let leases = FileRegister::open(data.join("leases"));
    let leases = Arc::new(leases.map_err(|error| failed("the folder of leases", error))?);
    let mut peers = Vec::new();
    for pop in &fleet.pops {
        peers.push(Peer { node: name_of(pop)?, pop: pop.clone() });
    }
    let mut opened = Opened { nodes: BTreeMap::new(), fabrics: Vec::new() };
    for peer in &peers {
        let listen = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
        let name = FLEET.parse().map_err(|error| failed("the fleet", error))?;
        let (node, pop) = (peer.node.clone(), peer.pop.clone());
        let mut config = FabricConfig::new(name, node, pop, listen, Security::Loopback);
        let seed = |fabric: &Fabric| Seed {
            address: fabric.local_addr().to_string(),
            peer: Some(fabric.peer()),
        };
        config.seeds = opened.fabrics.iter().map(seed).collect();
        let fabric = Fabric::start(config).await;
        let fabric = fabric.map_err(|error| failed("the link between the places", error))?;
        let data = data.join(peer.pop.as_str());
        let mut config = NodeConfig::new(data, peer.node.clone(), peer.pop.clone());
        config.fabric = Some(fabric.clone());
        config.voters = peers.clone();
        config.placement = Some(fleet.primary.clone());
        config.register = Some(leases.clone());
        config.control = true;
        opened.fabrics.push(fabric);
        match start(config).await {
            Ok(node) => drop(opened.nodes.insert(peer.pop.clone(), node)),
            Err(failure) => {
                opened.close().await;
                return Err(failure);
            }
        }
    }
    for fabric in &opened.fabrics {
        for peer in peers.iter().filter(|peer| peer.node != *fabric.node()) {
            fabric.wait_linked(&peer.node, LINKED_WITHIN).await;
        }
    }
    Ok(opened)
}

impl Opened {
    pub async fn close(&self) {
        for node in self.nodes.values() {
            node.shutdown().await;
        }
        for fabric in &self.fabrics {
            fabric.shutdown(Duration::from_secs(1)).await;
        }
    }
}
