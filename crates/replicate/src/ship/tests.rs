use bytes::Bytes;
use verge_types::Position;

use super::*;
use crate::wire::{Hello, Message, Segment, SegmentHeader, Start, Why};
use crate::{AckMode, Lineage, Moment, NodeId};

const ME: NodeId = NodeId(0);
const PEER: NodeId = NodeId(1);

fn lineage() -> Lineage {
    let mut lineage = Lineage::default();
    lineage.begin(1, 0).unwrap();
    lineage.begin(2, 7).unwrap();
    lineage
}

fn shipper(mode: AckMode, config: ShipConfig) -> Shipper {
    let voters = (0..3).map(NodeId).collect();
    Shipper::new(config, Origin::Primary { me: ME, mode, voters }, 2, lineage(), 10, 1010, NOW)
}

const NOW: Moment = Moment(1_000_000);

fn segment(txid: u64, size: usize) -> Segment {
    let header = SegmentHeader {
        position: Position::new(2, txid),
        before: 1000 + txid - 1,
        after: 1000 + txid,
        committed_ms: 0,
    };
    Segment { header, bytes: Bytes::from(vec![0; size]) }
}

fn hello(session: u64, epoch: u64, txid: u64) -> Hello {
    let position = Position::new(epoch, txid);
    Hello { session, fence: 2, position, checksum: 1000 + txid, reseed: false, sent: 5 }
}

fn greet(shipper: &mut Shipper, hello: Hello, first: u64, ours: Option<u64>) -> Vec<Effect> {
    shipper.on(Event::Hello { from: PEER, hello, first, ours }, NOW)
}

fn start_of(effects: &[Effect]) -> Option<Start> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { message: Message::Welcome { start, .. }, .. } => Some(*start),
        _ => None,
    })
}

fn sent(effects: &[Effect]) -> Vec<u64> {
    let txid = |effect: &Effect| match effect {
        Effect::Send { message: Message::Segment { segment, .. }, .. } => {
            Some(segment.header.position.txid)
        }
        _ => None,
    };
    effects.iter().filter_map(txid).collect()
}

fn ack(session: u64, txid: u64) -> Event {
    let rank = Position::new(2, txid);
    Event::Message { from: PEER, message: Message::Ack { session, term: 2, rank, sent: 6 } }
}

#[test]
fn a_handshake_ends_in_segments_or_a_snapshot_with_its_reason() {
    let snapshot = |why| Some(Start::Snapshot(why));
    for (hello, first, ours, expected) in [
        (hello(1, 2, 9), 1, Some(1009), Some(Start::Resume { after: 9 })),
        (hello(1, 1, 7), 8, None, Some(Start::Resume { after: 7 })),
        (hello(1, 2, 10), 11, None, Some(Start::Resume { after: 10 })),
        (hello(1, 1, 7), 9, None, snapshot(Why::TooFarBehind)),
        (hello(1, 1, 8), 1, Some(1008), snapshot(Why::Diverged)),
        (hello(1, 2, 11), 1, None, snapshot(Why::Diverged)),
        (hello(1, 2, 9), 1, Some(7), snapshot(Why::Checksum)),
        (Hello { checksum: 3, ..hello(1, 2, 10) }, 1, None, snapshot(Why::Checksum)),
        (Hello { reseed: true, ..hello(1, 2, 9) }, 1, Some(1009), snapshot(Why::Asked)),
    ] {
        let mut shipper = shipper(AckMode::Local, ShipConfig::default());
        assert_eq!(start_of(&greet(&mut shipper, hello, first, ours)), expected, "{hello:?}");
    }
}

#[test]
fn a_follower_promised_to_a_newer_epoch_is_told_to_the_lease() {
    let mut shipper = shipper(AckMode::Local, ShipConfig::default());
    let effects = greet(&mut shipper, Hello { fence: 4, ..hello(1, 2, 9) }, 1, None);
    assert_eq!(effects[0], Effect::Fenced { epoch: 4 });
    assert_eq!(start_of(&effects), None);
}

#[test]
fn the_window_bounds_what_is_in_flight() {
    let config = ShipConfig { window_bytes: 250, ..ShipConfig::default() };
    let mut shipper = shipper(AckMode::Local, config);
    greet(&mut shipper, hello(1, 2, 10), 1, None);
    let mut out = Vec::new();
    for txid in 11..=20 {
        out.extend(shipper.on(Event::Appended { segment: segment(txid, 100) }, NOW));
    }
    assert_eq!(sent(&out), [11, 12, 13], "the third begins below the window");
    assert_eq!(sent(&shipper.on(ack(1, 12), NOW)), [14, 15]);
    assert_eq!(sent(&shipper.on(ack(9, 15), NOW)), [0; 0], "another session's");
}

