//! `/__verge/db/NAME/`: databases over the wire, for `@libsql/client` and its kin.
//!
//! The address is a path, since the names below `localhost` do not resolve everywhere, and one
//! of those that `verge dev` keeps for itself, so that no app has a page there. Whoever has no
//! token of a database learns no more than that this is an address for databases.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use verge_bundle::database_dataset;
use verge_hrana::{
    Access, Answer, Backend, Connection, DatabaseBackend, HranaConfig, HranaService, Limits,
};
use verge_node::{Node, NodeHome};
use verge_types::{Body, BoxFuture, DatasetId, Fault, RequestContext, Service};

use super::front::plain;
use super::places::Place;
use super::site::Site;
use crate::failure::Failure;
use crate::private_file::random;
use crate::tokens::{self, Watched};

pub const PREFIX: &str = "/__verge/db/";
/// Largest request body: one message of the protocol.
pub const MAX_BODY: u64 = verge_hrana::limits::MESSAGE_BYTES as u64;

const NO_STORE: &str = "text/plain; charset=utf-8";

/// Where a database answers. Clients resolve their own paths against it: the slash at its end
/// belongs to it.
pub fn url(scheme: &str, port: u16, name: &str) -> String {
    format!("{scheme}://localhost:{port}{PREFIX}{name}/")
}

/// The databases as one place serves them.
pub struct Wire {
    data: PathBuf,
    sites: Vec<Arc<Site>>,
    places: Arc<[Place]>,
    place: usize,
    /// Signs the batons of this process.
    key: [u8; 32],
    services: Mutex<HashMap<String, Arc<HranaService>>>,
}

impl Wire {
    pub fn new(
        data: PathBuf,
        sites: Vec<Arc<Site>>,
        places: Arc<[Place]>,
        place: usize,
    ) -> Result<Self, Failure> {
        Ok(Self { data, sites, places, place, key: random()?, services: Mutex::default() })
    }

    fn service(&self, name: &str) -> Option<Arc<HranaService>> {
        if let Some(service) = self.services.lock().get(name) {
            return Some(service.clone());
        }
        let dataset = database_dataset(name).filter(|id| id.as_str() == format!("sql/{name}"))?;
        // One that no app names has to be one that somebody asked a token for.
        if !names(&self.sites).iter().any(|known| known == name) && !tokens::exist(&self.data, name)
        {
            return None;
        }
        let limits = Limits::default();
        let door = Door {
            places: self.places.clone(),
            place: self.place,
            dataset,
            limits: limits.clone(),
            open: Arc::default(),
        };
        let config = HranaConfig {
            mount: format!("{PREFIX}{name}"),
            limits,
            ..HranaConfig::new(format!("{}/{name}", self.places[self.place].pop), self.key)
        };
        let watched = Arc::new(Watched::new(&self.data, name));
        let service = Arc::new(HranaService::new(Arc::new(door), watched, config));
        Some(self.services.lock().entry(name.to_owned()).or_insert(service).clone())
    }
}

/// The databases that apps name, each once.
pub fn names(sites: &[Arc<Site>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for site in sites {
        for database in &site.state().config.databases {
            let name = database.dataset.as_str().trim_start_matches("sql/");
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

impl Service for Wire {
    fn call(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let below = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
        let name = below.split('/').next().unwrap_or_default();
        match self.service(name) {
            Some(service) => service.call(request, cx),
            None => {
                // Without the slash at its end, a client puts `v2/pipeline` in the name's place.
                let text = format!(
                    "No app here has a database of that name. A database's URL is \
                     {PREFIX}NAME/, with the slash at its end; `verge db url NAME` prints it.\n"
                );
                let response = plain(StatusCode::NOT_FOUND, "", NO_STORE, text);
                Box::pin(std::future::ready(Ok(response)))
            }
        }
    }
}

/// Opens streams to one database, once somebody with a token wants one: the node of a place may
/// not run yet, or be another one than before.
struct Door {
    places: Arc<[Place]>,
    place: usize,
    dataset: DatasetId,
    limits: Limits,
    /// Of the node that runs. What streams of one backend wrote, its others see.
    open: Arc<Mutex<Option<Opened>>>,
}

/// A backend, and the node that it is on.
type Opened = (Node, Arc<DatabaseBackend<NodeHome>>);

impl Backend for Door {
    fn open(&self, access: Access) -> Answer<'static, Box<dyn Connection>> {
        let (places, place) = (self.places.clone(), self.place);
        let (dataset, open) = (self.dataset.clone(), self.open.clone());
        let longest = self.limits.write_transaction;
        Box::pin(async move {
            let place = &places[place];
            let node = place.node().await.map_err(|error| unavailable(&error))?;
            let known = open.lock().clone();
            let backend = match known {
                Some((of, backend)) if of.is_same(&node) => backend,
                _ => {
                    let opened = place.database(&dataset).await;
                    let database = opened.map_err(|error| unavailable(&error))?;
                    let backend = Arc::new(DatabaseBackend::new(database, longest));
                    let mut open = open.lock();
                    match &*open {
                        // Another stream was first: all see what each other wrote.
                        Some((of, first)) if of.is_same(&node) => first.clone(),
                        _ => {
                            *open = Some((node, backend.clone()));
                            backend
                        }
                    }
                }
            };
            backend.open(access).await
        })
    }
}

fn unavailable(error: &Failure) -> verge_hrana::Error {
    let text = format!("the database cannot be opened here: {}", error.message);
    verge_hrana::Error::platform("UNAVAILABLE", text).retryable()
}
