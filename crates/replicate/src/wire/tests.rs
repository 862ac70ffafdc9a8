use bytes::Bytes;
use proptest::prelude::*;
use verge_types::Position;

use super::*;
use crate::Lineage;

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, txid)| Position::new(epoch, txid))
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn lineage() -> impl Strategy<Value = Lineage> {
    prop::collection::vec((1..5u64, 0..50u64), 0..20).prop_map(|steps| {
        let (mut epoch, mut base) = (0, 0);
        let mut lineage = Lineage::default();
        for (up, further) in steps {
            (epoch, base) = (epoch + up, base + further);
            lineage.begin(epoch, base).unwrap();
        }
        lineage
    })
}

fn start() -> impl Strategy<Value = Start> {
    prop_oneof![
        any::<u64>().prop_map(|after| Start::Resume { after }),
        Just(Start::Snapshot(Why::TooFarBehind)),
        Just(Start::Snapshot(Why::Diverged)),
        Just(Start::Snapshot(Why::Checksum)),
        Just(Start::Snapshot(Why::Asked)),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let ids = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    prop_oneof![
        (ids, position(), any::<bool>()).prop_map(|((a, b, c, d), position, reseed)| {
            Message::Hello(Hello { session: a, fence: b, position, checksum: c, reseed, sent: d })
        }),
        (ids, position()).prop_map(|((session, term, sent, _), rank)| Message::Ack {
            session,
            term,
            rank,
            sent
        }),
        ids.prop_map(|(session, term, chunk, _)| Message::SnapshotAck { session, term, chunk }),
        ids.prop_map(|(session, fence, ..)| Message::Refused { session, fence }),
        (ids, lineage(), start()).prop_map(|((session, term, tip, _), lineage, start)| {
            Message::Welcome { session, term, tip, lineage, start }
        }),
        (ids, position(), any::<u64>(), blob()).prop_map(|((a, b, c, d), position, e, bytes)| {
            let header = SegmentHeader { position, before: c, after: d, committed_ms: e };
            Message::Segment { session: a, term: b, segment: Segment { header, bytes } }
        }),
        (ids, position()).prop_map(|((session, term, checksum, bytes), position)| {
            Message::SnapshotBegin {
                session,
                term,
                snapshot: SnapshotHeader { position, checksum, bytes },
            }
        }),
        (ids, any::<bool>(), blob()).prop_map(|((session, term, chunk, _), last, bytes)| {
            Message::SnapshotChunk { session, term, chunk, last, bytes }
        }),
        (ids, position(), any::<Option<u64>>(), any::<u64>()).prop_map(
            |((session, term, checksum, echo), tip, age, primary_ms)| {
                Message::Heartbeat(Heartbeat {
                    session,
                    term,
                    tip,
                    checksum,
                    sent: checksum ^ echo,
                    echo,
                    age,
                    primary_ms,
                })
            }
        ),
        any::<u64>().prop_map(|session| Message::Goodbye { session }),
        (ids, position()).prop_map(|((round, epoch, ..), rank)| Message::Poll(Poll {
            round,
            epoch,
            rank
        })),
        (ids, position(), any::<bool>()).prop_map(|((round, epoch, fence, _), rank, granted)| {
            Message::PollReply(PollReply { round, epoch, granted, fence, rank })
        }),
        any::<u64>().prop_map(|epoch| Message::Offer { epoch }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_encoded_decodes_to_itself(message in message()) {
        let envelope = Envelope { dataset: "app/main".parse().unwrap(), message };
        let bytes = encode(&envelope).unwrap();
        prop_assert_eq!(decode(bytes).unwrap(), envelope);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(Bytes::from(bytes));
    }

    /// Close to valid: a real message, cut, with bytes flipped. What still decodes is canonical.
    #[test]
    fn damaged_messages_never_panic(
        message in message(),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let envelope = Envelope { dataset: "a".parse().unwrap(), message };
        let mut bytes = encode(&envelope).unwrap().to_vec();
        for (at, with) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= with;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let bytes = Bytes::from(bytes);
        if let Ok(envelope) = decode(bytes.clone()) {
            prop_assert_eq!(encode(&envelope).unwrap(), bytes);
        }
    }
}

#[test]
fn every_prefix_of_a_message_is_truncated() {
    let envelope = Envelope {
        dataset: "a".parse().unwrap(),
        message: Message::Poll(Poll { round: 1, epoch: 2, rank: Position::new(3, 4) }),
    };
    let bytes = encode(&envelope).unwrap();
    for end in 3..bytes.len() {
        let error = decode(bytes.slice(..end)).unwrap_err();
        assert!(matches!(error, DecodeError::Truncated | DecodeError::Field("dataset")), "{end}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(decode(longer.into()), Err(DecodeError::Trailing(1)));
}

#[test]
fn other_versions_and_kinds_are_refused_by_name() {
    assert_eq!(decode(Bytes::from_static(&[9, 1, 1, b'a'])), Err(DecodeError::Version(9)));
    assert_eq!(decode(Bytes::from_static(&[1, 99, 1, b'a'])), Err(DecodeError::Kind(99)));
    assert_eq!(decode(Bytes::from_static(&[1, 1, 1, b'/'])), Err(DecodeError::Field("dataset")));
    assert_eq!(
        decode(Bytes::from(vec![0; MAX_MESSAGE + 1])),
        Err(DecodeError::TooLong(MAX_MESSAGE + 1))
    );
}
