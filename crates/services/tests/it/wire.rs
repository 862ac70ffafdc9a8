//! Messages between PoPs: whatever goes in comes out, and nothing that comes in does harm.

use std::time::Duration;

use proptest::prelude::*;
use verge_services::sql::{
    Done, ErrorKind, Executed, Outcome, Query, Reply, Request, Rows, SqlError, Stats, Value,
    decode_reply, encode_reply,
};
use verge_types::Position;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        (-1e300..1e300f64).prop_map(Value::Real),
        ".{0,20}".prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob),
    ]
}

fn query() -> impl Strategy<Value = Query> {
    (".{0,40}", prop::collection::vec(value(), 0..5))
        .prop_map(|(sql, params)| Query { sql, params })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        query().prop_map(Request::Query),
        prop::collection::vec(query(), 0..4).prop_map(Request::Batch),
        ".{0,40}".prop_map(Request::Exec),
        any::<u64>().prop_map(|deadline_ms| Request::Begin { deadline_ms }),
        (any::<u64>(), prop::collection::vec(query(), 0..4))
            .prop_map(|(transaction, queries)| Request::Step { transaction, queries }),
        any::<u64>().prop_map(|transaction| Request::Commit { transaction }),
        any::<u64>().prop_map(|transaction| Request::Rollback { transaction }),
        ".*".prop_map(Request::Script),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    (prop::collection::vec(value(), 0..4), any::<[u32; 4]>(), any::<i64>()).prop_map(
        |(row, numbers, last_row_id)| Outcome {
            rows: Rows { columns: row.iter().map(|_| "c".into()).collect(), values: row },
            stats: Stats {
                duration: Duration::from_nanos(numbers[0].into()),
                rows_read: numbers[1].into(),
                rows_written: numbers[2].into(),
                changes: numbers[3].into(),
                last_row_id,
                changed_db: last_row_id > 0,
                size_after: 4096,
            },
        },
    )
}

fn reply() -> impl Strategy<Value = Result<Reply, SqlError>> {
    let done = prop_oneof![
        prop::collection::vec(outcome(), 0..3).prop_map(Done::Outcomes),
        any::<u32>().prop_map(|n| Done::Executed(Executed {
            count: n.into(),
            duration: Duration::from_micros(n.into()),
            changes: 1,
        })),
        any::<u64>().prop_map(|transaction| Done::Began { transaction }),
        Just(Done::Ended),
    ];
    prop_oneof![
        (any::<(u64, u64)>(), ".{0,9}", done).prop_map(|((epoch, txid), name, done)| Ok(Reply {
            position: Position::new(epoch, txid),
            served_by: name.clone(),
            served_by_region: name,
            done,
        })),
        (any::<i32>(), ".{0,20}").prop_map(|(code, message)| Err(SqlError {
            kind: ErrorKind::Sqlite,
            code,
            message,
        })),
    ]
}

proptest! {
    #[test]
    fn requests_come_through(request in request()) {
        prop_assert_eq!(Request::decode(&request.encode()).unwrap(), request);
    }

    #[test]
    fn replies_come_through(reply in reply()) {
        prop_assert_eq!(decode_reply(&encode_reply(&reply)), reply);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Request::decode(&bytes);
        let _ = decode_reply(&bytes);
        let mut bytes = bytes;
        bytes.insert(0, 1);
        let _ = Request::decode(&bytes);
        let _ = decode_reply(&bytes);
    }

    #[test]
    fn damaged_messages_are_read_without_harm(
        request in request(), reply in reply(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = request.encode();
        let i = at.index(bytes.len());
        bytes[i] = byte;
        let _ = Request::decode(&bytes);
        prop_assert!(Request::decode(&bytes[..i]).is_err());
        let mut bytes = encode_reply(&reply);
        let i = at.index(bytes.len());
        bytes[i] = byte;
        let _ = decode_reply(&bytes);
    }
}
