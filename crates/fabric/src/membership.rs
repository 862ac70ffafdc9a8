//! Who is in the fleet, how each of them is, and whom to dial when. Pure: time and events come
//! in, effects go out. Times are durations since this node's start.
//!
//! Each node judges the others by what it hears itself; from others it learns only that a node
//! exists and where. So a one-way cut never makes a node believe more than it can see.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::config::Timing;
use crate::control::{Hearsay, MAX_ADDRESS, Record};
use crate::random::Random;
use crate::{NodeId, Peer};

/// How a node is, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Connected and heard lately.
    Up,
    /// Silent for a while, or never heard yet.
    Suspect,
    /// Silent for long, or gone on purpose.
    Down,
}

/// One row of the member table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub peer: Peer,
    /// `host:port`.
    pub address: String,
    /// When its process began, in ms since 1970; 0 until it was heard of.
    pub incarnation: u64,
    pub state: State,
    /// There is a connection.
    pub linked: bool,
    /// It said goodbye.
    pub left: bool,
    /// What the last attempt to connect ended with.
    pub last_error: Option<String>,
}

/// All other nodes, in order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberTable {
    pub members: BTreeMap<NodeId, Member>,
}

impl MemberTable {
    pub fn get(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// True when the node is [`State::Up`].
    pub fn is_up(&self, node: &NodeId) -> bool {
        self.get(node).is_some_and(|member| member.state == State::Up)
    }
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub address: String,
    /// Who must be there; anyone of the fleet without it.
    pub node: Option<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Dial(Target),
    /// Drop the connection: nothing was heard on it for too long.
    Unlink {
        node: NodeId,
        link: u64,
    },
    /// The table differs from the last published one.
    Publish,
}

#[derive(Debug)]
struct Dialing {
    next: Duration,
    attempts: u32,
    running: bool,
}

impl Dialing {
    fn at(next: Duration) -> Self {
        Self { next, attempts: 0, running: false }
    }
}

#[derive(Debug)]
struct Entry {
    member: Member,
    heard: Duration,
    link: Option<u64>,
    seed: bool,
    dialing: Dialing,
}

/// An address without a name.
#[derive(Debug)]
struct Nameless {
    dialing: Dialing,
    /// Who turned out to be there.
    found: Option<NodeId>,
}

pub(crate) struct Membership {
    me: NodeId,
    timing: Timing,
    max_members: usize,
    random: Random,
    entries: BTreeMap<NodeId, Entry>,
    nameless: HashMap<String, Nameless>,
    refused: u64,
}

impl Membership {
    pub fn new(me: NodeId, timing: Timing, max_members: usize, seed: u64) -> Self {
        Self {
            me,
            timing,
            max_members,
            random: Random::new(seed),
            entries: BTreeMap::new(),
            nameless: HashMap::new(),
            refused: 0,
        }
    }

    pub fn add_seed(&mut self, now: Duration, address: String, peer: Option<Peer>) {
        match peer {
            Some(peer) if peer.node == self.me => {}
            Some(peer) => {
                let record = Record { node: peer.node, pop: peer.pop, address, incarnation: 0 };
                let node = record.node.clone();
                self.insert(now, record, now);
                if let Some(entry) = self.entries.get_mut(&node) {
                    entry.seed = true;
                }
            }
            None => {
                let nameless = Nameless { dialing: Dialing::at(now), found: None };
                self.nameless.insert(address, nameless);
            }
        }
    }

    /// Somebody told of a node.
    pub fn learned(&mut self, now: Duration, hearsay: Hearsay) -> Vec<Effect> {
        let Hearsay { record, heard_ms_ago } = hearsay;
        let age = Duration::from_millis(heard_ms_ago);
        if record.node == self.me || record.address.len() > MAX_ADDRESS {
            return Vec::new();
        }
        if let Some(entry) = self.entries.get_mut(&record.node) {
            if record.incarnation <= entry.member.incarnation || entry.link.is_some() {
                return Vec::new();
            }
            // It was restarted, maybe elsewhere.
            entry.member.address = record.address;
            entry.member.incarnation = record.incarnation;
            entry.member.left = false;
            entry.dialing.attempts = 0;
            entry.dialing.next = entry.dialing.next.min(now + self.timing.backoff_min);
            return vec![Effect::Publish];
        }
        if age >= self.timing.forget_after {
            return Vec::new();
        }
        let known = self.insert(now, record, now.saturating_sub(age));
        if known { vec![Effect::Publish] } else { Vec::new() }
    }

