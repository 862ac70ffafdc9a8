use std::time::Duration;

use bytes::Bytes;
use verge_types::Position;

use super::*;
use crate::lineage::lineage;
use crate::wire::{Heartbeat, Hello, Message, Segment, SegmentHeader, SnapshotHeader, Start, Why};
use crate::{Moment, NodeId};

const UP: NodeId = NodeId(0);

fn segment(epoch: u64, txid: u64) -> Segment {
    let header = SegmentHeader {
        position: Position::new(epoch, txid),
        before: 1000 + txid - 1,
        after: 1000 + txid,
        committed_ms: 0,
    };
    Segment { header, bytes: Bytes::from_static(b"pages") }
}

struct Rig {
    follow: Follow,
    now: Moment,
    session: u64,
}

impl Rig {
    /// A follower at 1/5 that has greeted its upstream.
    fn new() -> Self {
        let replica = Replica {
            lineage: lineage(&[(1, 0)]),
            txid: 5,
            checksum: 1005,
            fence: 1,
            health: Health::Sound,
        };
        let now = Moment(10_000_000);
        let mut follow = Follow::new(FollowConfig::new(7), replica, now);
        let out = follow.on(Event::Upstream { node: Some(UP) }, now);
        let session = hello(&out).expect("a greeting").session;
        Self { follow, now, session }
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        self.follow.on(event, self.now)
    }

    fn message(&mut self, message: Message) -> Vec<Effect> {
        self.on(Event::Message { from: UP, message })
    }

    fn welcome(&mut self, term: u64, terms: &[(u64, u64)], start: Start) -> Vec<Effect> {
        let (session, lineage) = (self.session, lineage(terms));
        self.message(Message::Welcome { session, term, tip: 9, lineage, start })
    }

    fn segment(&mut self, term: u64, segment: Segment) -> Vec<Effect> {
        self.message(Message::Segment { session: self.session, term, segment })
    }

    fn streaming() -> Self {
        let mut rig = Self::new();
        rig.welcome(1, &[(1, 0)], Start::Resume { after: 5 });
        rig
    }

    fn heartbeat(&mut self, tip: u64, sent: u64, echo: u64) -> Vec<Effect> {
        let beat = Heartbeat {
            session: self.session,
            term: 1,
            tip: Position::new(1, tip),
            checksum: 1000 + tip,
            sent,
            echo,
            age: Some(0),
            primary_ms: 0,
        };
        self.message(Message::Heartbeat(beat))
    }
}

fn hello(effects: &[Effect]) -> Option<Hello> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { message: Message::Hello(hello), .. } => Some(*hello),
        _ => None,
    })
}

fn applied(effects: &[Effect]) -> Vec<u64> {
    let txid = |effect: &Effect| match effect {
        Effect::Apply { segment } => Some(segment.header.position.txid),
        _ => None,
    };
    effects.iter().filter_map(txid).collect()
}

fn acked(effects: &[Effect]) -> Option<Position> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { message: Message::Ack { rank, .. }, .. } => Some(*rank),
        _ => None,
    })
}

#[test]
fn a_link_that_comes_up_is_greeted_on_at_once_whatever_was_said_before() {
    let mut rig = Rig::new();
    let before = rig.session;
    rig.now = Moment(rig.now.0 + 1000);
    let out = rig.on(Event::LinkUp { node: UP });
    let again = hello(&out).expect("the first greeting found no link");
    assert_ne!(again.session, before);
    // A session that runs is left alone.
    let mut rig = Rig::streaming();
    assert!(hello(&rig.on(Event::LinkUp { node: UP })).is_none());
}

#[test]
fn segments_are_applied_in_order_once_and_acknowledged_when_durable() {
    let mut rig = Rig::streaming();
    assert_eq!(applied(&rig.segment(1, segment(1, 7))), [0; 0], "early");
    assert_eq!(applied(&rig.segment(1, segment(1, 6))), [6, 7]);
    assert_eq!(applied(&rig.segment(1, segment(1, 6))), [0; 0], "a duplicate");
    let out = rig.on(Event::Applied { txid: 6, checksum: 1006 });
    assert_eq!(acked(&out), Some(Position::new(1, 6)));
}

#[test]
fn a_gap_that_stays_open_is_asked_for_again_once_all_is_applied() {
    let mut rig = Rig::streaming();
    rig.segment(1, segment(1, 6));
    rig.segment(1, segment(1, 8));
    rig.now = rig.now + Duration::from_millis(60);
    assert_eq!(hello(&rig.on(Event::Tick)), None);
    rig.now = rig.now + Duration::from_secs(1);
    assert_eq!(hello(&rig.on(Event::Tick)), None, "6 is still being applied");
    let out = rig.on(Event::Applied { txid: 6, checksum: 1006 });
    assert_eq!(hello(&out).map(|hello| hello.position), Some(Position::new(1, 6)));
}

