//! Both encodings, from the client's side: what a client writes is read, whatever comes is
//! survived.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use verge_hrana::{
    Batch, BatchCond, BatchStep, ClientMsg, Encoding, NamedArg, Request, SqlRef, Stmt,
    StreamRequest, Value,
};

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>()
            .prop_filter("a client sends finite numbers", |n| n.is_finite())
            .prop_map(Value::Float),
        any::<String>().prop_map(Value::Text),
        vec(any::<u8>(), 0..40).prop_map(Value::Blob),
    ]
}

fn sql() -> impl Strategy<Value = SqlRef> {
    (any::<Option<String>>(), any::<Option<i32>>()).prop_map(|(sql, sql_id)| SqlRef { sql, sql_id })
}

prop_compose! {
    fn stmt()(
        sql in sql(),
        args in vec(value(), 0..4),
        named_args in vec((any::<String>(), value()).prop_map(|(name, value)| NamedArg { name, value }), 0..3),
        want_rows in any::<bool>(),
    ) -> Stmt {
        Stmt { sql, args, named_args, want_rows }
    }
}

fn condition() -> impl Strategy<Value = BatchCond> {
    let leaf = prop_oneof![
        any::<u32>().prop_map(BatchCond::Ok),
        any::<u32>().prop_map(BatchCond::Error),
        Just(BatchCond::IsAutocommit),
    ];
    leaf.prop_recursive(6, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| BatchCond::Not(Box::new(inner))),
            vec(inner.clone(), 0..3).prop_map(BatchCond::And),
            vec(inner, 0..3).prop_map(BatchCond::Or),
        ]
    })
}

fn batch() -> impl Strategy<Value = Batch> {
    let step = (proptest::option::of(condition()), stmt());
    vec(step.prop_map(|(condition, stmt)| BatchStep { condition, stmt }), 0..4)
        .prop_map(|steps| Batch { steps })
}

fn request() -> impl Strategy<Value = Request> {
    let id = any::<i32>;
    prop_oneof![
        id().prop_map(|stream_id| Request::OpenStream { stream_id }),
        id().prop_map(|stream_id| Request::CloseStream { stream_id }),
        id().prop_map(|stream_id| Request::GetAutocommit { stream_id }),
        (id(), stmt()).prop_map(|(stream_id, stmt)| Request::Execute { stream_id, stmt }),
        (id(), batch()).prop_map(|(stream_id, batch)| Request::Batch { stream_id, batch }),
        (id(), sql()).prop_map(|(stream_id, sql)| Request::Sequence { stream_id, sql }),
        (id(), sql()).prop_map(|(stream_id, sql)| Request::Describe { stream_id, sql }),
        (id(), any::<String>()).prop_map(|(sql_id, sql)| Request::StoreSql { sql_id, sql }),
        id().prop_map(|sql_id| Request::CloseSql { sql_id }),
        (id(), id(), batch()).prop_map(|(stream_id, cursor_id, batch)| {
            Request::OpenCursor { stream_id, cursor_id, batch }
        }),
        id().prop_map(|cursor_id| Request::CloseCursor { cursor_id }),
        (id(), any::<u32>())
            .prop_map(|(cursor_id, max_count)| Request::FetchCursor { cursor_id, max_count }),
    ]
}

/// A client's encoder for JSON, written from the specification.
mod as_json {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

