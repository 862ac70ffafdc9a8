//! Settings and limits of a node's fabric; the constants are the defaults and give the reason.

use std::net::SocketAddr;
use std::time::Duration;

use verge_types::PopName;

use crate::identity::NodeIdentity;
use crate::links::Links;
use crate::{Error, FleetName, NodeId, Peer};

/// Time between two heartbeats on a link.
pub const HEARTBEAT: Duration = Duration::from_millis(500);
/// Silence after which a node is suspect: several heartbeats and a lost packet's resend.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(3);
/// Silence after which a node is down and its connection is dropped.
pub const DOWN_AFTER: Duration = Duration::from_secs(10);
/// A node that nobody heard for so long is forgotten, unless it is a seed.
pub const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);
/// First wait before dialing again.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before dialing again.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The node whose name sorts later leaves the dialing to the other one for so long.
pub const DIAL_GRACE: Duration = Duration::from_secs(1);
/// TCP connect.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// TLS, h2 and the hello, together.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that takes no byte of a body or message for so long is given up.
pub const SEND_STALL: Duration = Duration::from_secs(60);
/// Largest message, in bytes. Larger things are cut by the layer above.
pub const MAX_MESSAGE: usize = 16 << 20;
/// What one channel may have under way, in bytes: 4 MiB over 230 ms is 18 MB/s.
pub const STREAM_WINDOW: u32 = 4 << 20;
/// Calls and streams one node may have open at another.
pub const MAX_CHANNELS: usize = 256;
/// Connections that have not said who they are.
pub const MAX_HANDSHAKES: usize = 64;
/// Nodes a fleet may have.
pub const MAX_MEMBERS: usize = 1024;

/// How nodes prove who they are.
#[derive(Clone, Debug)]
pub enum Security {
    /// TLS 1.3, both sides with a certificate of the fleet's authority.
    MutualTls(NodeIdentity),
    /// None: for nodes of one machine. Refused on any address that is not loopback.
    Loopback,
}

/// A node to begin with.
#[derive(Clone, Debug)]
pub struct Seed {
    /// `host:port`.
    pub address: String,
    /// Who is there, if that is known: then nobody else is accepted there.
    pub peer: Option<Peer>,
}

/// Timers of membership and reconnection.
#[derive(Clone, Debug)]
pub struct Timing {
    pub heartbeat: Duration,
    pub suspect_after: Duration,
    pub down_after: Duration,
    pub forget_after: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub dial_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: HEARTBEAT,
            suspect_after: SUSPECT_AFTER,
            down_after: DOWN_AFTER,
            forget_after: FORGET_AFTER,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
            dial_grace: DIAL_GRACE,
        }
    }
}

/// Limits of one link and its channels.
#[derive(Clone, Debug)]
pub struct LinkLimits {
    pub connect_timeout: Duration,
    pub handshake_timeout: Duration,
    pub send_stall: Duration,
    pub max_message: usize,
    pub stream_window: u32,
    pub max_channels: usize,
    pub max_handshakes: usize,
    pub max_members: usize,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            send_stall: SEND_STALL,
            max_message: MAX_MESSAGE,
            stream_window: STREAM_WINDOW,
            max_channels: MAX_CHANNELS,
            max_handshakes: MAX_HANDSHAKES,
            max_members: MAX_MEMBERS,
        }
    }
}

/// Everything a node's fabric is started with.
#[derive(Clone, Debug)]
pub struct FabricConfig {
    pub fleet: FleetName,
    pub node: NodeId,
    pub pop: PopName,
    pub listen: SocketAddr,
    /// `host:port` where others reach this node; the bound address without one.
    pub advertise: Option<String>,
    pub seeds: Vec<Seed>,
    pub security: Security,
    /// The simulated world, shared by all nodes of the process.
    pub links: Option<Links>,
    pub timing: Timing,
    pub limits: LinkLimits,
}

impl FabricConfig {
    /// A node that listens on `listen` and knows nobody.
    pub fn new(
        fleet: FleetName,
        node: NodeId,
        pop: PopName,
        listen: SocketAddr,
        security: Security,
    ) -> Self {
        Self {
            fleet,
            node,
            pop,
            listen,
            advertise: None,
            seeds: Vec::new(),
            security,
            links: None,
            timing: Timing::default(),
            limits: LinkLimits::default(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Config(what));
        let (timing, limits) = (&self.timing, &self.limits);
        match &self.security {
            Security::Loopback if !self.listen.ip().is_loopback() => {
                return wrong(format!(
                    "without certificates a node listens on loopback only, not on {}",
                    self.listen
                ));
            }
            Security::MutualTls(identity)
                if (identity.fleet(), identity.node(), identity.pop())
                    != (&self.fleet, &self.node, &self.pop) =>
            {
                return wrong(format!(
                    "the certificate is of {} ({}) in fleet {}, not of {} ({}) in fleet {}",
                    identity.node(),
                    identity.pop(),
                    identity.fleet(),
                    self.node,
                    self.pop,
                    self.fleet
                ));
            }
            _ => {}
        }
        if timing.heartbeat.is_zero()
            || timing.heartbeat * 2 > timing.suspect_after
            || timing.suspect_after >= timing.down_after
        {
            return wrong("needed: 2 × heartbeat <= suspect_after < down_after".to_owned());
        }
        if timing.backoff_min.is_zero() || timing.backoff_min > timing.backoff_max {
            return wrong("needed: 0 < backoff_min <= backoff_max".to_owned());
        }
        if limits.max_channels == 0
            || limits.max_channels > 1024
            || limits.stream_window < 64 * 1024
            || limits.stream_window > 64 << 20
            || limits.max_message > 1 << 30
        {
            return wrong(
                "needed: 1 to 1024 channels, a window of 64 KiB to 64 MiB, messages up to 1 GiB"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
