//! The socket by which other commands reach this `verge dev`; see `crate::running`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::wire;
use super::world::World;
use crate::failure::Failure;
use crate::running::{DatabaseAddress, DatabaseAddresses, Listed, Order, Refusal, socket};

/// Longest order, bytes.
const MAX_LINE: u64 = 64 * 1024;

/// Listens while it is kept.
pub struct Control {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
    _listed: Option<Listed>,
}

impl Control {
    /// `None` if another process listens for this folder already.
    pub fn serve(data: &Path, world: Arc<World>) -> Result<Option<Self>, Failure> {
        std::fs::create_dir_all(data).map_err(|e| Failure::io("make", data, &e))?;
        let path = socket(data);
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Ok(None);
        }
        // Left over from a process that was killed.
        let _ = std::fs::remove_file(&path);
        let failed = |e: std::io::Error| Failure::io("listen on", &path, &e);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).map_err(failed)?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who leaves early has read enough.
                tokio::spawn(converse(world.clone(), stream));
            }
        });
        Ok(Some(Self { path, task, _listed: Listed::new(data) }))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse(world: Arc<World>, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(MAX_LINE));
    let mut line = String::new();
    loop {
        line.clear();
        read.get_mut().set_limit(MAX_LINE);
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let result = match serde_json::from_str(&line) {
            Ok(order) => carry_out(&world, order).await,
            Err(error) => Err(Failure::new("usage", format!("no order: {error}"))
                .hint("is this command of the same version as the verge dev that runs?")),
        };
        let result: Result<Value, Refusal> = result.map_err(Into::into);
        let mut answer = serde_json::to_vec(&result)?;
        answer.push(b'\n');
        write.write_all(&answer).await?;
    }
}

async fn carry_out(world: &World, order: Order) -> Result<Value, Failure> {
    Ok(match order {
        Order::Databases => json!(all_databases(world).await?),
        Order::Pops => json!(world.pops().await),
        Order::Kill { pop } => json!(world.kill(&pop).await?),
        Order::Start { pop } => json!(world.start(&pop).await?),
        Order::Links => json!(world.links()?),
        Order::Cut { a, b, one_way } => json!(world.cut(&a, &b, one_way)?),
        Order::Slow { a, b, condition } => json!(world.slow(&a, &b, condition)?),
        Order::Heal { pair } => {
            json!(world.heal(pair.as_ref().map(|(a, b)| (a.as_str(), b.as_str())))?)
        }
    })
}

/// The databases that apps name, and those that were made beside them, and where each answers.
async fn all_databases(world: &World) -> Result<Vec<DatabaseAddresses>, Failure> {
    let mut names = wire::names(&world.sites);
    for place in world.places.iter() {
        let Some(node) = place.running().await else { continue };
        let listed = node.list().await;
        for id in listed.map_err(|error| Failure::new("data", error.public()))? {
            if let Some(name) = id.as_str().strip_prefix("sql/")
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
            }
        }
    }
    Ok(addresses(world, names))
}

/// The databases that apps name, and where each answers.
pub fn databases(world: &World) -> Vec<DatabaseAddresses> {
    addresses(world, wire::names(&world.sites))
}

fn addresses(world: &World, names: Vec<String>) -> Vec<DatabaseAddresses> {
    let at = |name: &str| {
        let address =
            |(place, port): (&super::places::Place, &super::port::Port)| DatabaseAddress {
                pop: place.pop.to_string(),
                url: wire::url(world.scheme, port.number, name),
            };
        world.places.iter().zip(&world.ports).map(address).collect()
    };
    names.into_iter().map(|name| DatabaseAddresses { at: at(&name), name }).collect()
}
