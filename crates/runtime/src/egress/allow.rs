//! Exceptions for development: places inside that apps may reach all the same, by name.
//!
//! An exception holds for the spelling it names: an address or range for those addresses, a
//! name for whatever that name leads to. `localhost` and the loopback addresses stand for one
//! another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::net::Net;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Range(Net),
    /// Lower case, without a trailing dot.
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    who: Who,
    /// Every port without one.
    port: Option<u16>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed(Vec<Exception>);

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Lower case, without the trailing dot that only says that a name is complete.
pub(crate) fn plain_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

pub(crate) fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        let range = |text: &str| text.parse::<Net>().ok();
        if let Some(net) = range(text) {
            return Some(Self { who: Who::Range(net), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
            None => (text, None),
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Some(net) = range(host) {
            return Some(Self { who: Who::Range(net), port });
        }
        let name = plain_name(host);
        let good = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        good.then_some(Self { who: Who::Name(name), port })
    }

    fn covers(&self, address: IpAddr) -> bool {
        match &self.who {
            Who::Range(net) => net.contains(address),
            Who::Name(name) => name == "localhost" && LOOPBACK.contains(&address),
        }
    }

    fn names(&self, name: &str) -> bool {
        match &self.who {
            Who::Name(own) => own == name || (own == "localhost" && is_localhost(name)),
            Who::Range(net) => {
                is_localhost(name) && LOOPBACK.iter().any(|address| net.contains(*address))
            }
        }
    }

    fn has_port(&self, port: u16) -> bool {
        self.port.is_none_or(|own| own == port)
    }
}

impl Allowed {
    /// The error is the entry that is not understood.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        entries
            .iter()
            .map(|text| Exception::parse(text.trim()).ok_or_else(|| text.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn address(&self, address: IpAddr, port: u16) -> bool {
        self.0.iter().any(|e| e.covers(address) && e.has_port(port))
    }

    /// On every port.
    pub fn whole_address(&self, address: IpAddr) -> bool {
        self.0.iter().any(|e| e.covers(address) && e.port.is_none())
    }

    /// Whether the name is an exception at all, and then whether on this port.
    pub fn name(&self, name: &str, port: u16) -> Option<bool> {
        self.is_named(name).then(|| self.0.iter().any(|e| e.names(name) && e.has_port(port)))
    }

    pub fn is_named(&self, name: &str) -> bool {
        self.0.iter().any(|e| e.names(name))
    }

    /// Whether an exception may lead into this range; names may lead anywhere inside.
    pub fn may_touch(&self, range: &Net, inside: bool) -> bool {
        self.0.iter().any(|e| match &e.who {
            Who::Range(net) => net.overlaps(range),
            Who::Name(_) => inside,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(entries: &[&str]) -> Allowed {
        Allowed::parse(&entries.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn an_exception_holds_for_what_it_names() {
        let a = allowed(&["127.0.0.1:5432", "Db.Internal.:80", "[fd00::1]:9", "10.1.0.0/16"]);
        assert!(a.address("127.0.0.1".parse().unwrap(), 5432));
        assert!(!a.address("127.0.0.1".parse().unwrap(), 5433));
        assert!(!a.address("127.0.0.2".parse().unwrap(), 5432));
        assert!(!a.whole_address("127.0.0.1".parse().unwrap()));
        assert_eq!(a.name("db.internal", 80), Some(true));
        assert_eq!(a.name("db.internal", 81), Some(false));
        assert_eq!(a.name("localhost", 5432), Some(true));
        assert_eq!(a.name("localhost", 22), Some(false));
        assert_eq!(a.name("other", 80), None);
        assert!(a.address("fd00::1".parse().unwrap(), 9));
        assert!(a.whole_address("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn localhost_is_loopback_and_nothing_else() {
        let a = allowed(&["localhost:3000"]);
        assert!(a.address("127.0.0.1".parse().unwrap(), 3000));
        assert!(a.address("::1".parse().unwrap(), 3000));
        assert!(!a.address("127.0.0.2".parse().unwrap(), 3000));
        assert_eq!(a.name("localhost", 3000), Some(true));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", ":80", "a b:1", "host:0", "host:99999", "http://x", "x/y", "10.0.0.0/40"] {
            assert!(Allowed::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
