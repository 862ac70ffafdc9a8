//! Links between nodes, and from nodes to the register: one-way cuts, delay, loss, duplicates;
//! messages overtake each other as their delays fall.

use std::collections::BTreeSet;

use crate::plan::Plan;
use crate::rng::Rng;

/// The register's place in the network.
pub const REGISTER: usize = usize::MAX;

/// The network.
#[derive(Clone, Debug, Default)]
pub struct Net {
    cut: BTreeSet<(usize, usize)>,
    slow: BTreeSet<(usize, usize)>,
    calm: bool,
}

impl Net {
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub fn slow(&mut self, from: usize, to: usize) {
        self.slow.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.slow.clear();
    }

    /// No loss any more.
    pub fn calm(&mut self) {
        self.heal();
        self.calm = true;
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// After how long each copy of a message arrives.
    pub fn copies(&self, from: usize, to: usize, plan: &Plan, rng: &mut Rng) -> Vec<u64> {
        let mut copies = Vec::new();
        let lost = self.is_cut(from, to) || (!self.calm && rng.chance(plan.loss));
        if !lost {
            copies.push(self.delay(from, to, plan, rng));
            if !self.calm && rng.chance(plan.duplicates) {
                copies.push(self.delay(from, to, plan, rng) * 3);
            }
        }
        copies
    }

    fn delay(&self, from: usize, to: usize, plan: &Plan, rng: &mut Rng) -> u64 {
        let delay = rng.range(plan.delay.0, plan.delay.1.max(plan.delay.0 + 1));
        if self.slow.contains(&(from, to)) { delay * 20 } else { delay }
    }
}
