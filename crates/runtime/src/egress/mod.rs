//! Where apps may connect to: anywhere on the public internet, nowhere inside.
//!
//! The decision is made on the *resolved* address, for each attempt and each hop, and the
//! connection goes to the very address that was judged. There are two locks:
//!
//! - [`Policy`] knows names and ports. URLs are judged before their name is looked up
//!   (`permissions`), every answer of the resolver is judged before anyone sees it
//!   (`resolve`), sockets of `node:net` are judged as they connect.
//! - Deno's own connectors hold the same table as a list of denied ranges and check each
//!   address they are about to connect to.
//!
//! Only in development are there exceptions; [`Egress::allow`] names them. An error tells what
//! was asked for and never what it led to.

mod allow;
mod judge;
mod net;
mod own;
mod permissions;
mod resolve;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use deno_permissions::PermissionsContainer;
use parking_lot::Mutex;
use verge_engine::{LookupFailure, Outbound};
use verge_types::BoxFuture;

use allow::{Allowed, is_localhost, plain_name};
use judge::{Kind, Verdict, judge, refused_ranges};
use net::Net;

/// Addresses that named exceptions led `node:net` to; the oldest are forgotten together.
const MAX_GRANTS: usize = 1024;

/// The addresses an app may reach.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// Places inside that are allowed all the same: `host`, `host:port`, an address or a
    /// range. For development only.
    pub allow: Vec<String>,
    /// Ranges that are refused although they are public: the fleet's own. The addresses of
    /// this machine's interfaces need not be named.
    pub deny: Vec<String>,
}

/// Why a policy could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    #[error("egress: `{0}` cannot be allowed: it is no host, host:port, address or range")]
    Allow(String),
    #[error("egress: `{0}` cannot be denied: it is no address and no range such as 203.0.113.0/24")]
    Deny(String),
    #[error("egress: {0}")]
    Engine(String),
}

/// [`Egress`], ready to judge.
#[derive(Debug)]
pub(crate) struct Policy {
    allowed: Allowed,
    denied: Vec<Net>,
    /// This machine's own addresses.
    own: Vec<IpAddr>,
    /// What named exceptions led to, so that the socket that follows is let through.
    grants: Mutex<HashSet<(IpAddr, u16)>>,
    resolver: deno_fetch::dns::Resolver,
}