    pub fn request(request: &Request) -> Json {
        match request {
            Request::OpenStream { stream_id } => {
                json!({"type": "open_stream", "stream_id": stream_id})
            }
            Request::CloseStream { stream_id } => {
                json!({"type": "close_stream", "stream_id": stream_id})
            }
            Request::GetAutocommit { stream_id } => {
                json!({"type": "get_autocommit", "stream_id": stream_id})
            }
            Request::Execute { stream_id, stmt: of } => {
                json!({"type": "execute", "stream_id": stream_id, "stmt": stmt(of)})
            }
            Request::Batch { stream_id, batch: of } => {
                json!({"type": "batch", "stream_id": stream_id, "batch": batch(of)})
            }
            Request::Sequence { stream_id, sql } => json!(
                {"type": "sequence", "stream_id": stream_id, "sql": sql.sql, "sql_id": sql.sql_id}
            ),
            Request::Describe { stream_id, sql } => json!(
                {"type": "describe", "stream_id": stream_id, "sql": sql.sql, "sql_id": sql.sql_id}
            ),
            Request::StoreSql { sql_id, sql } => {
                json!({"type": "store_sql", "sql_id": sql_id, "sql": sql})
            }
            Request::CloseSql { sql_id } => json!({"type": "close_sql", "sql_id": sql_id}),
            Request::OpenCursor { stream_id, cursor_id, batch: of } => json!({
                "type": "open_cursor", "stream_id": stream_id, "cursor_id": cursor_id,
                "batch": batch(of),
            }),
            Request::CloseCursor { cursor_id } => {
                json!({"type": "close_cursor", "cursor_id": cursor_id})
            }
            Request::FetchCursor { cursor_id, max_count } => {
                json!({"type": "fetch_cursor", "cursor_id": cursor_id, "max_count": max_count})
            }
        }
    }

    fn stmt(stmt: &Stmt) -> Json {
        let named = stmt.named_args.iter();
        json!({
            "sql": stmt.sql.sql, "sql_id": stmt.sql.sql_id, "want_rows": stmt.want_rows,
            "args": stmt.args.iter().map(value).collect::<Vec<_>>(),
            "named_args":
                named.map(|arg| json!({"name": arg.name, "value": value(&arg.value)}))
                .collect::<Vec<_>>(),
            "from_the_future": {"type": [1, null]},
        })
    }

    fn batch(batch: &Batch) -> Json {
        let steps = batch.steps.iter().map(|step| {
            json!({"condition": step.condition.as_ref().map(condition), "stmt": stmt(&step.stmt)})
        });
        json!({ "steps": steps.collect::<Vec<_>>() })
    }

    fn condition(of: &BatchCond) -> Json {
        let all = |conds: &Vec<BatchCond>| conds.iter().map(condition).collect::<Vec<_>>();
        match of {
            BatchCond::Ok(step) => json!({"type": "ok", "step": step}),
            BatchCond::Error(step) => json!({"step": step, "type": "error"}),
            BatchCond::Not(inner) => json!({"type": "not", "cond": condition(inner)}),
            BatchCond::And(conds) => json!({"type": "and", "conds": all(conds)}),
            BatchCond::Or(conds) => json!({"type": "or", "conds": all(conds)}),
            BatchCond::IsAutocommit => json!({"type": "is_autocommit"}),
        }
    }

    fn value(value: &Value) -> Json {
        match value {
            Value::Null => json!({"type": "null"}),
            Value::Integer(integer) => json!({"type": "integer", "value": integer.to_string()}),
            Value::Float(float) => json!({"type": "float", "value": float}),
            Value::Text(text) => json!({"type": "text", "value": text}),
            Value::Blob(bytes) if bytes.len() % 2 == 0 => {
                json!({"type": "blob", "base64": STANDARD.encode(bytes)})
            }
            Value::Blob(bytes) => json!({"type": "blob", "base64": STANDARD_NO_PAD.encode(bytes)}),
        }
    }
}

/// A client's encoder for Protobuf: fields by number, written from the specification's appendix.
mod as_protobuf {
    use super::*;

    fn varint(mut number: u64, out: &mut Vec<u8>) {
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }

    fn number(field: u64, number: u64, out: &mut Vec<u8>) {
        varint(field << 3, out);
        varint(number, out);
    }

    fn int32(field: u64, integer: i32, out: &mut Vec<u8>) {
        number(field, i64::from(integer) as u64, out);
    }

    fn bytes(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
        varint(field << 3 | 2, out);
        varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }

    fn message(field: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = Vec::new();
        write(&mut inner);
        bytes(field, &inner, out);
    }

    pub fn client(request_id: i32, request: &Request) -> Vec<u8> {
        let mut out = Vec::new();
        message(2, &mut out, |out| {
            int32(1, request_id, out);
            // A field from the future.
            bytes(99, b"?", out);
            self::request(request, out);
        });
        out
    }

