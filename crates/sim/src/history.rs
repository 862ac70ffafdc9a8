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

use crate::content::{Content, TOTAL};
use crate::cycle::has_cycle;

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
    /// The last entries of the lists that its session had seen before.
    pub after: Vec<u32>,
}

/// What a position is.
#[derive(Clone, Debug)]
struct Fact {
    checksum: u64,
    /// Not with the model, whose pages are the content.
    content: Option<Content>,
}

/// What a primary was about to make of a position. If its power fails meanwhile, only what is
/// found afterwards tells whether it did.
#[derive(Clone, Debug)]
struct Attempt {
    ops: Vec<u32>,
    content: Content,
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
    committed: BTreeMap<Position, Fact>,
    attempts: BTreeMap<Position, Vec<Attempt>>,
    /// The checksum before the first transaction.
    pub genesis: Option<u64>,
    acknowledging: BTreeMap<u64, usize>,
    newest_epoch: u64,
    pub reads: Vec<Seen>,
    /// Writes that an operator's restore took back on purpose.
    pub restored_away: BTreeSet<u32>,
    /// A restore is a transaction of its own, which sessions see without losing their bookmarks.
    pub restores_go_on: bool,
    pub violations: Vec<Violation>,
    /// A clock is beyond what leases allow: what rests on leases alone is not promised.
    pub bad_clock: bool,
    pub acknowledged: usize,
    pub lost_bookmarks: usize,
}

impl History {
    pub fn new(bad_clock: bool, restores_go_on: bool) -> Self {
        Self { bad_clock, restores_go_on, ..Self::default() }
    }

    pub fn broken(&mut self, promise: &'static str, at: u64, what: String) {
        if self.violations.len() < 8 {
            self.violations.push(Violation { promise, what, at });
        }
    }

    /// A primary committed a group.
    pub fn committed(&mut self, position: Position, checksum: u64, ops: &[u32], at: u64) {
        let fact = Fact { checksum, content: None };
        if let Some(other) = self.committed.insert(position, fact)
            && other.checksum != checksum
        {
            self.broken("one history per epoch", at, format!("{position} was committed twice"));
        }
        self.place(position, ops);
    }

    /// A primary is about to commit `content`: whoever shows `position` first shows whether it did.
    pub fn attempt(&mut self, position: Position, ops: Vec<u32>, content: Content) {
        self.attempts.entry(position).or_default().push(Attempt { ops, content });
    }

    pub fn place(&mut self, position: Position, ops: &[u32]) {
        for op in ops {
            if let Some(written) = self.writes.get_mut(op) {
                written.position = Some(position);
            }
        }
    }