    fn insert(&mut self, now: Duration, record: Record, heard: Duration) -> bool {
        if self.entries.len() >= self.max_members {
            self.refused += 1;
            return false;
        }
        let grace = self.grace(&record.node);
        let Record { node, pop, address, incarnation } = record;
        let member = Member {
            peer: Peer { node: node.clone(), pop },
            address,
            incarnation,
            state: State::Suspect,
            linked: false,
            left: false,
            last_error: None,
        };
        let dialing = Dialing::at(now + grace);
        self.entries.insert(node, Entry { member, heard, link: None, seed: false, dialing });
        true
    }

    /// The node whose name sorts first dials; the other waits for it a while.
    fn grace(&self, node: &NodeId) -> Duration {
        if self.me < *node { Duration::ZERO } else { self.timing.dial_grace }
    }

    /// A connection stands. `dialed`: the address we dialed, if it was us.
    pub fn linked(
        &mut self,
        now: Duration,
        record: Record,
        link: u64,
        dialed: Option<&str>,
    ) -> Vec<Effect> {
        let node = record.node.clone();
        if let Some(nameless) = dialed.and_then(|address| self.nameless.get_mut(address)) {
            nameless.dialing.running = false;
            nameless.found = Some(node.clone());
        }
        if !self.entries.contains_key(&node) && !self.insert(now, record.clone(), now) {
            return vec![Effect::Unlink { node, link }];
        }
        let seed = self.nameless.values().any(|n| n.found.as_ref() == Some(&node));
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.member.peer.pop = record.pop;
            entry.member.address = record.address;
            entry.member.incarnation = record.incarnation;
            entry.member.state = State::Up;
            entry.member.linked = true;
            entry.member.left = false;
            entry.member.last_error = None;
            entry.heard = now;
            entry.link = Some(link);
            entry.seed |= seed;
            entry.dialing = Dialing::at(now);
        }
        vec![Effect::Publish]
    }

    /// A connection ended.
    pub fn unlinked(&mut self, now: Duration, node: &NodeId, link: u64, why: &str) -> Vec<Effect> {
        let grace = self.grace(node);
        let wait = self.backoff(0);
        let Some(entry) = self.entries.get_mut(node).filter(|e| e.link == Some(link)) else {
            return Vec::new();
        };
        entry.link = None;
        entry.member.linked = false;
        entry.member.last_error = Some(why.to_owned());
        if entry.member.state == State::Up {
            entry.member.state = State::Suspect;
        }
        entry.dialing = Dialing::at(now + wait + grace);
        vec![Effect::Publish]
    }

    /// Bytes came from the node.
    pub fn heard(&mut self, now: Duration, node: &NodeId, link: u64) -> Vec<Effect> {
        let Some(entry) = self.entries.get_mut(node).filter(|e| e.link == Some(link)) else {
            return Vec::new();
        };
        entry.heard = now;
        if entry.member.state == State::Up || entry.member.left {
            return Vec::new();
        }
        entry.member.state = State::Up;
        vec![Effect::Publish]
    }

    /// The node said that it goes.
    pub fn left(&mut self, now: Duration, node: &NodeId) -> Vec<Effect> {
        let wait = self.timing.backoff_max;
        let Some(entry) = self.entries.get_mut(node) else { return Vec::new() };
        entry.member.left = true;
        entry.member.state = State::Down;
        entry.dialing.next = now + wait;
        vec![Effect::Publish]
    }

    /// Our dialing came to nothing. `myself`: the address is this node's own; never again.
    pub fn dial_failed(
        &mut self,
        now: Duration,
        target: &Target,
        why: &str,
        myself: bool,
    ) -> Vec<Effect> {
        let attempts = self.dialing(target).map_or(0, |dialing| dialing.attempts);
        let wait = self.backoff(attempts);
        if let Some(dialing) = self.dialing(target) {
            dialing.running = false;
            dialing.attempts = dialing.attempts.saturating_add(1);
            dialing.next = if myself { Duration::MAX } else { now + wait };
        }
        let Some(entry) = target.node.as_ref().and_then(|node| self.entries.get_mut(node)) else {
            return Vec::new();
        };
        if entry.link.is_some() || entry.member.last_error.as_deref() == Some(why) {
            return Vec::new();
        }
        entry.member.last_error = Some(why.to_owned());
        vec![Effect::Publish]
    }

