//! Clients of the bank, over HTTP, that hop between the nodes and carry their sessions along. Each
//! checks what it is promised with every answer.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::fleet::{Answer, Asked, Fleet, ask};

/// Ten accounts with 100 each.
const TOTAL: &str = "1000";

/// What all clients together know.
#[derive(Default)]
pub struct Book {
    pub stop: AtomicBool,
    pub kept: AtomicU64,
    next: AtomicU64,
}

/// What one client was told.
#[derive(Default)]
pub struct Told {
    pub acknowledged: BTreeSet<u64>,
    /// Nobody knows whether they were kept.
    pub unknown: BTreeSet<u64>,
    pub refused: BTreeSet<u64>,
    pub reads: u64,
    /// Sessions that had read ahead of the quorum, and were told so when that was lost.
    pub begun_anew: u64,
    pub broken: Vec<String>,
}

pub struct Client<'f> {
    fleet: &'f Fleet,
    book: &'f Book,
    random: u64,
    /// The newest position that it was given, as it goes over the wire.
    seen: String,
    /// The position of its last acknowledged write.
    wrote: String,
    count: u64,
    last: u64,
    told: Told,
}

impl<'f> Client<'f> {
    pub fn new(fleet: &'f Fleet, book: &'f Book, seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (seen, wrote, told) = (String::new(), String::new(), Told::default());
        Self { fleet, book, random, seen, wrote, count: 0, last: 0, told }
    }

    /// Works until told to stop.
    pub fn run(mut self) -> Told {
        while !self.book.stop.load(Ordering::SeqCst) {
            let place = &self.fleet.places[self.draw(self.fleet.places.len() as u64) as usize];
            let Some(http) = place.http() else { continue };
            if self.draw(3) == 0 {
                self.write(http);
            } else {
                self.read(http, place.name());
            }
        }
        self.told
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn note(&mut self, answer: &Answer) {
        if let Some(seen) = &answer.seen
            && at(seen) > at(&self.seen)
        {
            self.seen = seen.clone();
        }
    }

    /// A read at the primary may see what the quorum has not got yet. If a failover loses that,
    /// the session is told, and begins anew from what it wrote. What was acknowledged is not lost.
    fn begin_anew(&mut self, answer: &Answer) {
        if at(&self.seen) <= at(&self.wrote) {
            let seen = &self.seen;
            self.told.broken.push(format!("acknowledged at {seen}, and lost: {answer:?}"));
        }
        self.told.begun_anew += 1;
        self.seen = self.wrote.clone();
        self.count = 0;
    }

    fn write(&mut self, http: std::net::SocketAddr) {
        let n = self.book.next.fetch_add(1, Ordering::SeqCst) + 1;
        let (from, to, amount) = (self.draw(10), self.draw(10), self.draw(9));
        let path = format!("/write?n={n}&from={from}&to={to}&amount={amount}");
        match ask(http, "POST", &path, &self.seen.clone(), "") {
            Asked::Answered(answer) if answer.status == 200 => {
                self.note(&answer);
                self.wrote = answer.seen.unwrap_or_default();
                self.told.acknowledged.insert(n);
                self.book.kept.fetch_add(1, Ordering::SeqCst);
                self.last = n;
            }
            Asked::Answered(answer) if answer.status == 503 => {
                self.told.refused.insert(n);
                std::thread::sleep(Duration::from_millis(20));
            }
            Asked::NotSent => {
                self.told.refused.insert(n);
                std::thread::sleep(Duration::from_millis(20));
            }
            Asked::Answered(answer) if answer.status == 409 => {
                self.told.refused.insert(n);
                self.begin_anew(&answer);
            }
            Asked::Answered(answer) if answer.status != 504 => {
                self.told.unknown.insert(n);
                self.told.broken.push(format!("write {n}: {answer:?}"));
            }
            Asked::Answered(_) | Asked::NoAnswer => {
                self.told.unknown.insert(n);
            }
        }
    }

    /// The bank's total, how much was done, and whether this client's last write is there.
    fn read(&mut self, http: std::net::SocketAddr, place: &str) {
        let path = format!("/read?n={}", self.last);
        let Asked::Answered(answer) = ask(http, "GET", &path, &self.seen.clone(), "") else {
            return;
        };
        if answer.status == 503 {
            std::thread::sleep(Duration::from_millis(20));
            return;
        }
        if answer.status == 409 {
            self.begin_anew(&answer);
            return;
        }
        let parts: Vec<_> = answer.body.split(' ').collect();
        let [total, count, mine] = parts[..] else {
            self.told.broken.push(format!("read at {place} after {}: {answer:?}", self.seen));
            return;
        };
        let count: u64 = count.parse().unwrap_or(0);
        self.told.reads += 1;
        if total != TOTAL {
            self.told.broken.push(format!("the total at {place} is {total}: {answer:?}"));
        }
        if count < self.count {
            let (before, seen) = (self.count, &self.seen);
            self.told
                .broken
                .push(format!("{place} went back from {before} to {answer:?} after {seen}"));
        }
        if self.last != 0 && mine != "1" {
            let (last, seen) = (self.last, &self.seen);
            self.told.broken.push(format!("{place} misses write {last} after {seen}: {answer:?}"));
        }
        self.count = count;
        self.note(&answer);
    }
}

/// A position as it goes over the wire.
fn at(text: &str) -> (u64, u64) {
    let (epoch, txid) = text.split_once('/').unwrap_or_default();
    (epoch.parse().unwrap_or(0), txid.parse().unwrap_or(0))
}
