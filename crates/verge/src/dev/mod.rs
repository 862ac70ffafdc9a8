//! `verge dev`: serve apps, follow every change.
//!
//! `site` is one app and its versions, `rebuild` makes the next version when `watch` sees a
//! change, `front` is what requests meet, `router` finds the app of a host name, `listen`
//! binds the port. What it must never do: drop a request because of a swap.

mod announce;
mod assets;
mod console;
mod control;
mod crons;
mod error_page;
mod events;
pub mod fleet;
mod front;
mod inner;
mod keys;
mod listen;
mod live;
mod live_reload;
pub mod places;
mod port;
mod rebuild;
mod router;
mod site;
mod stack;
mod table;
mod tls;
mod watch;
mod wire;
mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use announce::announce;
use serde_json::json;
use tokio::sync::watch as signal;
use verge_runtime::{Egress, Runtime, RuntimeConfig};
use verge_telemetry::Metrics;
use verge_types::SessionKeys;

use crate::cli::Dev;
use crate::failure::Failure;
use crate::package;
use crate::private_file::{kept, random};
use crate::running::DATA;
use crate::terminal::Terminal;
use console::Console;
use control::Control;
use port::Port;
use router::Router;
use site::Site;
use wire::Wire;
use world::World;

/// After Ctrl-C a running build is cancelled and its child process and files are removed.
const CLEAN_UP: Duration = Duration::from_secs(5);

pub fn run(args: Dev, terminal: &Terminal) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new("io", format!("cannot start the event loop: {e}")))?;
    let done = runtime.block_on(serve(args, *terminal));
    // A build that does not end must not keep the process.
    runtime.shutdown_timeout(CLEAN_UP);
    done
}

