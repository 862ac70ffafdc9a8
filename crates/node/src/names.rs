//! Who the nodes of a fleet are to the cores: numbers instead of names.

use std::collections::BTreeSet;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use verge_fabric::Peer;
use verge_replicate::NodeId;
use verge_types::PopName;

/// A node's number: a hash of its name, so that all nodes agree on it without asking. A name is
/// of one data folder; who sets up a new disk under an old name takes part in elections with
/// nothing in hand.
pub(crate) fn number(name: &verge_fabric::NodeId) -> NodeId {
    let fnv = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    NodeId(mixed ^ (mixed >> 29))
}

/// The nodes that are known: the voters from the start, others as they are met.
#[derive(Debug)]
pub(crate) struct Roster {
    pub(crate) me: NodeId,
    pub(crate) voters: BTreeSet<NodeId>,
    peers: RwLock<FxHashMap<NodeId, Peer>>,
}

impl Roster {
    pub(crate) fn new(me: &Peer, voters: &[Peer]) -> Self {
        let mut peers = FxHashMap::default();
        for peer in voters.iter().chain([me]) {
            peers.insert(number(&peer.node), peer.clone());
        }
        Self {
            me: number(&me.node),
            voters: voters.iter().map(|peer| number(&peer.node)).collect(),
            peers: RwLock::new(peers),
        }
    }

    /// Takes a node in that another one introduced; its number.
    pub(crate) fn met(&self, peer: &Peer) -> NodeId {
        let id = number(&peer.node);
        if !self.peers.read().contains_key(&id) {
            self.peers.write().insert(id, peer.clone());
        }
        id
    }

    pub(crate) fn peer(&self, id: NodeId) -> Option<Peer> {
        self.peers.read().get(&id).cloned()
    }

    pub(crate) fn others(&self) -> Vec<(NodeId, Peer)> {
        let peers = self.peers.read();
        let mut all: Vec<_> = peers
            .iter()
            .filter(|(id, _)| **id != self.me)
            .map(|(id, peer)| (*id, peer.clone()))
            .collect();
        all.sort_by(|a, b| a.1.node.cmp(&b.1.node));
        all
    }

    /// The first node of a PoP, by name: where its datasets begin.
    pub(crate) fn first_of(&self, pop: &PopName) -> Option<NodeId> {
        let peers = self.peers.read();
        let of_pop = peers.iter().filter(|(id, peer)| peer.pop == *pop && self.may_lead(**id));
        of_pop.min_by(|a, b| a.1.node.cmp(&b.1.node)).map(|(id, _)| *id)
    }

    fn may_lead(&self, id: NodeId) -> bool {
        self.voters.is_empty() || self.voters.contains(&id)
    }
}