    fn request(request: &Request, out: &mut Vec<u8>) {
        match request {
            Request::OpenStream { stream_id } => message(2, out, |out| int32(1, *stream_id, out)),
            Request::CloseStream { stream_id } => message(3, out, |out| int32(1, *stream_id, out)),
            Request::Execute { stream_id, stmt: of } => message(4, out, |out| {
                int32(1, *stream_id, out);
                message(2, out, |out| stmt(of, out));
            }),
            Request::Batch { stream_id, batch: of } => message(5, out, |out| {
                int32(1, *stream_id, out);
                message(2, out, |out| batch(of, out));
            }),
            Request::OpenCursor { stream_id, cursor_id, batch: of } => message(6, out, |out| {
                int32(1, *stream_id, out);
                int32(2, *cursor_id, out);
                message(3, out, |out| batch(of, out));
            }),
            Request::CloseCursor { cursor_id } => message(7, out, |out| int32(1, *cursor_id, out)),
            Request::FetchCursor { cursor_id, max_count } => message(8, out, |out| {
                int32(1, *cursor_id, out);
                number(2, u64::from(*max_count), out);
            }),
            Request::Sequence { stream_id, sql: of } => message(9, out, |out| {
                int32(1, *stream_id, out);
                sql(2, of, out);
            }),
            Request::Describe { stream_id, sql: of } => message(10, out, |out| {
                int32(1, *stream_id, out);
                sql(2, of, out);
            }),
            Request::StoreSql { sql_id, sql } => message(11, out, |out| {
                int32(1, *sql_id, out);
                bytes(2, sql.as_bytes(), out);
            }),
            Request::CloseSql { sql_id } => message(12, out, |out| int32(1, *sql_id, out)),
            Request::GetAutocommit { stream_id } => {
                message(13, out, |out| int32(1, *stream_id, out));
            }
        }
    }

    fn sql(field: u64, of: &SqlRef, out: &mut Vec<u8>) {
        if let Some(text) = &of.sql {
            bytes(field, text.as_bytes(), out);
        }
        if let Some(id) = of.sql_id {
            int32(field + 1, id, out);
        }
    }

    fn stmt(of: &Stmt, out: &mut Vec<u8>) {
        sql(1, &of.sql, out);
        for arg in &of.args {
            message(3, out, |out| value(arg, out));
        }
        for arg in &of.named_args {
            message(4, out, |out| {
                bytes(1, arg.name.as_bytes(), out);
                message(2, out, |out| value(&arg.value, out));
            });
        }
        number(5, u64::from(of.want_rows), out);
    }

    fn batch(of: &Batch, out: &mut Vec<u8>) {
        for step in &of.steps {
            message(1, out, |out| {
                if let Some(of) = &step.condition {
                    message(1, out, |out| condition(of, out));
                }
                message(2, out, |out| stmt(&step.stmt, out));
            });
        }
    }

    fn condition(of: &BatchCond, out: &mut Vec<u8>) {
        let all = |conds: &Vec<BatchCond>, out: &mut Vec<u8>| {
            conds.iter().for_each(|of| message(1, out, |out| condition(of, out)));
        };
        match of {
            BatchCond::Ok(step) => number(1, u64::from(*step), out),
            BatchCond::Error(step) => number(2, u64::from(*step), out),
            BatchCond::Not(inner) => message(3, out, |out| condition(inner, out)),
            BatchCond::And(conds) => message(4, out, |out| all(conds, out)),
            BatchCond::Or(conds) => message(5, out, |out| all(conds, out)),
            BatchCond::IsAutocommit => message(6, out, |_| ()),
        }
    }

    fn value(of: &Value, out: &mut Vec<u8>) {
        match of {
            Value::Null => message(1, out, |_| ()),
            Value::Integer(integer) => {
                number(2, (integer << 1 ^ integer >> 63) as u64, out);
            }
            Value::Float(float) => {
                varint(3 << 3 | 1, out);
                out.extend_from_slice(&float.to_le_bytes());
            }
            Value::Text(text) => bytes(4, text.as_bytes(), out),
            Value::Blob(blob) => bytes(5, blob, out),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_a_client_writes_is_read_in_both_encodings(
        request_id in any::<i32>(),
        request in request(),
    ) {
        let message = ClientMsg::Request { request_id, request: request.clone() };
        let text = json!({
            "type": "request", "request_id": request_id, "request": as_json::request(&request),
        });
        let read = Encoding::Json.read_client(text.to_string().as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&message));
        let bytes = as_protobuf::client(request_id, &request);
        prop_assert_eq!(Encoding::Protobuf.read_client(&bytes), Ok(message));
    }

    #[test]
    fn no_bytes_end_the_process(bytes in vec(any::<u8>(), 0..200)) {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let _ = encoding.read_client(&bytes);
            let _ = encoding.read_pipeline(&bytes);
            let _ = encoding.read_cursor(&bytes);
        }
    }

