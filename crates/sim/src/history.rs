//! What happened, as clients and an all-seeing observer know it, and whether it may have.
//!
//! Checked as it happens: the prefix property (each applied position has the checksum that its
//! primary gave it), one acknowledging primary per epoch and none behind a newer one, the bank's
//! total, read-your-writes, monotonic reads, writes-follow-reads, strong and bounded reads.
//! Checked at the end: acknowledged writes, equal replicas, lists without cycles.

use std::collections::{BTreeMap, BTreeSet};

use verge_replicate::session::Freshness;
use verge_replicate::{AckMode, Coverage, Lineage};
use verge_types::Position;

use crate::data::{Data, TOTAL};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise, in a word.
    pub promise: &'static str,
    pub what: String,
    /// Virtual microseconds.
    pub at: u64,
}

/// A write, as far as anybody knows of it.
#[derive(Clone, Debug)]
pub struct Written {
    pub list: u32,
    pub position: Option<Position>,
    pub acknowledged: Option<u64>,
    /// For each list, how many entries its session had seen before.
    pub after: Vec<usize>,
}

/// A read as its client got it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub lists: Vec<Vec<u32>>,
    pub total: i64,
    pub position: Position,
    pub freshness: Freshness,
    /// When the data was looked at.
    pub at: u64,
    pub asked: u64,
    /// What the answering node thought the history is.
    pub lineage: Lineage,
}

/// What one session relies on.
#[derive(Clone, Debug, Default)]
pub struct Relied {
    pub lists: Vec<Vec<u32>>,
    pub own: BTreeSet<u32>,
}

/// The record of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub writes: BTreeMap<u32, Written>,
    committed: BTreeMap<Position, Data>,
    acknowledging: BTreeMap<u64, usize>,
    newest_epoch: u64,
    pub reads: Vec<Seen>,
    /// Writes that an operator's restore cut off on purpose.
    pub restored_away: BTreeSet<u32>,
    pub violations: Vec<Violation>,
    /// A clock is beyond what leases allow: what rests on leases alone is not promised.
    pub bad_clock: bool,
    pub acknowledged: usize,
    pub lost_bookmarks: usize,
}

impl History {
    pub fn new(bad_clock: bool) -> Self {
        Self { bad_clock, ..Self::default() }
    }

    pub fn broken(&mut self, promise: &'static str, at: u64, what: String) {
        if self.violations.len() < 8 {
            self.violations.push(Violation { promise, what, at });
        }
    }

    /// A primary committed a group.
    pub fn committed(&mut self, position: Position, data: &Data, at: u64) {
        if let Some(other) = self.committed.insert(position, data.clone())
            && other != *data
        {
            self.broken("one history per epoch", at, format!("{position} was committed twice"));
        }
    }

    /// The data at a position, as its primary committed it.
    pub fn at(&self, position: Position) -> Option<&Data> {
        self.committed.get(&position)
    }

    /// A node made a position visible.
    pub fn visible(&mut self, node: usize, position: Position, data: &Data, at: u64) {
        let expected = match position.txid {
            0 => Some(Data::default().checksum()),
            _ => self.committed.get(&position).map(Data::checksum),
        };
        if expected != Some(data.checksum()) {
            self.broken(
                "prefix",
                at,
                format!("node {node} shows {position} as nobody committed it"),
            );
        }
    }

    /// A primary acknowledged a write to its client.
    pub fn acknowledged(&mut self, node: usize, epoch: u64, op: u32, at: u64) {
        let first = *self.acknowledging.entry(epoch).or_insert(node);
        if first != node {
            self.broken("one primary per epoch", at, format!("{first} and {node} in {epoch}"));
        }
        if epoch < self.newest_epoch && !self.bad_clock {
            let newest = self.newest_epoch;
            self.broken(
                "fencing",
                at,
                format!("node {node} acknowledged in epoch {epoch} after {newest} had begun to"),
            );
        }
        self.newest_epoch = self.newest_epoch.max(epoch);
        if let Some(written) = self.writes.get_mut(&op)
            && written.acknowledged.is_none()
        {
            written.acknowledged = Some(at);
            self.acknowledged += 1;
        }
    }

    /// A client got a read.
    pub fn read(&mut self, mode: AckMode, client: u64, relied: &mut Relied, seen: Seen, at: u64) {
        let place = format!("client {client} at {}", seen.position);
        if seen.total != TOTAL {
            self.broken("bank total", at, format!("{place}: {}", seen.total));
        }
        for (list, before) in relied.lists.iter().enumerate() {
            if !seen.lists[list].starts_with(before) {
                self.broken("monotonic reads", at, format!("{place}: list {list} went back"));
            }
        }
        let all: BTreeSet<u32> = seen.lists.iter().flatten().copied().collect();
        if let Some(op) = relied.own.iter().find(|op| !all.contains(op)) {
            self.broken("read your writes", at, format!("{place}: {op} is missing"));
        }
        self.check_order(&seen, &all, &place, at);
        self.check_fresh(mode, &seen, &all, &place, at);
        relied.lists.clone_from(&seen.lists);
        self.reads.push(seen);
    }