    /// Our dialing ended because a connection of the pair exists or is about to.
    pub fn dial_needless(&mut self, now: Duration, target: &Target) {
        let wait = self.timing.backoff_max;
        if let Some(dialing) = self.dialing(target) {
            dialing.running = false;
            dialing.next = now + wait;
        }
    }

    fn dialing(&mut self, target: &Target) -> Option<&mut Dialing> {
        match &target.node {
            Some(node) => self.entries.get_mut(node).map(|entry| &mut entry.dialing),
            None => self.nameless.get_mut(&target.address).map(|nameless| &mut nameless.dialing),
        }
    }

    fn backoff(&mut self, attempts: u32) -> Duration {
        let full = self
            .timing
            .backoff_min
            .saturating_mul(2u32.saturating_pow(attempts.min(20)))
            .min(self.timing.backoff_max);
        full.mul_f64(0.5 + 0.5 * self.random.unit())
    }

    /// Time passes: call it several times per heartbeat.
    pub fn tick(&mut self, now: Duration) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut changed = false;
        let timing = &self.timing;
        self.entries.retain(|_, entry| {
            let keep = entry.seed
                || entry.link.is_some()
                || now.saturating_sub(entry.heard) < timing.forget_after;
            changed |= !keep;
            keep
        });
        for (node, entry) in &mut self.entries {
            let silence = now.saturating_sub(entry.heard);
            let state = if entry.member.left || silence >= timing.down_after {
                State::Down
            } else if silence >= timing.suspect_after || entry.link.is_none() {
                State::Suspect
            } else {
                State::Up
            };
            changed |= state != entry.member.state;
            entry.member.state = state;
            match entry.link {
                Some(link) if silence >= timing.down_after => {
                    effects.push(Effect::Unlink { node: node.clone(), link });
                }
                Some(_) => {}
                None if !entry.dialing.running && entry.dialing.next <= now => {
                    entry.dialing.running = true;
                    let address = entry.member.address.clone();
                    effects.push(Effect::Dial(Target { address, node: Some(node.clone()) }));
                }
                None => {}
            }
        }
        for (address, nameless) in &mut self.nameless {
            let known = nameless.found.as_ref().is_some_and(|node| self.entries.contains_key(node));
            if !known && !nameless.dialing.running && nameless.dialing.next <= now {
                nameless.dialing.running = true;
                effects.push(Effect::Dial(Target { address: address.clone(), node: None }));
            }
        }
        if changed {
            effects.push(Effect::Publish);
        }
        effects
    }

    pub fn table(&self) -> MemberTable {
        let members =
            self.entries.iter().map(|(node, entry)| (node.clone(), entry.member.clone())).collect();
        MemberTable { members }
    }

    /// What to tell others.
    pub fn hearsay(&self, now: Duration) -> Vec<Hearsay> {
        self.entries
            .values()
            .filter(|entry| entry.member.incarnation != 0)
            .map(|entry| {
                let member = &entry.member;
                let age = now.saturating_sub(entry.heard).as_millis();
                Hearsay {
                    record: Record {
                        node: member.peer.node.clone(),
                        pop: member.peer.pop.clone(),
                        address: member.address.clone(),
                        incarnation: member.incarnation,
                    },
                    heard_ms_ago: u64::try_from(age).unwrap_or(u64::MAX),
                }
            })
            .collect()
    }

    /// Nodes that were not taken up because the table was full.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// A connection, as the choice between two of the same pair needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    /// The node whose name sorts first dialed it.
    pub by_lesser: bool,
    /// Of the process at the other end.
    pub incarnation: u64,
    /// Nothing was heard on it for as long as makes a node suspect.
    pub silent: bool,
}

/// Two connections of one pair: does the new one replace the old one? Both ends come to the same
/// choice, unless one end knows better that the old one is dead.
pub(crate) fn replaces(new: LinkFacts, old: LinkFacts) -> bool {
    old.silent || new.incarnation > old.incarnation || new.by_lesser || !old.by_lesser
}

#[cfg(test)]
#[path = "membership_tests.rs"]
mod tests;