    /// Bytes that are nearly right go deeper than random ones.
    #[test]
    fn damaged_messages_are_survived(
        request in request(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let text = json!({"type": "request", "request_id": 1, "request": as_json::request(&request)});
        for (encoding, mut bytes) in [
            (Encoding::Json, text.to_string().into_bytes()),
            (Encoding::Protobuf, as_protobuf::client(1, &request)),
        ] {
            let cut = cut.index(bytes.len());
            let _ = encoding.read_client(&bytes[..cut]);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = encoding.read_client(&bytes);
        }
    }
}

#[test]
fn nesting_is_bounded_before_the_stack_is() {
    let depth = 100_000;
    let condition = r#"{"type":"not","cond":"#.repeat(depth) + &"}".repeat(depth);
    let text = format!(r#"{{"batch":{{"steps":[{{"condition":{condition},"stmt":{{}}}}]}}}}"#);
    assert!(Encoding::Json.read_cursor(text.as_bytes()).is_err());
    let mut inner: Vec<u8> = Vec::new();
    for _ in 0..1_000 {
        let mut outer = vec![3 << 3 | 2];
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.append(&mut inner);
        inner = outer;
    }
    // ClientMsg.request.batch.batch.steps.condition
    for field in [1, 1, 2, 5, 2] {
        let mut outer = vec![field << 3 | 2];
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.append(&mut inner);
        inner = outer;
    }
    assert!(Encoding::Protobuf.read_client(&inner).is_err());
}

#[test]
fn what_is_no_message_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"type":"bye"}"#,
        r#"{"type":"request","request_id":1}"#,
        r#"{"type":"request","request_id":1,"request":{"type":"what"}}"#,
        r#"{"type":"request","request_id":1,"request":{"type":"open_stream"}}"#,
        r#"{"type":"request","request_id":4294967296,"request":{"type":"open_stream","stream_id":1}}"#,
        r#"{"type":"hello"} x"#,
    ] {
        assert!(Encoding::Json.read_client(text.as_bytes()).is_err(), "{text}");
    }
    for value in [
        r#"{}"#,
        r#"{"type":"integer","value":"9223372036854775808"}"#,
        r#"{"type":"integer","value":1}"#,
        r#"{"type":"integer","value":"1.5"}"#,
        r#"{"type":"float","value":"1"}"#,
        r#"{"type":"text"}"#,
        r#"{"type":"blob","base64":"*"}"#,
        r#"{"type":"date","value":"1"}"#,
    ] {
        let text = format!(
            r#"{{"requests":[{{"type":"execute","stmt":{{"sql":"","args":[{value}]}}}}]}}"#
        );
        assert!(Encoding::Json.read_pipeline(text.as_bytes()).is_err(), "{value}");
    }
}

#[test]
fn a_hello_and_a_pipeline_are_read() {
    for (text, jwt) in [
        (r#"{"type":"hello"}"#, None),
        (r#"{"type":"hello","jwt":null}"#, None),
        (r#"{"jwt":"t","type":"hello"}"#, Some("t".to_owned())),
    ] {
        assert_eq!(Encoding::Json.read_client(text.as_bytes()), Ok(ClientMsg::Hello { jwt }));
    }
    let text =
        r#"{"baton":"b","requests":[{"type":"close"},{"type":"execute","stmt":{"sql":"x"}}]}"#;
    let read = Encoding::Json.read_pipeline(text.as_bytes()).unwrap();
    assert_eq!(read.baton.as_deref(), Some("b"));
    assert_eq!(read.requests[0], StreamRequest::Close);
    let StreamRequest::Execute(stmt) = &read.requests[1] else { panic!("{read:?}") };
    assert!(stmt.want_rows, "rows are wanted unless the client says no");
}
