//! The port: finds a free one, binds it on both loopback addresses, serves until told to stop.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use verge_gateway::{Cutter, Gateway, GatewayConfig};
use verge_telemetry::Metrics;
use verge_types::PopName;

use super::console::{Console, Requests};
use super::router::Router;
use super::tls;
use crate::failure::Failure;
use crate::terminal::Terminal;

const DEFAULT_PORT: u16 = 8787;
/// Ports tried after the first one.
const NEXT_PORTS: u16 = 50;
/// Running requests may take so long after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(10);

pub struct Wanted {
    /// Both loopback addresses without one.
    pub host: Option<IpAddr>,
    /// From the command line: this one or none.
    pub port: Option<u16>,
    /// From the configuration: this one or one after it.
    pub preferred: Option<u16>,
    pub https: bool,
    /// The point of presence that answers here, where there are several.
    pub pop: Option<PopName>,
    pub metrics: Metrics,
    pub router: Arc<Router>,
    pub console: Arc<Console>,
    pub terminal: Terminal,
}

pub struct Listener {
    pub port: u16,
    gateways: Vec<Gateway>,
}

/// `dev.ip` of the configuration.
pub fn preferred_address(text: Option<&str>) -> Result<Option<IpAddr>, Failure> {
    match text {
        None | Some("localhost") => Ok(None),
        Some("*") => Ok(Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Failure::new("config", format!("`dev.ip`: `{text}` is no IP address"))
                .hint("write it like \"127.0.0.1\", or \"*\" for every address")
        }),
    }
}

pub async fn bind(wanted: &Wanted) -> Result<Listener, Failure> {
    let tls = if wanted.https { Some(tls::certificate()?) } else { None };
    let first = wanted.port.or(wanted.preferred).unwrap_or(DEFAULT_PORT);
    let last = match wanted.port {
        Some(port) => port,
        None => first.saturating_add(NEXT_PORTS),
    };
    // Port 0 is any free one; that the other address has it taken is chance, so try again.
    let tries =
        if first == 0 { vec![0; usize::from(NEXT_PORTS)] } else { (first..=last).collect() };
    for port in tries {
        match bind_port(wanted, tls.as_ref(), port).await {
            Ok(listener) => {
                if port != first && first != 0 {
                    let text = format!("port {first} is taken, so it is {port}");
                    wanted.terminal.warning("", &text);
                }
                return Ok(listener);
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                let address = wanted.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
                let message = format!("cannot listen on {address} port {port}: {error}");
                let failure = Failure::new("listen", message);
                return Err(match error.kind() {
                    ErrorKind::PermissionDenied => {
                        failure.hint("ports below 1024 are for root; take a higher one")
                    }
                    ErrorKind::AddrNotAvailable => failure.hint("this machine has no such address"),
                    _ => failure,
                });
            }
        }
    }
    Err(if wanted.port.is_some() {
        Failure::new("port_in_use", format!("port {first} is in use"))
            .hint("name another one, or leave --port out and the next free one is taken")
    } else {
        Failure::new("port_in_use", format!("ports {first} to {last} are all in use"))
            .hint("name a free one with --port")
    })
}

async fn bind_port(
    wanted: &Wanted,
    tls: Option<&verge_gateway::TlsConfig>,
    port: u16,
) -> std::io::Result<Listener> {
    let one = |address: SocketAddr| {
        let mut config = GatewayConfig::on(address);
        config.tls = tls.cloned();
        config.metrics = wanted.metrics.clone();
        if let Some(pop) = &wanted.pop {
            config.geo.colo = pop.to_string();
        }
        config.drain_timeout = DRAIN;
        Gateway::bind(config, wanted.router.clone(), Arc::new(Requests(wanted.console.clone())))
    };
    if let Some(host) = wanted.host {
        let gateway = one((host, port).into()).await?;
        return Ok(Listener { port: gateway.local_addr().port(), gateways: vec![gateway] });
    }
    let first = one((Ipv4Addr::LOCALHOST, port).into()).await?;
    let port = first.local_addr().port();
    // `localhost` is both; a machine without IPv6 has the one.
    match one((Ipv6Addr::LOCALHOST, port).into()).await {
        Ok(second) => Ok(Listener { port, gateways: vec![first, second] }),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(error),
        Err(_) => Ok(Listener { port, gateways: vec![first] }),
    }
}

impl Listener {
    pub fn cutters(&self) -> Vec<Cutter> {
        self.gateways.iter().map(Gateway::cutter).collect()
    }

    /// Until `stopped`, then until running requests are answered.
    pub async fn serve(self, stopped: signal::Receiver<bool>) {
        let mut serving = tokio::task::JoinSet::new();
        for gateway in self.gateways {
            let mut stopped = stopped.clone();
            serving.spawn(async move {
                gateway
                    .serve(async move {
                        // The other end gone is a reason to stop as well.
                        let _ = stopped.wait_for(|stop| *stop).await;
                    })
                    .await
            });
        }
        while serving.join_next().await.is_some() {}
    }
}

/// Ctrl-C or SIGTERM stops in good order; the second one stops at once.
pub fn stop_on_signal(stop: signal::Sender<bool>, terminal: Terminal) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::new("io", format!("cannot wait for signals: {e}"));
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(failed)?;
    #[cfg(unix)]
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(failed)?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            #[cfg(unix)]
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            #[cfg(not(unix))]
            let _ = tokio::signal::ctrl_c().await;
            if asked {
                super::keys::restore();
                std::process::exit(130);
            }
            asked = true;
            terminal.note("stopping: running requests finish first");
            stop.send_replace(true);
        }
    });
    Ok(())
}

pub fn open_browser(url: &str, terminal: Terminal) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started = Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    match started {
        // Reaped, or it would stay as a zombie.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(error) => terminal.warning("", &format!("cannot open a browser: {program}: {error}")),
    }
}
