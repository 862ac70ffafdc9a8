//! Serves one database over Hrana, for trying clients:
//! `cargo run -p verge-hrana --example serve -- 8080 folder [full-token read-only-token]`.
//!
//! The database is a dataset in that folder, as its primary; with `HRANA_BACKEND=sqlite` the
//! path is a plain SQLite file.

use std::sync::Arc;
use std::time::Duration;

use verge_dataset::{CreateOptions, Store, StoreConfig};
use verge_gateway::{Gateway, GatewayConfig, NoAccessLog};
use verge_hrana::{
    Access, Backend, DatabaseBackend, HranaConfig, HranaService, Limits, Open, TokenList, Tokens,
};
use verge_services::sql::{Database, Node, Policy};
use verge_types::{DatasetId, Resolve, Routed};

#[path = "../tests/it/support/sqlite.rs"]
mod sqlite;

struct One(Routed);

impl Resolve for One {
    fn resolve(&self, _: &str) -> Option<Routed> {
        Some(self.0.clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(8080), |port| port.parse())?;
    let path = arguments.next().ok_or("the second argument is the database's path")?;
    let tokens: Arc<dyn Tokens> = match arguments.next() {
        None => Arc::new(Open),
        Some(full) => {
            let read_only = arguments.next().map(|token| (token, Access::ReadOnly));
            Arc::new(TokenList::new([(full, Access::Full)].into_iter().chain(read_only))?)
        }
    };
    let mut config = HranaConfig::new("example", rand_key()?);
    // For the tests of a client that is too slow.
    if let Ok(text) = std::env::var("HRANA_WRITE_TRANSACTION_MS") {
        let write_transaction = Duration::from_millis(text.parse()?);
        config.limits = Limits { write_transaction, ..Limits::default() };
    }
    let plain = std::env::var("HRANA_BACKEND").is_ok_and(|backend| backend == "sqlite");
    let backend: Arc<dyn Backend> = if plain {
        Arc::new(sqlite::SqliteBackend { path: path.into() })
    } else {
        let id: DatasetId = "example/main".parse()?;
        let store = Store::open(StoreConfig::new(path))?;
        let dataset = match store.get(&id) {
            Ok(dataset) => dataset,
            Err(_) => store.create(&id, CreateOptions::default())?,
        };
        let node = Node { served_by: "example".into(), region: "local".into() };
        let database = Database::new(
            verge_services::sql::DatasetHome::new(dataset, None),
            None,
            node,
            policy(&config.limits),
        );
        Arc::new(DatabaseBackend::new(Arc::new(database), config.limits.write_transaction))
    };
    let service = HranaService::new(backend, tokens, config);
    let routed = Routed {
        app: "hrana".parse()?,
        service: Arc::new(service),
        max_request_body: 64 << 20,
        max_wall_ms: 0,
        sessions: verge_types::SessionPolicy::Off,
    };
    let mut config = GatewayConfig::on(([127, 0, 0, 1], port).into());
    config.ws_max_message = verge_hrana::limits::MESSAGE_BYTES;
    let gateway = Gateway::bind(config, Arc::new(One(routed)), Arc::new(NoAccessLog)).await?;
    println!("ready {}", gateway.local_addr());
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    gateway.serve(stop).await;
    Ok(())
}

/// Cursors may hand out more than a response holds: what one statement may give is only bounded
/// by the protocol's own limits.
fn policy(limits: &Limits) -> Policy {
    Policy {
        value_bytes: i32::try_from(limits.message_bytes).unwrap_or(i32::MAX),
        result_rows: u64::MAX,
        result_bytes: u64::MAX,
        ..Policy::default()
    }
}

fn rand_key() -> Result<[u8; 32], getrandom::Error> {
    let mut key = [0; 32];
    getrandom::fill(&mut key)?;
    Ok(key)
}
