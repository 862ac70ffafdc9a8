//! Which app a host name leads to.

use std::net::IpAddr;
use std::sync::Arc;

use verge_types::{Resolve, Routed, SessionKeys, SessionPolicy};

use super::front::Front;
use super::site::Site;
use super::wire::{self, Wire};

/// The first app answers at `localhost` and at addresses, each at `<name>.localhost` and at
/// the `hosts` of its configuration. Other names are refused, so that a web page elsewhere
/// cannot reach an app under its own name (DNS rebinding).
pub struct Router {
    fronts: Vec<Arc<Front>>,
    /// Whether other machines may come, by any address.
    open: bool,
    keys: Arc<SessionKeys>,
    wire: Arc<Wire>,
}

impl Router {
    /// The apps as `place` serves them.
    pub fn new(
        sites: &[Arc<Site>],
        place: usize,
        open: bool,
        keys: Arc<SessionKeys>,
        wire: Arc<Wire>,
    ) -> Self {
        let front = |site: &Arc<Site>| Arc::new(Front::new(site.clone(), place));
        Self { fronts: sites.iter().map(front).collect(), open, keys, wire }
    }

    fn find(&self, host: &str) -> Option<&Arc<Front>> {
        let named = |name: &str| {
            self.fronts.iter().find(|front| front.site.state().config.name.as_str() == name)
        };
        if host == "localhost" {
            return self.fronts.first();
        }
        if let Some(name) = host.strip_suffix(".localhost") {
            return named(name);
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            let ours = self.open || address.to_canonical().is_loopback();
            return self.fronts.first().filter(|_| ours);
        }
        self.fronts.iter().find(|front| {
            front.site.state().config.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
        })
    }
}

impl Resolve for Router {
    /// Databases are on every app's host, under limits of their own.
    fn route(&self, host: &str, path: &str) -> Option<Routed> {
        if !path.starts_with(wire::PREFIX) {
            return self.resolve(host);
        }
        Some(Routed {
            app: self.find(host)?.site.state().config.name.clone(),
            service: self.wire.clone(),
            max_request_body: wire::MAX_BODY,
            // A cursor or a WebSocket takes its time; the protocol has limits for both.
            max_wall_ms: 0,
            // The protocol carries no bookmarks: streams here see what streams here wrote.
            sessions: SessionPolicy::Off,
        })
    }

    fn resolve(&self, host: &str) -> Option<Routed> {
        let front = self.find(host)?;
        let state = front.site.state();
        Some(Routed {
            app: state.config.name.clone(),
            service: front.clone(),
            max_request_body: state.config.limits.request_body,
            max_wall_ms: state.config.limits.wall_time,
            sessions: match (state.config.databases.is_empty(), state.config.read_your_writes) {
                (true, _) => SessionPolicy::Off,
                (false, true) => SessionPolicy::On(self.keys.clone()),
                (false, false) => SessionPolicy::RequestOnly,
            },
        })
    }
}
