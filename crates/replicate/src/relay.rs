//! When a replica serves other replicas, and until when. What it ships then is `ship`'s affair.
//!
//! It serves in its upstream's name: the term and the lineage that it follows itself, and nothing
//! else. As soon as that changes, or its own data is not good enough any more, it sends its
//! followers away; they find another source by themselves (`upstream`).

use std::time::Duration;

use crate::follow::{Follow, Health};
use crate::{Lineage, Moment, NodeId};

/// The oldest data that a relay serves: it has heard of the primary since.
pub const RELAY_MAX_AGE: Duration = Duration::from_secs(5);

/// What a node knows of its own copy when it is asked to serve it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub follow: &'a Follow,
    /// Whom it follows: it must not serve that one.
    pub upstream: Option<NodeId>,
    /// It is primary, and ships as that.
    pub leads: bool,
    /// A snapshot is coming in, or taking the data's place.
    pub seeding: bool,
}

impl Source<'_> {
    fn good(&self, max_age: Duration, now: Moment) -> bool {
        let fresh = self.follow.as_of().is_some_and(|as_of| now.since(as_of) < max_age);
        // A diverged copy votes, but is nobody's source, whatever it hears.
        let sound = self.follow.health() == Health::Sound;
        !self.leads && !self.seeding && sound && fresh
    }
}

/// A replica while it serves others.
#[derive(Clone, Debug)]
pub struct Relay {
    max_age: Duration,
    term: u64,
    lineage: Lineage,
}

impl Relay {
    /// Begins to serve `from`, if the `source` is good enough.
    pub fn begin(source: Source<'_>, from: NodeId, max_age: Duration, now: Moment) -> Option<Self> {
        if source.upstream == Some(from) || !source.good(max_age, now) {
            return None;
        }
        let (term, lineage) = source.follow.served()?;
        Some(Self { max_age, term, lineage: lineage.clone() })
    }

    /// The term in whose name it ships.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// That term's whole lineage; our data may not have reached its last terms.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Whether it may go on; to be asked after every step. A session of ours that ended is borne,
    /// until the data is too old.
    pub fn goes_on(&self, source: Source<'_>, now: Moment) -> bool {
        let same = |now| now == (self.term, &self.lineage);
        source.good(self.max_age, now) && source.follow.served().is_none_or(same)
    }
}

#[cfg(test)]
mod tests {
    use verge_types::Position;

    use super::*;
    use crate::follow::{Effect, Event, FollowConfig, Replica};
    use crate::lineage::lineage;
    use crate::wire::{Heartbeat, Message, Start, Why};

    const UP: NodeId = NodeId(1);
    const DOWN: NodeId = NodeId(2);
    const TXID: u64 = 5;

    struct Rig {
        follow: Follow,
        now: Moment,
    }

    impl Rig {
        /// A replica that is served by the primary, and has heard of it just now.
        fn new() -> Self {
            let replica = Replica {
                lineage: lineage(&[(1, 0)]),
                txid: TXID,
                checksum: 1005,
                fence: 1,
                health: Health::Sound,
            };
            let now = Moment(10_000_000);
            let mut rig = Self { follow: Follow::new(FollowConfig::new(7), replica, now), now };
            rig.greeted(1, &[(1, 0)], Start::Resume { after: TXID });
            rig
        }

        /// A new session with the upstream.
        fn greeted(&mut self, term: u64, terms: &[(u64, u64)], start: Start) {
            self.follow.on(Event::Upstream { node: None }, self.now);
            let out = self.follow.on(Event::Upstream { node: Some(UP) }, self.now);
            let Some(Effect::Send { message: Message::Hello(hello), .. }) = out.first() else {
                panic!("no greeting in {out:?}");
            };
            let session = hello.session;
            let lineage = lineage(terms);
            let welcome = Message::Welcome { session, term, tip: TXID, lineage, start };
            self.heard(welcome);
            let beat = Heartbeat {
                session,
                term,
                tip: Position::new(1, TXID),
                checksum: 1005,
                sent: TXID,
                echo: self.now.0,
                age: Some(0),
                primary_ms: 0,
            };
            self.heard(Message::Heartbeat(beat));
        }

        fn heard(&mut self, message: Message) {
            self.follow.on(Event::Message { from: UP, message }, self.now);
        }

        fn source(&self) -> Source<'_> {
            Source { follow: &self.follow, upstream: Some(UP), leads: false, seeding: false }
        }

        fn begin(&self) -> Option<Relay> {
            Relay::begin(self.source(), DOWN, RELAY_MAX_AGE, self.now)
        }
    }

    #[test]
    fn it_serves_what_it_follows() {
        let rig = Rig::new();
        let relay = rig.begin().expect("a good copy");
        assert_eq!((relay.term(), relay.lineage()), (1, &lineage(&[(1, 0)])));
        assert!(relay.goes_on(rig.source(), rig.now));
    }

    #[test]
    fn it_serves_nobody_whom_it_follows() {
        let rig = Rig::new();
        assert!(Relay::begin(rig.source(), UP, RELAY_MAX_AGE, rig.now).is_none());
    }

    #[test]
    fn neither_a_primary_nor_a_copy_that_is_replaced_relays() {
        let rig = Rig::new();
        let relay = rig.begin().expect("a good copy");
        for source in
            [Source { leads: true, ..rig.source() }, Source { seeding: true, ..rig.source() }]
        {
            assert!(Relay::begin(source, DOWN, RELAY_MAX_AGE, rig.now).is_none());
            assert!(!relay.goes_on(source, rig.now));
        }
    }

    #[test]
    fn old_data_is_not_served() {
        let mut rig = Rig::new();
        let relay = rig.begin().expect("a good copy");
        rig.follow.on(Event::Upstream { node: None }, rig.now);
        let heard = rig.now;
        rig.now = heard + (RELAY_MAX_AGE - Duration::from_millis(1));
        assert!(relay.goes_on(rig.source(), rig.now), "without a session, while it is fresh");
        assert!(rig.begin().is_none(), "but nothing is begun without one");
        rig.now = heard + RELAY_MAX_AGE;
        assert!(!relay.goes_on(rig.source(), rig.now));
    }

    #[test]
    fn another_term_is_another_relay() {
        let mut rig = Rig::new();
        let relay = rig.begin().expect("a good copy");
        rig.greeted(2, &[(1, 0), (2, TXID)], Start::Resume { after: TXID });
        assert!(!relay.goes_on(rig.source(), rig.now));
        assert_eq!(rig.begin().map(|relay| relay.term()), Some(2));
    }

    /// Its snapshot comes later: until then it is still connected, and fresh.
    #[test]
    fn a_copy_that_is_found_to_be_diverged_serves_nobody() {
        let mut rig = Rig::new();
        let relay = rig.begin().expect("a good copy");
        rig.greeted(2, &[(1, 0), (2, 3)], Start::Snapshot(Why::Diverged));
        assert_eq!(rig.follow.health(), Health::Diverged);
        assert!(!relay.goes_on(rig.source(), rig.now));
        assert!(rig.begin().is_none());
    }
}