#[test]
fn a_segment_larger_than_the_window_goes_alone() {
    let config = ShipConfig { window_bytes: 10, ..ShipConfig::default() };
    let mut shipper = shipper(AckMode::Local, config);
    greet(&mut shipper, hello(1, 2, 10), 1, None);
    let out = shipper.on(Event::Appended { segment: segment(11, 1000) }, NOW);
    assert_eq!(sent(&out), [11]);
}

#[test]
fn acknowledgement_waits_for_the_mode_and_for_the_lease() {
    let mut shipper = shipper(AckMode::Quorum, ShipConfig::default());
    greet(&mut shipper, hello(1, 2, 10), 1, None);
    shipper.on(Event::Extended { until: Moment(2_000_000) }, NOW);
    let out = shipper.on(Event::Appended { segment: segment(11, 10) }, NOW);
    assert!(!out.iter().any(|effect| matches!(effect, Effect::Acknowledge { .. })));
    let late = Moment(2_000_000);
    let out = shipper.on(ack(1, 11), late);
    assert!(!out.iter().any(|effect| matches!(effect, Effect::Acknowledge { .. })), "{out:?}");
    let out = shipper.on(Event::Extended { until: Moment(3_000_000) }, late);
    assert_eq!(out, [Effect::Acknowledge { up_to: 11 }]);
}

#[test]
fn retention_follows_the_slowest_up_to_its_cap() {
    let config = ShipConfig { keep_transactions: 6, ..ShipConfig::default() };
    let mut shipper = shipper(AckMode::Local, config);
    greet(&mut shipper, hello(1, 2, 9), 1, Some(1009));
    let out = shipper.on(Event::Tick { wall_ms: 0 }, NOW);
    // The other voter was never heard of; it is held to the cap.
    assert!(out.contains(&Effect::Retain { from: 5 }), "{out:?}");
    for txid in 11..=14 {
        shipper.on(Event::Appended { segment: segment(txid, 10) }, NOW);
    }
    let out = shipper.on(Event::Tick { wall_ms: 0 }, NOW);
    assert!(out.contains(&Effect::Retain { from: 9 }), "{out:?}");
}

#[test]
fn a_duplicated_hello_does_not_begin_a_second_stream() {
    let mut shipper = shipper(AckMode::Local, ShipConfig::default());
    greet(&mut shipper, hello(1, 2, 9), 1, None);
    assert_eq!(greet(&mut shipper, hello(1, 2, 9), 1, None), []);
}

fn relay() -> Shipper {
    let origin = Origin::Relay { voters: [ME, PEER].into() };
    Shipper::new(ShipConfig::default(), origin, 2, lineage(), 10, 1010, NOW)
}

#[test]
fn a_relay_judges_only_what_it_can() {
    let snapshot = |why| Some(Start::Snapshot(why));
    for (hello, expected) in [
        (hello(1, 2, 10), Some(Start::Resume { after: 10 })),
        // Ahead of the relay, and maybe acknowledged: no snapshot may take it back.
        (hello(1, 2, 11), None),
        (hello(1, 1, 11), snapshot(Why::Diverged)),
        (hello(1, 1, 8), snapshot(Why::Diverged)),
        // A voter would vote without what it has acknowledged.
        (Hello { reseed: true, ..hello(1, 2, 9) }, None),
        (Hello { checksum: 3, ..hello(1, 2, 10) }, None),
    ] {
        let effects = greet(&mut relay(), hello, 1, None);
        assert_eq!(start_of(&effects), expected, "{hello:?}");
        if expected.is_none() {
            let message = Message::Goodbye { session: 1 };
            assert_eq!(effects, [Effect::Send { to: PEER, message }]);
        }
    }
    let reader = NodeId(7);
    let hello = Hello { reseed: true, ..hello(1, 2, 9) };
    let effects = relay().on(Event::Hello { from: reader, hello, first: 1, ours: None }, NOW);
    assert_eq!(start_of(&effects), snapshot(Why::Asked), "who does not vote");
}

#[test]
fn a_relay_that_retires_sends_its_followers_away() {
    let mut shipper = relay();
    greet(&mut shipper, hello(1, 2, 10), 1, None);
    let goodbye = |session| Effect::Send { to: PEER, message: Message::Goodbye { session } };
    assert_eq!(shipper.on(Event::Retire, NOW), [goodbye(1)]);
    assert_eq!(greet(&mut shipper, hello(2, 2, 10), 1, None), [goodbye(2)]);
}

#[test]
fn a_relay_whose_lineage_passed_sends_its_followers_away() {
    let mut shipper = relay();
    greet(&mut shipper, hello(1, 2, 10), 1, None);
    let mut other = segment(11, 10);
    other.header.position.epoch = 3;
    let out = shipper.on(Event::Appended { segment: other }, NOW);
    let goodbye = Message::Goodbye { session: 1 };
    assert_eq!(out, [Effect::Send { to: PEER, message: goodbye }]);
}