async fn serve(args: Dev, terminal: Terminal) -> Result<(), Failure> {
    let (stop, stopped) = signal::channel(false);
    listen::stop_on_signal(stop, terminal)?;
    let mut projects = Vec::new();
    for dir in &args.dirs {
        projects.push(package::open(dir, args.env.as_deref())?);
    }
    let several = projects.len() > 1;
    refuse_same_names(&projects)?;
    let preferred = projects[0].1.dev.clone();

    let metrics = Metrics::new();
    let console = Arc::new(Console::new(terminal, several));
    let mut config = RuntimeConfig::new(console.clone());
    config.metrics = Some(metrics.clone());
    let configured = projects.iter().flat_map(|(_, config)| config.egress_allow.clone());
    let allow = configured.chain(args.allow_net.iter().cloned()).collect();
    config.egress = Egress { allow, ..Egress::default() };
    let isolates = || {
        Runtime::start(config.clone()).map_err(|error| {
            Failure::new("egress", error.to_string())
                .hint("`--allow-net` and `egress.allow` take entries such as \"127.0.0.1:5432\"")
        })
    };
    let data = args.data.clone().unwrap_or_else(|| projects[0].1.root.join(DATA));
    // An app without databases leaves nothing behind.
    let keeps = !args.pops.is_empty() || projects.iter().any(|(_, c)| !c.databases.is_empty());
    let keys = Arc::new(SessionKeys::new(session_key(keeps.then_some(&data))?));
    let wanted = fleet::Wanted {
        pops: &args.pops,
        primary: args.primary.as_ref(),
        round_trips: &args.rtt,
        data: data.clone(),
    };
    let (places, fleet) = places::start(&wanted, isolates).await?;
    warn_of_gaps(terminal);

    let mut sites = Vec::new();
    for (project, config) in projects {
        let site = Site::new(
            site::Parts {
                project,
                environment: args.env.clone(),
                places: places.clone(),
                metrics: metrics.clone(),
                terminal,
                console: console.clone(),
                stopped: stopped.clone(),
                live_reload: args.live,
            },
            config,
        );
        sites.push(Arc::new(site));
    }
    // The watchers first: a file that is saved during the first build is not missed.
    let mut rebuilds = Vec::new();
    for site in &sites {
        rebuilds.push(rebuild::Rebuild::start(site.clone())?);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for mut rebuild in rebuilds {
        rebuild.first().await;
        tasks.spawn(rebuild.run());
    }
    for site in &sites {
        let config = site.state().config.clone();
        places[0].tell_pending_migrations(&config, &terminal).await;
    }
    if args.crons {
        for site in &sites {
            tasks.spawn(crons::run(site.clone()));
        }
    }

    let scheme = if args.https { "https" } else { "http" };
    let host = match args.host {
        Some(host) => Some(host),
        None => listen::preferred_address(preferred.ip.as_deref())?,
    };
    let mut ports: Vec<Port> = Vec::new();
    for (at, place) in places.iter().enumerate() {
        let next = |port: u16| port.saturating_add(u16::try_from(at).unwrap_or(u16::MAX));
        let wire = Wire::new(data.clone(), sites.clone(), places.clone(), at)?;
        let router = Router::new(&sites, at, host.is_some(), keys.clone(), Arc::new(wire));
        let wanted = listen::Wanted {
            host,
            port: args.port.map(|port| if port == 0 { 0 } else { next(port) }),
            preferred: match ports.last() {
                Some(before) => Some(before.number.saturating_add(1)),
                None => preferred.port,
            },
            https: args.https,
            pop: (!args.pops.is_empty()).then(|| place.pop.clone()),
            metrics: metrics.clone(),
            router: Arc::new(router),
            console: console.clone(),
            terminal,
        };
        ports.push(Port::open(wanted, stopped.clone()).await?);
    }
    let world = Arc::new(World::new(places.clone(), sites.clone(), ports, scheme, fleet));
    let control = if keeps { Control::serve(&data, world.clone())? } else { None };
    announce(&world, terminal, &args);
    let mut typing = None;
    if world.has_links() {
        let (kept, keys) = match terminal.has_footer().then(keys::Unbuffered::begin).flatten() {
            Some((kept, keys)) => (Some(kept), Some(keys)),
            None => (None, None),
        };
        typing = kept;
        tasks.spawn(live::run(world.clone(), terminal, keys, stopped.clone()));
    }
    for port in &world.ports {
        port.closed().await;
    }
    drop((control, typing));
    for site in &sites {
        site.cancel_build();
    }
    let ended = async { while tasks.join_next().await.is_some() {} };
    // What is left belongs to the process and ends with it.
    let _ = tokio::time::timeout(CLEAN_UP, ended).await;
    for place in places.iter() {
        let _ = tokio::time::timeout(CLEAN_UP, place.shutdown()).await;
    }
    terminal.event("stopped", json!({}));
    Ok(())
}

/// Seals what clients carry. Kept with the data, so that a browser's session outlives a restart.
fn session_key(data: Option<&Path>) -> Result<[u8; 32], Failure> {
    let Some(data) = data else { return random() };
    let path = data.join("session.key");
    let bytes = kept(&path, || Ok(random::<32>()?.to_vec()))?;
    bytes.try_into().map_err(|_| {
        Failure::new("io", format!("{} is no key of 32 bytes", path.display()))
            .hint("remove it, and a new one is made")
    })
}

/// What is promised and does not hold on this build's engine.
fn warn_of_gaps(terminal: Terminal) {
    let gaps = verge_runtime::engine_gaps();
    if !gaps.is_empty() {
        let engine = verge_runtime::engine_name();
        terminal.warning(
            "",
            &format!(
                "this Verge was built with {engine} instead of V8: {} \
                 (docs/decisions/0004-quickjs-fallback.md)",
                gaps.join("; ")
            ),
        );
    }
}

fn refuse_same_names(
    projects: &[(verge_bundle::Project, verge_bundle::AppConfig)],
) -> Result<(), Failure> {
    for (at, (project, config)) in projects.iter().enumerate() {
        if let Some((other, _)) = projects[..at].iter().find(|(_, c)| c.name == config.name) {
            let message = format!(
                "{} and {} are both named `{}`",
                other.dir().display(),
                project.dir().display(),
                config.name
            );
            return Err(Failure::new("same_name", message)
                .hint("give one of them another `name` in its configuration"));
        }
    }
    Ok(())
}
