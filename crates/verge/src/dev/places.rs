//! Where apps run in `verge dev`: one place, or several points of presence.
//!
//! Each place has isolates, a data folder and a node of its own. A place that was killed keeps
//! its folder, as a machine that lost its power does, and goes on from there when it is started.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::RwLock;
use verge_bundle::AppConfig;
use verge_fabric::Fabric;
use verge_node::{Node, NodeConfig};
use verge_runtime::{Runtime, SqlDatabase};
use verge_types::{Binding, DatasetId, Deployment, PopName};

use super::fleet::{Fleet, Wanted, failed, name_of};
use crate::db;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// The only place where none are named.
pub const ALONE: &str = "dev";
/// Running calls between the nodes may take so long when one ends in good order.
const GRACE: Duration = Duration::from_secs(1);

/// One point of presence.
pub struct Place {
    pub pop: PopName,
    pub runtime: Runtime,
    data: PathBuf,
    fleet: Option<Arc<Fleet>>,
    standing: RwLock<Standing>,
}

enum Standing {
    /// Alone: the node starts with the first database that somebody asks for.
    NotYet,
    Up(Running),
    Down,
}

/// A node that runs here.
#[derive(Clone)]
pub struct Running {
    pub node: Node,
    fabric: Option<Fabric>,
}

/// Makes the places; `isolates` starts the isolates of one.
pub async fn start(
    wanted: &Wanted<'_>,
    isolates: impl Fn() -> Result<Runtime, Failure>,
) -> Result<(Arc<[Place]>, Option<Arc<Fleet>>), Failure> {
    let Some(fleet) = Fleet::new(wanted)? else {
        let pop: PopName = ALONE.parse().map_err(|error| failed("the place", error))?;
        let place = Place {
            data: wanted.data.join(ALONE),
            pop,
            runtime: isolates()?,
            fleet: None,
            standing: RwLock::new(Standing::NotYet),
        };
        return Ok((Arc::new([place]), None));
    };
    let fleet = Arc::new(fleet);
    let mut places = Vec::new();
    for pop in wanted.pops {
        let place = Place {
            pop: pop.clone(),
            runtime: isolates()?,
            data: wanted.data.join(pop.as_str()),
            fleet: Some(fleet.clone()),
            standing: RwLock::new(Standing::Down),
        };
        place.start().await?;
        places.push(place);
    }
    Ok((places.into(), Some(fleet)))
}

fn taken(data: &Path, error: &verge_node::Error) -> Failure {
    failed(&format!("the data in {}", data.display()), error)
        .hint("another `verge dev`, or a `verge db shell`, may be running here; --data names another folder")
}

impl Place {
    /// The node that runs here; where there is one place only, it is started now.
    pub async fn node(&self) -> Result<Node, Failure> {
        if let Standing::Up(running) = &*self.standing.read().await {
            return Ok(running.node.clone());
        }
        let mut standing = self.standing.write().await;
        match &*standing {
            Standing::Up(running) => Ok(running.node.clone()),
            Standing::Down => {
                let message = format!("{} is down", self.pop);
                Err(Failure::new("pop_down", message)
                    .hint(format!("`verge pop start {}` brings it back", self.pop)))
            }
            Standing::NotYet => {
                let mut config = NodeConfig::new(&self.data, name_of(&self.pop)?, self.pop.clone());
                config.control = true;
                let started = Node::start(config).await;
                let node = started.map_err(|error| taken(&self.data, &error))?;
                *standing = Standing::Up(Running { node: node.clone(), fabric: None });
                Ok(node)
            }
        }
    }

    /// The node if it runs already.
    pub async fn running(&self) -> Option<Node> {
        match &*self.standing.read().await {
            Standing::Up(running) => Some(running.node.clone()),
            _ => None,
        }
    }

    pub async fn is_down(&self) -> bool {
        matches!(&*self.standing.read().await, Standing::Down)
    }

    /// One database here, made on its first use.
    pub async fn database(&self, dataset: &DatasetId) -> Result<Arc<SqlDatabase>, Failure> {
        let opened = self.node().await?.database(dataset).await;
        opened.map_err(|error| failed(&format!("the database {dataset}"), error))
    }

    /// What a deployment's database bindings lead to here.
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
                database.home().when_cut_off(target.when_cut_off);
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
        db::tell_pending(&node, &config.databases, terminal, config.name.as_str()).await;
    }

    /// Starts the node of a fleet on what its folder holds. True if it did not run.
    pub async fn start(&self) -> Result<bool, Failure> {
        let mut standing = self.standing.write().await;
        let (Standing::Down, Some(fleet)) = (&*standing, &self.fleet) else { return Ok(false) };
        let fabric = fleet.fabric(&self.pop).await?;
        let config = fleet.node_config(&self.pop, &self.data, fabric.clone())?;
        match Node::start(config).await {
            Ok(node) => {
                fleet.joined(&self.pop, &fabric);
                *standing = Standing::Up(Running { node, fabric: Some(fabric) });
                Ok(true)
            }
            Err(error) => {
                fabric.kill();
                Err(taken(&self.data, &error))
            }
        }
    }

    /// Ends the node as a crash would. True if it ran.
    pub async fn kill(&self) -> bool {
        let mut standing = self.standing.write().await;
        let Standing::Up(Running { node, fabric }) = &*standing else { return false };
        if fabric.is_none() {
            return false;
        }
        node.kill().await;
        if let Some(fleet) = &self.fleet {
            fleet.left(&self.pop);
        }
        *standing = Standing::Down;
        true
    }

    /// Ends the node in good order.
    pub async fn shutdown(&self) {
        let mut standing = self.standing.write().await;
        if let Standing::Up(Running { node, fabric }) = &*standing {
            node.shutdown().await;
            if let Some(fabric) = fabric {
                fabric.shutdown(GRACE).await;
            }
        }
        *standing = Standing::Down;
    }
}
