//! Everything that can be set of a listener. Each default is a named constant with its reason.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use verge_telemetry::Metrics;
use verge_types::Geo;

use crate::tls::TlsConfig;

/// Open connections in all: about 20 KiB each idle, so a full listener stays under 350 MiB.
pub const MAX_CONNECTIONS: usize = 16_384;
/// Open connections of one address (one /64 for IPv6): a company behind one NAT fits, one
/// machine cannot take the listener.
pub const MAX_CONNECTIONS_PER_PEER: usize = 1_024;
/// A handshake is two round trips; ten seconds is a bad phone network.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From a head's first byte (or the connection's start) to its end: against slow headers.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// An unused connection; a little above what load balancers keep theirs for (60 s), so that
/// it is not we who close while they send.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Without one byte of a request body while the app waits for it: against slow bodies.
pub const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Without the client taking one byte of what we have for it: against slow readers.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// After a refused request, how long we read on so that the answer is not lost in a reset.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of a request's head: a few large cookies fit.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Header fields of a request.
pub const MAX_HEADERS: usize = 100;
/// Bytes of path and query: what browsers and CDNs agree on.
pub const MAX_URI_BYTES: usize = 16 * 1024;
/// Streams of one HTTP/2 connection at a time; RFC 9113 asks for no fewer than 100.
pub const H2_MAX_STREAMS: u32 = 128;
/// Streams that were reset before we took them up: rapid reset (CVE-2023-44487).
pub const H2_MAX_PENDING_RESETS: usize = 32;
/// Streams that we had to reset for the client's errors before the connection goes.
pub const H2_MAX_LOCAL_RESETS: usize = 256;
/// Bytes an HTTP/2 stream may send ahead of the app.
pub const H2_STREAM_WINDOW: u32 = 256 * 1024;
/// Bytes all streams of an HTTP/2 connection may send ahead.
pub const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Response bytes that we hold for one HTTP/2 stream before the app has to wait.
pub const H2_SEND_BUFFER: usize = 64 * 1024;
/// Bytes an HTTP/2 client may send while nothing comes of them: no new request, no body bytes
/// that an app takes, no response bytes. PING, SETTINGS and WINDOW_UPDATE floods end here.
/// It has to be well above the connection window, which may fill up while an app is slow.
pub const H2_MAX_IDLE_BYTES: u64 = 4 * 1024 * 1024;
/// How often a silent HTTP/2 peer is asked whether it is still there.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to say so.
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);
/// One WebSocket message, as Workers have it.
pub const WS_MAX_MESSAGE: usize = 1024 * 1024;
/// How often a silent WebSocket peer is asked whether it is still there.
pub const WS_PING_INTERVAL: Duration = Duration::from_secs(30);
/// A WebSocket on which nothing, not even a pong, came.
pub const WS_IDLE_TIMEOUT: Duration = Duration::from_secs(100);
/// How long the client may take to answer our close frame.
pub const WS_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long running requests may take to finish when the listener stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long idle HTTP/1 connections stay open while draining: a request that is already on
/// its way is answered, with `Connection: close`.
pub const DRAIN_IDLE: Duration = Duration::from_millis(500);
/// Pause after `accept` failed for want of file descriptors or memory.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Connections the kernel holds for us.
pub const LISTEN_BACKLOG: u32 = 4_096;

/// All settings of one listener.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    pub address: SocketAddr,
    /// Clear text without one.
    pub tls: Option<TlsConfig>,
    /// Where this PoP is; every request's geo until a geo database says better.
    pub geo: Geo,
    /// Peers whose `x-forwarded-for` and `x-forwarded-proto` are believed. Nobody by default.
    pub trusted_proxies: Vec<IpPrefix>,
    pub metrics: Metrics,
    pub max_connections: usize,
    pub max_connections_per_peer: usize,
    pub tls_handshake_timeout: Duration,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
    pub body_idle_timeout: Duration,
    pub write_stall_timeout: Duration,
    pub linger_timeout: Duration,
    pub max_head_bytes: usize,
    pub max_headers: usize,
    pub max_uri_bytes: usize,
    pub h2_max_streams: u32,
    pub h2_max_pending_resets: usize,
    pub h2_max_local_resets: usize,
    pub h2_stream_window: u32,
    pub h2_connection_window: u32,
    pub h2_send_buffer: usize,
    pub h2_max_idle_bytes: u64,
    pub h2_ping_interval: Duration,
    pub h2_ping_timeout: Duration,
    pub ws_max_message: usize,
    pub ws_ping_interval: Duration,
    pub ws_idle_timeout: Duration,
    pub ws_close_timeout: Duration,
    pub drain_timeout: Duration,
    pub drain_idle: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            tls: None,
            geo: Geo::default(),
            trusted_proxies: Vec::new(),
            metrics: Metrics::new(),
            max_connections: MAX_CONNECTIONS,
            max_connections_per_peer: MAX_CONNECTIONS_PER_PEER,
            tls_handshake_timeout: TLS_HANDSHAKE_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            body_idle_timeout: BODY_IDLE_TIMEOUT,
            write_stall_timeout: WRITE_STALL_TIMEOUT,
            linger_timeout: LINGER_TIMEOUT,
            max_head_bytes: MAX_HEAD_BYTES,
            max_headers: MAX_HEADERS,
            max_uri_bytes: MAX_URI_BYTES,
            h2_max_streams: H2_MAX_STREAMS,
            h2_max_pending_resets: H2_MAX_PENDING_RESETS,
            h2_max_local_resets: H2_MAX_LOCAL_RESETS,
            h2_stream_window: H2_STREAM_WINDOW,
            h2_connection_window: H2_CONNECTION_WINDOW,
            h2_send_buffer: H2_SEND_BUFFER,
            h2_max_idle_bytes: H2_MAX_IDLE_BYTES,
            h2_ping_interval: H2_PING_INTERVAL,
            h2_ping_timeout: H2_PING_TIMEOUT,
            ws_max_message: WS_MAX_MESSAGE,
            ws_ping_interval: WS_PING_INTERVAL,
            ws_idle_timeout: WS_IDLE_TIMEOUT,
            ws_close_timeout: WS_CLOSE_TIMEOUT,
            drain_timeout: DRAIN_TIMEOUT,
            drain_idle: DRAIN_IDLE,
        }
    }
}

impl GatewayConfig {
    /// The defaults on an address.
    pub fn on(address: SocketAddr) -> Self {
        Self { address, ..Self::default() }
    }
}

/// A network: an address and how many leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPrefix {
    pub address: IpAddr,
    pub bits: u8,
}

impl IpPrefix {
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32u32.saturating_sub(u32::from(self.bits));
                net.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128u32.saturating_sub(u32::from(self.bits));
                net.to_bits().checked_shr(shift) == ip.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_contain_their_addresses() {
        let net = IpPrefix { address: "10.1.0.0".parse().unwrap(), bits: 16 };
        assert!(net.contains("10.1.255.1".parse().unwrap()));
        assert!(net.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!net.contains("10.2.0.1".parse().unwrap()));
        let all = IpPrefix { address: "::".parse().unwrap(), bits: 0 };
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("1.2.3.4".parse().unwrap()));
    }
}