#[test]
fn a_heartbeat_tells_of_a_lost_end() {
    let mut rig = Rig::streaming();
    rig.heartbeat(6, 5, 0);
    rig.now = rig.now + Duration::from_millis(200);
    assert_eq!(hello(&rig.on(Event::Tick)), None, "not sent yet");
    rig.heartbeat(6, 6, 0);
    rig.now = rig.now + Duration::from_millis(60);
    rig.on(Event::Tick);
    rig.now = rig.now + Duration::from_secs(1);
    assert!(hello(&rig.on(Event::Tick)).is_some());
}

#[test]
fn an_older_term_is_refused_by_name() {
    let mut rig = Rig::streaming();
    rig.on(Event::Fence { epoch: 3 });
    rig.now = rig.now + Duration::from_secs(1);
    rig.session = hello(&rig.on(Event::Tick)).unwrap().session;
    let out = rig.welcome(2, &[(1, 0), (2, 5)], Start::Resume { after: 5 });
    let refused = Message::Refused { session: rig.session, fence: 3 };
    assert_eq!(out, [Effect::Send { to: UP, message: refused }]);
}

#[test]
fn nothing_is_acknowledged_behind_a_promise() {
    let mut rig = Rig::streaming();
    rig.segment(1, segment(1, 6));
    rig.on(Event::Fence { epoch: 2 });
    let out = rig.on(Event::Applied { txid: 6, checksum: 1006 });
    assert_eq!(acked(&out), None);
}

#[test]
fn a_new_term_counts_once_its_base_is_reached() {
    let mut rig = Rig::new();
    let out = rig.welcome(2, &[(1, 0), (2, 6)], Start::Resume { after: 5 });
    assert_eq!(out[0], Effect::PersistFence { epoch: 2 });
    assert!(matches!(out[1], Effect::PersistLineage { .. }));
    assert_eq!(acked(&out), Some(Position::new(1, 5)));
    rig.segment(2, segment(1, 6));
    let out = rig.on(Event::Applied { txid: 6, checksum: 1006 });
    assert_eq!(acked(&out), Some(Position::new(2, 6)));
}

#[test]
fn a_wrong_checksum_is_set_aside_and_seeded_anew() {
    let mut rig = Rig::streaming();
    rig.segment(1, segment(1, 6));
    let out = rig.on(Event::Applied { txid: 6, checksum: 1 });
    assert_eq!(out, [Effect::PersistQuarantine { quarantine: Quarantine::Checksum }]);
    assert_eq!(rig.follow.health(), Health::Quarantined);
    rig.now = rig.now + Duration::from_secs(1);
    let hello = hello(&rig.on(Event::Tick)).unwrap();
    assert!(hello.reseed);
    rig.session = hello.session;

    rig.welcome(1, &[(1, 0)], Start::Snapshot(Why::Asked));
    let snapshot = SnapshotHeader { position: Position::new(1, 8), checksum: 1008, bytes: 4 };
    let (session, term) = (rig.session, 1);
    let chunk = |chunk, last| Message::SnapshotChunk {
        session,
        term,
        chunk,
        last,
        bytes: Bytes::from_static(b"ab"),
    };
    assert_eq!(rig.message(chunk(1, true)), [], "early");
    rig.message(Message::SnapshotBegin { session, term, snapshot });
    let out = rig.message(chunk(0, false));
    assert_eq!(out.len(), 2, "both chunks: {out:?}");
    let out = rig.on(Event::Seeded { txid: 8, checksum: 1008 });
    assert_eq!(acked(&out), Some(Position::new(1, 8)));
    assert_eq!(rig.follow.health(), Health::Sound);
    assert_eq!(applied(&rig.segment(1, segment(1, 9))), [9]);
}

#[test]
fn a_diverged_tail_is_set_aside_from_the_fork_on() {
    let mut rig = Rig::new();
    let out = rig.welcome(2, &[(1, 0), (2, 3)], Start::Snapshot(Why::Diverged));
    let quarantine = Quarantine::Diverged { fork: 3 };
    assert!(out.contains(&Effect::PersistQuarantine { quarantine }), "{out:?}");
    assert_eq!(rig.follow.health(), Health::Diverged);
}

#[test]
fn staleness_counts_from_what_the_primary_echoed() {
    let mut rig = Rig::streaming();
    assert_eq!(rig.follow.staleness(rig.now), None);
    let echo = rig.now.0;
    rig.now = rig.now + Duration::from_millis(80);
    rig.heartbeat(6, 5, echo);
    assert_eq!(rig.follow.staleness(rig.now), None, "6 is not here yet");
    rig.segment(1, segment(1, 6));
    rig.on(Event::Applied { txid: 6, checksum: 1006 });
    assert_eq!(rig.follow.staleness(rig.now), Some(Duration::from_millis(80)));
}

#[test]
fn a_silent_upstream_is_greeted_with_growing_pauses() {
    let mut rig = Rig::new();
    let mut greetings = Vec::new();
    for _ in 0..2400 {
        rig.now = rig.now + Duration::from_millis(50);
        if hello(&rig.on(Event::Tick)).is_some() {
            greetings.push(rig.now);
        }
    }
    assert!((5..40).contains(&greetings.len()), "{greetings:?}");
    let last = greetings.windows(2).last().unwrap();
    assert!(last[1].since(last[0]) > Duration::from_secs(6));
}
