//! Clients: sessions that hop between nodes, write, read, and note what they got.

use std::time::Duration;

use verge_replicate::session::{
    Decision, Freshness, Need, Refusal, Session, SessionLimits, decide_read, decide_write,
};
use verge_replicate::{AckMode, Lineage, Moment};
use verge_types::Position;

use crate::Bug;
use crate::content::{ACCOUNTS, LISTS, Write};
use crate::history::{Relied, Seen, Written};
use crate::plan::MILLISECOND;
use crate::world::{Event, World};

/// How long a client waits for an answer.
const PATIENCE: u64 = 2500 * MILLISECOND;

/// A session.
#[derive(Debug)]
pub struct Client {
    pub home: usize,
    pub session: Session,
    pub relied: Relied,
    /// The request that is out; answers to others come too late.
    pub waiting: Option<u64>,
    pub next: u64,
}

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Request {
    pub client: usize,
    pub number: u64,
    /// The node that the client sent it to.
    pub entry: usize,
    pub write: Option<Write>,
    pub op: u32,
    pub freshness: Freshness,
    pub bookmark: Option<Position>,
    pub forwarded: bool,
    pub arrived: Option<Moment>,
    pub asked: u64,
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    Read(Box<Seen>),
    Written(Position),
    /// Not done, for certain.
    Failed,
    Unknown,
    Refused(Refusal),
}

impl World {
    /// A client's next request.
    pub fn ask(&mut self, client: usize) {
        if !self.is_busy() {
            return;
        }
        let writes = self.rng.chance(500);
        let op = self.next_op;
        let me = &mut self.clients[client];
        if self.rng.chance(250) {
            me.home = self.rng.index(self.nodes.len());
        }
        me.next += 1;
        me.waiting = Some(me.next);
        let write = writes.then(|| Write {
            op,
            list: self.rng.range(0, LISTS.into()) as u32,
            from: self.rng.range(0, ACCOUNTS.into()) as u32,
            to: self.rng.range(0, ACCOUNTS.into()) as u32,
            amount: self.rng.range(1, 60) as i64,
        });
        let freshness = match self.rng.range(0, 10) {
            0 | 1 => Freshness::Strong,
            2 | 3 => Freshness::Within(Duration::from_millis(self.rng.range(100, 1000))),
            _ => Freshness::Any,
        };
        let request = Request {
            client,
            number: me.next,
            entry: me.home,
            write,
            op,
            freshness,
            bookmark: me.session.bookmark(),
            forwarded: false,
            arrived: None,
            asked: self.time,
        };
        let (home, number) = (me.home, me.next);
        if let Some(write) = write {
            self.next_op += 1;
            let after = me.relied.lists.iter().filter_map(|list| list.last().copied()).collect();
            let written = Written { list: write.list, position: None, acknowledged: None, after };
            self.history.writes.insert(op, written);
        }
        self.after(0, Event::Request { node: home, request });
        self.after(PATIENCE, Event::Reply { client, number, outcome: Outcome::Unknown });
    }

    /// A request arrives at a node, or is looked at again.
    pub fn serve(&mut self, node: usize, mut request: Request) {
        let (now, bug) = (self.clock(node), self.plan.bug);
        let reachable = |primary: Option<usize>| {
            primary.filter(|primary| *primary != node && !self.net.is_cut(node, *primary))
        };
        let Some(process) = &self.nodes[node].process else { return };
        let primary = reachable(process.primary_node);
        let lineage = process.lineage();
        let view = process.view(&lineage, primary.is_some(), now, bug);
        let arrived = *request.arrived.get_or_insert(now);
        let need = Need {
            bookmark: request.bookmark.filter(|_| bug != Some(Bug::IgnoreBookmark)),
            freshness: request.freshness,
            forwarded: request.forwarded,
            waited: now.since(arrived),
        };
        let limits = SessionLimits { wait: Duration::from_millis(200) };
        let decision = match request.write {
            Some(_) => decide_write(&need, &view),
            None => decide_read(&need, &view, limits),
        };
        match decision {
            Decision::Serve if request.write.is_some() => {
                if let Some(process) = &mut self.nodes[node].process {
                    process.queue.push_back(request);
                }
                self.start_group(node);
            }
            Decision::Serve => {
                let seen = self.look(node, &request, lineage);
                // A dataset that has stopped has no readers.
                let outcome = seen.map_or(Outcome::Failed, |seen| Outcome::Read(Box::new(seen)));
                self.reply(node, &request, outcome);
            }
            Decision::Wait { at_most, .. } => {
                let pause = (at_most.as_micros() as u64).clamp(1, 5 * MILLISECOND);
                let life = self.nodes[node].life;
                self.after(pause, Event::Again { node, life, request });
            }
            Decision::Forward => {
                let Some(primary) = primary else { return };
                request.forwarded = true;
                request.arrived = None;
                let delay = self.net.copies(node, primary, &self.plan, &mut self.rng);
                if let Some(delay) = delay.first() {
                    self.after(*delay, Event::Request { node: primary, request });
                }
            }
            Decision::Refuse(refusal) => self.reply(node, &request, Outcome::Refused(refusal)),
        }
    }

    fn look(&mut self, node: usize, request: &Request, lineage: Lineage) -> Option<Seen> {
        let machine = &mut self.nodes[node];
        let txid = machine.process.as_ref()?.txid;
        let (content, position) = machine.storage.look(&lineage, txid)?;
        if position != lineage.position(txid) {
            let expected = lineage.position(txid);
            let what = format!("node {node} tells {position} for {expected}");
            self.history.broken("positions", self.time, what);
        }
        Some(Seen {
            total: content.total(),
            lists: content.lists,
            position,
            freshness: request.freshness,
            at: self.time,
            asked: request.asked,
            lineage,
        })
    }

    /// Sends an answer back the way the request came.
    pub fn reply(&mut self, node: usize, request: &Request, outcome: Outcome) {
        let (client, number) = (request.client, request.number);
        let delay = if request.entry == node {
            Some(0)
        } else {
            self.net.copies(node, request.entry, &self.plan, &mut self.rng).first().copied()
        };
        if let Some(delay) = delay {
            self.after(delay, Event::Reply { client, number, outcome });
        }
    }

    /// An answer, or the end of the client's patience.
    pub fn answered(&mut self, client: usize, number: u64, outcome: Outcome) {
        let mode: AckMode = self.plan.mode;
        let me = &mut self.clients[client];
        if me.waiting != Some(number) {
            return;
        }
        me.waiting = None;
        self.trace(|| format!("client {client} #{number} {outcome:?}"));
        let me = &mut self.clients[client];
        match outcome {
            Outcome::Read(seen) => {
                me.session.observe(seen.position);
                self.history.read(mode, client as u64, &mut me.relied, *seen, self.time);
                self.served += 1;
            }
            Outcome::Written(position) => {
                me.session.observe(position);
                me.relied.own.insert(self.ops[&(client, number)]);
                self.served += 1;
            }
            Outcome::Refused(Refusal::BookmarkLost) => {
                me.session.restart();
                me.relied = Relied::default();
                self.history.lost_bookmarks += 1;
            }
            Outcome::Refused(Refusal::BookmarkFuture) if !self.plan.bad_clock => {
                let what =
                    format!("client {client}'s {:?} is called forged", me.session.bookmark());
                self.history.broken("bookmarks", self.time, what);
            }
            Outcome::Failed | Outcome::Unknown | Outcome::Refused(_) => {}
        }
        let think = self.rng.range(2, 80) * MILLISECOND;
        self.after(think, Event::Ask { client });
    }
}
