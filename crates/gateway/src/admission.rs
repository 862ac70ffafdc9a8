//! How many connections there may be, in all and from one peer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use verge_telemetry::{Metrics, Rejection};

/// Counts open connections.
pub struct Admission {
    counts: Mutex<Counts>,
    max: usize,
    max_per_peer: usize,
    metrics: Metrics,
    /// Notified when the last connection is gone.
    pub empty: Notify,
}

#[derive(Default)]
struct Counts {
    all: usize,
    /// Only peers with an open connection are in it, so it cannot outgrow `max`.
    peers: HashMap<PeerKey, usize>,
}

/// An IPv4 address, or the /64 of an IPv6 address: one customer has that many.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PeerKey(u64);

impl From<IpAddr> for PeerKey {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            // No global IPv6 prefix begins with 32 zero bits, so the two cannot meet.
            IpAddr::V4(ip) => Self(u64::from(ip.to_bits())),
            IpAddr::V6(ip) => Self((ip.to_bits() >> 64) as u64),
        }
    }
}

impl Admission {
    pub fn new(max: usize, max_per_peer: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            counts: Mutex::default(),
            max,
            max_per_peer,
            metrics,
            empty: Notify::new(),
        })
    }

    /// A place for one connection, or why there is none.
    pub fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Permit, Rejection> {
        let peer = PeerKey::from(ip);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= self.max {
            return Err(Rejection::too_many);
        }
        let of_peer = counts.peers.entry(peer).or_insert(0);
        if *of_peer >= self.max_per_peer {
            if *of_peer == 0 {
                counts.peers.remove(&peer);
            }
            return Err(Rejection::too_many_from_peer);
        }
        *of_peer += 1;
        counts.all += 1;
        drop(counts);
        self.metrics.connection_opened();
        Ok(Permit { admission: Arc::clone(self), peer })
    }

    pub fn open(&self) -> usize {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

/// One connection's place; given back on drop.
pub struct Permit {
    admission: Arc<Admission>,
    peer: PeerKey,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let admission = &self.admission;
        let mut counts = admission.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(of_peer) = counts.peers.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                counts.peers.remove(&self.peer);
            }
        }
        let last = counts.all == 0;
        drop(counts);
        admission.metrics.connection_closed();
        if last {
            admission.empty.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_all_and_by_peer_and_given_back() {
        let admission = Admission::new(3, 2, Metrics::new());
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert_eq!(admission.admit(a).err(), Some(Rejection::too_many_from_peer));
        let _third = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).err(), Some(Rejection::too_many));
        drop(first);
        let _again = admission.admit(a).unwrap();
        assert_eq!(admission.open(), 3);
    }

    #[test]
    fn an_ipv6_network_is_one_peer() {
        let admission = Admission::new(9, 1, Metrics::new());
        let _one = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(admission.admit("2001:db8::2".parse().unwrap()).is_err());
        assert!(admission.admit("2001:db8:0:1::2".parse().unwrap()).is_ok());
    }
}