    /// Changes with every position and the pages there, and with what anybody was told.
    pub fn hash(&self) -> u64 {
        let mut hash = 0u64;
        let mut mix = |value: u64| {
            hash = (hash ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        };
        for (position, fact) in &self.committed {
            [position.epoch, position.txid, fact.checksum].into_iter().for_each(&mut mix);
        }
        for (op, written) in &self.writes {
            let position = written.position.unwrap_or_default();
            let told = written.acknowledged.unwrap_or(u64::MAX);
            [u64::from(*op), position.epoch, position.txid, told].into_iter().for_each(&mut mix);
        }
        for seen in &self.reads {
            let Position { epoch, txid } = seen.position;
            let entries = seen.lists.iter().map(|list| list.len() as u64);
            [epoch, txid, seen.at].into_iter().chain(entries).for_each(&mut mix);
        }
        hash
    }

    /// The content at a position, as far as it is known.
    pub fn content_at(&self, position: Position) -> Option<Content> {
        match position.txid {
            0 => Some(Content::default()),
            _ => self.committed.get(&position)?.content.clone(),
        }
    }

    /// Whether a position has this checksum.
    fn is(&self, position: Position, checksum: u64) -> bool {
        self.committed.get(&position).is_some_and(|fact| fact.checksum == checksum)
    }

    /// A node made a position visible; `checksum` is of its pages.
    pub fn visible(
        &mut self,
        node: usize,
        position: Position,
        checksum: u64,
        content: impl FnOnce() -> Option<Content>,
        at: u64,
    ) {
        let expected = match position.txid {
            0 => Some(*self.genesis.get_or_insert(checksum)),
            _ => self.committed.get(&position).map(|fact| fact.checksum),
        };
        if expected == Some(checksum) {
            return;
        }
        if expected.is_none()
            && let Some(attempts) = self.attempts.remove(&position)
            && let Some(content) = content()
            && let Some(attempt) = attempts.iter().find(|attempt| attempt.content == content)
        {
            self.committed.insert(position, Fact { checksum, content: Some(content) });
            self.place(position, &attempt.ops);
            return;
        }
        let what = format!("node {node} shows {position} as nobody committed it");
        self.broken("prefix", at, what);
    }

    /// A read in the middle of a sync got `content` and was told `position`.
    pub fn glimpsed(&mut self, position: Position, content: &Content, at: u64) {
        if self.content_at(position).is_some_and(|known| known != *content) {
            let what = format!("a read was told {position}, which is not what it saw");
            self.broken("reads of what is durable", at, what);
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

    /// An operator went back to `content`: writes that it lacks are gone on purpose.
    pub fn take_back(&mut self, content: &Content) {
        let kept: BTreeSet<u32> = content.lists.iter().flatten().copied().collect();
        let gone = self
            .writes
            .iter()
            .filter(|(op, written)| written.position.is_some() && !kept.contains(op));
        self.restored_away.extend(gone.map(|(op, _)| *op).collect::<Vec<_>>());
    }

    /// The writes of positions that were set aside, if they are what was committed there.
    pub fn ops_at(&self, kept: &[(Position, u64)]) -> Vec<u32> {
        let at = |position| kept.iter().find(|(kept, _)| *kept == position);
        let is_kept = |written: &Written| {
            let kept = written.position.and_then(at);
            kept.is_some_and(|(position, checksum)| self.is(*position, *checksum))
        };
        self.writes.iter().filter(|(_, written)| is_kept(written)).map(|(op, _)| *op).collect()
    }

    /// A client got a read.
    pub fn read(&mut self, mode: AckMode, client: u64, relied: &mut Relied, seen: Seen, at: u64) {
        let place = format!("client {client} at {}", seen.position);
        if seen.total != TOTAL {
            self.broken("bank total", at, format!("{place}: {}", seen.total));
        }
        for (list, before) in relied.lists.iter().enumerate() {
            if !self.kept(&seen.lists[list]).starts_with(&self.kept(before)) {
                self.broken("monotonic reads", at, format!("{place}: list {list} went back"));
            }
        }
        let all: BTreeSet<u32> = seen.lists.iter().flatten().copied().collect();
        if let Some(op) = relied.own.iter().find(|op| !all.contains(op) && !self.excused(**op)) {
            self.broken("read your writes", at, format!("{place}: {op} is missing"));
        }
        self.check_order(&all, &place, at);
        self.check_fresh(mode, &seen, &all, &place, at);
        relied.lists.clone_from(&seen.lists);
        self.reads.push(seen);
    }

    /// A write that may be gone from one position to a later one.
    fn excused(&self, op: u32) -> bool {
        self.restores_go_on && self.restored_away.contains(&op)
    }

    fn kept(&self, list: &[u32]) -> Vec<u32> {
        list.iter().copied().filter(|op| !self.excused(*op)).collect()
    }

    fn check_order(&mut self, all: &BTreeSet<u32>, place: &str, at: u64) {
        let too_early = all.iter().find(|op| {
            self.writes.get(op).is_some_and(|written| {
                written.after.iter().any(|op| !all.contains(op) && !self.excused(*op))
            })
        });
        if let Some(op) = too_early.copied() {
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
        data: &[(u64, Content, Lineage)],
        aside: &BTreeSet<u32>,
        at: u64,
    ) {
        let Some((checksum, last, lineage)) = data.first() else { return };
        for (node, (other, ..)) in data.iter().enumerate() {
            if other != checksum {
                self.broken("convergence", at, format!("nodes 0 and {node} differ"));
            }
        }
        let all: BTreeSet<u32> = last.lists.iter().flatten().copied().collect();
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
        let lists: Vec<_> = last.lists.iter().map(|list| self.kept(list)).collect();
        self.check_cycles(&lists, lineage, at);
    }

    /// Transactions ordered by what they read and wrote must have no cycle. A read depends on the
    /// last entry it saw of each list, and comes before the next.
    fn check_cycles(&mut self, lists: &[Vec<u32>], lineage: &Lineage, at: u64) {
        let surviving: Vec<Seen> = self
            .reads
            .iter()
            .filter(|seen| lineage.covers(seen.position, u64::MAX) != Coverage::Lost)
            .map(|seen| Seen {
                lists: seen.lists.iter().map(|list| self.kept(list)).collect(),
                ..seen.clone()
            })
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
