//! The listener of a Verge node: HTTP/1.1 and HTTP/2, clear or TLS, WebSocket, host routing.
//!
//! ```no_run
//! # async fn run(resolve: std::sync::Arc<dyn verge_types::Resolve>) -> std::io::Result<()> {
//! use std::sync::Arc;
//! use verge_gateway::{Gateway, GatewayConfig, NoAccessLog};
//!
//! let config = GatewayConfig::on(([127, 0, 0, 1], 8080).into());
//! let gateway = Gateway::bind(config, resolve, Arc::new(NoAccessLog)).await?;
//! println!("ready http://{}", gateway.local_addr());
//! let drained = gateway.serve(async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await;
//! println!("{} requests finished, {} cut", drained.finished, drained.cut);
//! # Ok(()) }
//! ```
//!
//! A connection's way through the files: `listen` accepts and finds out the protocol,
//! `wire` carries its bytes past `strict`, `http1` or `http2` drive hyper under the `watch` of
//! its `vitals`; for each request `exchange` checks, routes, asks the service and fits its
//! answer, `respond` turns faults into pages, `finish` settles metrics and the access log.

mod admission;
mod body;
pub mod config;
mod connection;
mod exchange;
mod finish;
mod handshake;
mod headers;
mod host;
mod http1;
mod http2;
mod ids;
mod listen;
mod respond;
mod session;
mod strict;
mod tls;
mod trace;
mod vitals;
mod watch;
mod websocket;
mod wire;

pub use config::{GatewayConfig, IpPrefix};
pub use listen::{Cutter, Drained, Gateway};
pub use respond::{page as fault_page, prefers_json};
pub use tls::{SelfMade, TlsConfig, TlsError};
pub use verge_telemetry::{AccessLog, AccessRecord, NoAccessLog};
