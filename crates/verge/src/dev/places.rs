//! Where apps run in `verge dev`: one place, or several points of presence with links between
//! them that are as slow as the cities are far apart.
//!
//! Each place has isolates, a data folder and a node of its own. The nodes of several places
//! speak to each other over loopback sockets, as nodes of a fleet do over the internet.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use verge_bundle::AppConfig;
use verge_fabric::{Fabric, FabricConfig, FleetName, Links, NodeId, Peer, Security, Seed, cities};
use verge_node::{FileRegister, Node, NodeConfig};
use verge_runtime::{Runtime, SqlDatabase};
use verge_types::{Binding, Deployment, PopName};

use crate::db;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// The round trip to a point of presence whose code is no known city.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(50);
/// Most places of one command; each is a node with threads and sockets.
const MAX_PLACES: usize = 16;
/// The only place where none are named.
pub const ALONE: &str = "dev";
/// The fleet that the places are.
pub const FLEET: &str = "dev";

/// One point of presence.
pub struct Place {
    pub pop: PopName,
    pub runtime: Runtime,
    data: PathBuf,
    /// Started with the first database that an app asks for, if it was not before.
    node: OnceCell<Node>,
    fabric: Option<Fabric>,
}

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

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new("data", format!("{what}: {error}"))
}

pub fn name_of(pop: &PopName) -> Result<NodeId, Failure> {
    format!("{pop}-1").parse().map_err(|error| failed("no name for a node", error))
}

/// Makes the places; `isolates` starts the isolates of one.
pub async fn start(
    wanted: &Wanted<'_>,
    isolates: impl Fn() -> Result<Runtime, Failure>,
) -> Result<Arc<[Place]>, Failure> {
    if wanted.pops.is_empty() {
        let pop: PopName = ALONE.parse().map_err(|error| failed("the place", error))?;
        let place = Place {
            data: wanted.data.join(ALONE),
            pop,
            runtime: isolates()?,
            node: OnceCell::new(),
            fabric: None,
        };
        return Ok(Arc::new([place]));
    }
    check(wanted)?;
    let primary = wanted.primary.unwrap_or(&wanted.pops[0]).clone();
    FleetFile { pops: wanted.pops.to_vec(), primary: primary.clone() }.save(&wanted.data)?;
    let mut overrides = Vec::new();
    for text in wanted.round_trips {
        let parsed = cities::parse_round_trip(text);
        overrides.push(parsed.map_err(|error| Failure::new("usage", format!("--rtt: {error}")))?);
    }
    let mut peers = Vec::new();
    for pop in wanted.pops {
        peers.push(Peer { node: name_of(pop)?, pop: pop.clone() });
    }
    let links = Links::new(1);
    let cities: Vec<_> =
        peers.iter().map(|peer| (peer.node.clone(), peer.pop.to_string())).collect();
    links.set_round_trips(&cities, &overrides, UNKNOWN_ROUND_TRIP);
    let mut places: Vec<Place> = Vec::new();
    for peer in &peers {
        let fabric = fabric(peer, &places, &links).await?;
        let mut config = NodeConfig::new(
            wanted.data.join(peer.pop.as_str()),
            peer.node.clone(),
            peer.pop.clone(),
        );
        config.fabric = Some(fabric.clone());
        config.voters = peers.clone();
        config.placement = Some(primary.clone());
        let leases = FileRegister::open(wanted.data.join("leases"));
        config.register = Some(Arc::new(leases.map_err(|e| failed("the folder of leases", e))?));
        config.control = true;
        let data = config.data.clone();
        let node = Node::start(config).await.map_err(|error| taken(&data, &error))?;
        places.push(Place {
            pop: peer.pop.clone(),
            runtime: isolates()?,
            data,
            node: OnceCell::new_with(Some(node)),
            fabric: Some(fabric),
        });
    }
    Ok(places.into())
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

async fn fabric(peer: &Peer, others: &[Place], links: &Links) -> Result<Fabric, Failure> {
    let fleet: FleetName = FLEET.parse().map_err(|error| failed("the fleet", error))?;
    let listen = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let mut config =
        FabricConfig::new(fleet, peer.node.clone(), peer.pop.clone(), listen, Security::Loopback);
    config.links = Some(links.clone());
    config.seeds = others
        .iter()
        .filter_map(|place| place.fabric.as_ref())
        .map(|other| Seed { address: other.local_addr().to_string(), peer: Some(other.peer()) })
        .collect();
    Fabric::start(config).await.map_err(|error| failed("the link between the places", error))
}

fn taken(data: &Path, error: &verge_node::Error) -> Failure {
    failed(&format!("the data in {}", data.display()), error)
        .hint("another `verge dev`, or a `verge db shell`, may be running here; --data names another folder")
}

impl Place {
    async fn node(&self) -> Result<&Node, Failure> {
        self.node
            .get_or_try_init(|| async {
                let mut config = NodeConfig::new(&self.data, name_of(&self.pop)?, self.pop.clone());
                config.control = true;
                Node::start(config).await.map_err(|error| taken(&self.data, &error))
            })
            .await
    }

    /// What a deployment's database bindings lead to here. Databases are made on first use.
    pub async fn databases(
        &self,
        deployment: &Deployment,
    ) -> Result<HashMap<String, Arc<SqlDatabase>>, Failure> {
        let mut databases = HashMap::new();
        for (name, binding) in &deployment.bindings {
            if let Binding::Database(target) = binding {
                let opened = self.node().await?.database(&target.dataset).await;
                let database =
                    opened.map_err(|error| failed(&format!("the database env.{name}"), error))?;
                databases.insert(name.clone(), database);
            }
        }
        Ok(databases)
    }

    /// Tells of migrations of an app's databases that did not run yet.
    pub async fn tell_pending_migrations(&self, config: &AppConfig, terminal: &Terminal) {
        if config.databases.is_empty() {
            return;
        }
        // A node that does not start has been told of already.
        let Ok(node) = self.node().await else { return };
        db::tell_pending(node, &config.databases, terminal, config.name.as_str()).await;
    }

    /// Ends the node in good order.
    pub async fn shutdown(&self) {
        if let Some(node) = self.node.get() {
            node.shutdown().await;
        }
        if let Some(fabric) = &self.fabric {
            fabric.shutdown(Duration::from_secs(1)).await;
        }
    }
}