/// What an app reads. It names what was asked for, not what it led to.
pub(crate) fn refusal(host: &str, port: Option<u16>) -> String {
    let place = match port {
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let entry = if port.is_some() { place.clone() } else { format!("{place}:PORT") };
    format!(
        "outbound connection refused: `{place}` is not on the public internet, and apps reach \
         nothing else; `verge dev` allows it with `--allow-net {entry}` or \
         \"egress\": {{ \"allow\": [\"{entry}\"] }} in the configuration"
    )
}

impl Policy {
    pub fn new(
        egress: &Egress,
        resolver: deno_fetch::dns::Resolver,
    ) -> Result<Arc<Self>, EgressError> {
        let allowed = Allowed::parse(&egress.allow).map_err(EgressError::Allow)?;
        let denied = egress
            .deny
            .iter()
            .map(|text| text.trim().parse().map_err(|()| EgressError::Deny(text.clone())))
            .collect::<Result<_, _>>()?;
        let own = own::addresses();
        Ok(Arc::new(Self { allowed, denied, own, grants: Mutex::default(), resolver }))
    }

    /// The policy as Deno's permissions: everything but the network is denied.
    pub fn permissions(self: &Arc<Self>) -> Result<PermissionsContainer, EgressError> {
        permissions::container(self.clone()).map_err(EgressError::Engine)
    }

    /// Ranges for the second lock. It knows no ports and no names, so a range that an
    /// exception leads into is left to the first lock.
    fn denied_ranges(&self) -> Vec<Net> {
        let inside = |kind| matches!(kind, Kind::Loopback | Kind::Private | Kind::Shared);
        let special = refused_ranges()
            .into_iter()
            .filter(|(net, kind)| !self.allowed.may_touch(net, inside(*kind)))
            .map(|(net, _)| net);
        let own = self.own.iter().map(|ip| Net::one(*ip));
        let own = own.filter(|net| !self.allowed.may_touch(net, true));
        special.chain(own).chain(self.denied.iter().copied()).collect()
    }

    fn is_denied(&self, address: IpAddr) -> bool {
        self.denied.iter().any(|net| net.contains(address))
    }

    /// Public, and not the fleet's.
    fn is_public(&self, address: IpAddr) -> bool {
        judge(address) == Verdict::Public
            && !self.is_denied(address)
            && !self.own.contains(&address)
    }

    /// An address that the app itself wrote.
    fn address(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        self.is_public(address) || (!self.is_denied(address) && self.allowed.address(address, port))
    }

    /// A name that the app wrote, before it is looked up.
    fn name(&self, name: &str, port: u16) -> bool {
        let name = plain_name(name);
        self.allowed.name(&name, port).unwrap_or_else(|| !is_localhost(&name))
    }

    /// An address that `name` led to. The port was judged with the name.
    fn answer(&self, name: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let name = plain_name(name);
        self.is_public(address)
            || (!self.is_denied(address)
                && (self.allowed.whole_address(address) || self.allowed.is_named(&name)))
    }

    fn grant(&self, addresses: &[IpAddr], port: u16) {
        let mut grants = self.grants.lock();
        if grants.len() >= MAX_GRANTS {
            grants.clear();
        }
        grants.extend(addresses.iter().map(|address| (address.to_canonical(), port)));
    }

    /// An exception's name led here, on this port.
    fn is_granted(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        !self.is_denied(address) && self.grants.lock().contains(&(address, port))
    }
}

/// What an isolate's sockets and look-ups ask.
#[derive(Debug)]
pub(crate) struct Gate(pub Arc<Policy>);

impl Outbound for Gate {
    fn socket(&self, address: &str, port: u16) -> Result<(), String> {
        // Names never come here: Node looks them up first.
        let good = address
            .parse::<IpAddr>()
            .is_ok_and(|ip| self.0.address(ip, port) || self.0.is_granted(ip, port));
        if good { Ok(()) } else { Err(refusal(address, Some(port))) }
    }

    fn lookup(
        &self,
        host: String,
        port: Option<u16>,
    ) -> BoxFuture<Result<Vec<IpAddr>, LookupFailure>> {
        let policy = self.0.clone();
        Box::pin(async move { policy.look_up(&host, port).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow: &[&str], deny: &[&str]) -> Arc<Policy> {
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let egress = Egress { allow: strings(allow), deny: strings(deny) };
        Policy::new(&egress, deno_fetch::dns::Resolver::default()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_fleet_is_refused_and_an_exception_does_not_open_it() {
        let policy = policy(&["20.0.0.1", "127.0.0.1:80"], &["20.0.0.0/8"]);
        assert!(policy.address(ip("8.8.8.8"), 80));
        assert!(!policy.address(ip("20.0.0.1"), 80));
        assert!(!policy.address(ip("::ffff:20.0.0.1"), 80));
        assert!(!policy.answer("public.example", ip("20.9.9.9")));
        assert!(policy.address(ip("127.0.0.1"), 80));
        assert!(policy.address(ip("::ffff:127.0.0.1"), 80));
        assert!(!policy.address(ip("127.0.0.1"), 81));
    }

    #[test]
    fn a_name_that_leads_inside_needs_its_own_exception() {
        let policy = policy(&["127.0.0.1:80", "db.test:5432"], &[]);
        assert!(!policy.answer("evil.test", ip("127.0.0.1")));
        assert!(policy.answer("db.test", ip("10.0.0.5")));
        assert!(policy.name("db.test", 5432) && !policy.name("db.test", 22));
        assert!(policy.name("localhost", 80) && !policy.name("localhost", 22));
    }

    #[test]
    fn without_exceptions_the_second_lock_is_whole() {
        let ranges = policy(&[], &["20.0.0.0/8"]).denied_ranges();
        for address in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "20.1.1.1", "64:ff9b::a00:1"] {
            assert!(ranges.iter().any(|net| net.contains(ip(address))), "{address}");
        }
        let ranges = policy(&["127.0.0.1:80"], &[]).denied_ranges();
        assert!(!ranges.iter().any(|net| net.contains(ip("127.0.0.1"))));
        assert!(ranges.iter().any(|net| net.contains(ip("10.0.0.1"))));
    }

    #[test]
    fn a_policy_that_is_not_understood_is_no_policy() {
        let bad = Egress { allow: vec!["http://x".to_owned()], deny: Vec::new() };
        assert!(matches!(Policy::new(&bad, Default::default()), Err(EgressError::Allow(_))));
        let bad = Egress { allow: Vec::new(), deny: vec!["intranet".to_owned()] };
        assert!(matches!(Policy::new(&bad, Default::default()), Err(EgressError::Deny(_))));
    }
}
