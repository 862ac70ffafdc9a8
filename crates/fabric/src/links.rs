//! The conditions of every link of a simulated world, shared by the nodes of one process and
//! changed while they run. A fleet of real machines has none.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::random::seed_of;
use crate::shaper::Conditions;
use crate::{NodeId, cities};

/// A handle; clones share the same world.
#[derive(Clone)]
pub struct Links(Arc<World>);

struct World {
    seed: u64,
    table: Mutex<Table>,
    /// Rises with each change.
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct Table {
    conditions: HashMap<(NodeId, NodeId), Conditions>,
    /// Whose port is this? The dialer of a connection shapes both directions.
    listeners: HashMap<SocketAddr, NodeId>,
    connections: u64,
}

impl Links {
    /// A world without delays. `seed` decides jitter and loss.
    pub fn new(seed: u64) -> Self {
        let version = watch::Sender::new(0);
        Self(Arc::new(World { seed, table: Mutex::default(), version }))
    }

    /// Gives every pair of nodes the round trip between their cities; `nodes` are (node, code of
    /// its point of presence), `overrides` are (code, code, round trip). Pairs with an unknown
    /// code and no override get `unknown`.
    pub fn set_round_trips(
        &self,
        nodes: &[(NodeId, String)],
        overrides: &[(String, String, Duration)],
        unknown: Duration,
    ) {
        for (at, (a, a_pop)) in nodes.iter().enumerate() {
            for (b, b_pop) in &nodes[at + 1..] {
                let given = overrides
                    .iter()
                    .find(|(x, y, _)| (x, y) == (a_pop, b_pop) || (x, y) == (b_pop, a_pop));
                let round_trip = given.map_or_else(
                    || cities::round_trip(a_pop, b_pop).unwrap_or(unknown),
                    |(_, _, time)| *time,
                );
                self.update_both(a, b, |conditions| conditions.delay = round_trip / 2);
            }
        }
    }

    /// How bytes from one node to another fare now.
    pub fn get(&self, from: &NodeId, to: &NodeId) -> Conditions {
        let table = self.0.table.lock();
        table.conditions.get(&(from.clone(), to.clone())).copied().unwrap_or_default()
    }

    /// Replaces the conditions of one direction.
    pub fn set(&self, from: &NodeId, to: &NodeId, conditions: Conditions) {
        self.update(from, to, |now| *now = conditions);
    }

    /// Changes the conditions of one direction.
    pub fn update(&self, from: &NodeId, to: &NodeId, change: impl FnOnce(&mut Conditions)) {
        let mut table = self.0.table.lock();
        change(table.conditions.entry((from.clone(), to.clone())).or_default());
        drop(table);
        self.0.version.send_modify(|version| *version += 1);
    }

    /// Changes both directions in the same way.
    pub fn update_both(&self, a: &NodeId, b: &NodeId, change: impl Fn(&mut Conditions)) {
        self.update(a, b, &change);
        self.update(b, a, &change);
    }

    /// Nothing passes from one to the other; the way back stays.
    pub fn cut_one_way(&self, from: &NodeId, to: &NodeId) {
        self.update(from, to, |conditions| conditions.cut = true);
    }

    /// Nothing passes between the two.
    pub fn cut(&self, a: &NodeId, b: &NodeId) {
        self.update_both(a, b, |conditions| conditions.cut = true);
    }

    /// Undoes a cut, loss, jitter and a bandwidth limit; the delay stays.
    pub fn heal(&self, a: &NodeId, b: &NodeId) {
        self.update_both(a, b, |conditions| *conditions = Conditions::delayed(conditions.delay));
    }

    /// Sets the round trip, half of it in each direction.
    pub fn slow(&self, a: &NodeId, b: &NodeId, round_trip: Duration) {
        self.update_both(a, b, |conditions| conditions.delay = round_trip / 2);
    }

    /// Every direction that is not clear, in order.
    pub fn list(&self) -> Vec<(NodeId, NodeId, Conditions)> {
        let table = self.0.table.lock();
        let mut all: Vec<_> = table
            .conditions
            .iter()
            .filter(|(_, conditions)| !conditions.is_clear())
            .map(|((from, to), conditions)| (from.clone(), to.clone(), *conditions))
            .collect();
        drop(table);
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.version.subscribe()
    }

    pub(crate) fn register(&self, listener: SocketAddr, node: NodeId) {
        self.0.table.lock().listeners.insert(listener, node);
    }

    pub(crate) fn unregister(&self, listener: &SocketAddr) {
        self.0.table.lock().listeners.remove(listener);
    }

    pub(crate) fn listener(&self, address: &SocketAddr) -> Option<NodeId> {
        self.0.table.lock().listeners.get(address).cloned()
    }

    /// A seed of its own for each direction of each connection.
    pub(crate) fn connection_seed(&self, from: &NodeId, to: &NodeId) -> u64 {
        let mut table = self.0.table.lock();
        table.connections += 1;
        self.0.seed
            ^ seed_of(from.as_str()).rotate_left(21)
            ^ seed_of(to.as_str())
            ^ table.connections
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_apart_and_healing_keeps_the_delay() {
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let links = Links::new(1);
        links.slow(&a, &b, Duration::from_millis(80));
        links.cut_one_way(&a, &b);
        assert!(links.get(&a, &b).cut && !links.get(&b, &a).cut);
        links.heal(&a, &b);
        assert_eq!(links.get(&a, &b), Conditions::delayed(Duration::from_millis(40)));
        assert_eq!(links.list().len(), 2);
    }

    #[test]
    fn cities_give_delays_and_overrides_win() {
        let node = |name: &str, pop: &str| (name.parse::<NodeId>().unwrap(), pop.to_owned());
        let nodes = [node("a", "iad"), node("b", "fra"), node("c", "mars")];
        let links = Links::new(1);
        let given = [("fra".to_owned(), "iad".to_owned(), Duration::from_millis(10))];
        links.set_round_trips(&nodes, &given, Duration::from_millis(20));
        assert_eq!(links.get(&nodes[0].0, &nodes[1].0).delay, Duration::from_millis(5));
        assert_eq!(links.get(&nodes[2].0, &nodes[1].0).delay, Duration::from_millis(10));
    }
}