    fn check_order(&mut self, seen: &Seen, all: &BTreeSet<u32>, place: &str, at: u64) {
        let too_short = all.iter().find(|op| {
            self.writes.get(op).is_some_and(|written| {
                written.after.iter().zip(&seen.lists).any(|(after, list)| list.len() < *after)
            })
        });
        if let Some(op) = too_short.copied() {
            self.broken("writes follow reads", at, format!("{place}: {op} without its past"));
        }
    }

    fn check_fresh(
        &mut self,
        mode: AckMode,
        seen: &Seen,
        all: &BTreeSet<u32>,
        place: &str,
        at: u64,
    ) {
        if self.bad_clock {
            return;
        }
        let before = match seen.freshness {
            Freshness::Any => return,
            Freshness::Strong => seen.asked,
            // The bound is by the node's clock, which may drift a little.
            Freshness::Within(bound) => {
                let micros = bound.as_micros() as u64;
                seen.at.saturating_sub(micros + micros / 500 + 1000)
            }
        };
        let missing = self.writes.iter().find(|(op, written)| {
            let lost = mode == AckMode::Local
                && written.position.is_none_or(|position| {
                    seen.lineage.covers(position, u64::MAX) == Coverage::Lost
                });
            written.acknowledged.is_some_and(|when| when < before)
                && !all.contains(op)
                && !lost
                && !self.restored_away.contains(op)
        });
        if let Some((op, _)) = missing {
            let promise = match seen.freshness {
                Freshness::Strong => "strong reads",
                _ => "bounded staleness",
            };
            let what = format!("{place}: {op} is missing");
            self.broken(promise, at, what);
        }
    }

    /// All nodes have healed and had time; `data` is each one's, `aside` what was set aside.
    pub fn finish(
        &mut self,
        mode: AckMode,
        data: &[(Data, Lineage)],
        aside: &BTreeSet<u32>,
        at: u64,
    ) {
        let Some((last, lineage)) = data.first() else { return };
        for (node, (other, _)) in data.iter().enumerate() {
            if other.checksum() != last.checksum() {
                self.broken("convergence", at, format!("nodes 0 and {node} differ"));
            }
        }
        let lists = last.lists();
        let all: BTreeSet<u32> = lists.iter().flatten().copied().collect();
        let lost: Vec<u32> = self
            .writes
            .iter()
            .filter(|(op, written)| {
                // A failover in this mode may cut a tail off, but never drop it.
                let set_aside = mode == AckMode::Local && aside.contains(op);
                let kept = all.contains(op) || self.restored_away.contains(op) || set_aside;
                written.acknowledged.is_some() && !kept
            })
            .map(|(op, _)| *op)
            .collect();
        if !lost.is_empty() {
            self.broken("durability", at, format!("acknowledged, now nowhere: {lost:?}"));
        }
        self.check_cycles(&lists, lineage, at);
    }

    /// Transactions ordered by what they read and wrote must have no cycle. A read depends on the
    /// last entry it saw of each list, and comes before the next.
    fn check_cycles(&mut self, lists: &[Vec<u32>], lineage: &Lineage, at: u64) {
        let surviving: Vec<Seen> = self
            .reads
            .iter()
            .filter(|seen| lineage.covers(seen.position, u64::MAX) != Coverage::Lost)
            .cloned()
            .collect();
        // Nodes: writes by number; reads after them.
        let offset = self.writes.keys().last().map_or(0, |op| *op as usize + 1);
        let mut edges: Vec<Vec<usize>> = vec![Vec::new(); offset + surviving.len()];
        for list in lists {
            for pair in list.windows(2) {
                edges[pair[0] as usize].push(pair[1] as usize);
            }
        }
        for (index, seen) in surviving.iter().enumerate() {
            for (list, entries) in seen.lists.iter().enumerate() {
                if !lists[list].starts_with(entries) {
                    let what = format!("a read at {} is no prefix of list {list}", seen.position);
                    self.broken("list order", at, what);
                    return;
                }
                if let Some(last) = entries.last() {
                    edges[*last as usize].push(offset + index);
                }
                if let Some(next) = lists[list].get(entries.len()) {
                    edges[offset + index].push(*next as usize);
                }
            }
        }
        if has_cycle(&edges) {
            self.broken("no cycles", at, "reads and writes cannot be put in an order".into());
        }
    }
}

fn has_cycle(edges: &[Vec<usize>]) -> bool {
    let mut incoming = vec![0usize; edges.len()];
    edges.iter().flatten().for_each(|to| incoming[*to] += 1);
    let mut ready: Vec<usize> = (0..edges.len()).filter(|node| incoming[*node] == 0).collect();
    let mut done = 0;
    while let Some(node) = ready.pop() {
        done += 1;
        for to in &edges[node] {
            incoming[*to] -= 1;
            if incoming[*to] == 0 {
                ready.push(*to);
            }
        }
    }
    done < edges.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found() {
        assert!(!has_cycle(&[vec![1], vec![2], vec![]]));
        assert!(has_cycle(&[vec![1], vec![2], vec![0]]));
    }
}
