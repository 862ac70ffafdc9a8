//! Reads what clients send. Unknown fields are ignored, as the protocol asks.
//!
//! A union is read as one flat structure and then looked at by its `type`: nothing is buffered
//! twice, and the type may come last. Nesting is bounded by serde_json (128 levels).

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use crate::{
    Batch, BatchCond, BatchStep, ClientMsg, CursorRequest, Malformed, NamedArg, PipelineRequest,
    Request, SqlRef, Stmt, StreamRequest, Value,
};

/// Clients differ on padding; both are read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub fn read_client(bytes: &[u8]) -> Result<ClientMsg, Malformed> {
    parse::<RawClientMsg>(bytes)?.message()
}

pub fn read_pipeline(bytes: &[u8]) -> Result<PipelineRequest, Malformed> {
    let raw: RawPipeline = parse(bytes)?;
    let requests = raw.requests.into_iter().map(RawRequest::stream_request);
    Ok(PipelineRequest { baton: raw.baton, requests: requests.collect::<Result<_, _>>()? })
}

pub fn read_cursor(bytes: &[u8]) -> Result<CursorRequest, Malformed> {
    let raw: RawCursor = parse(bytes)?;
    Ok(CursorRequest { baton: raw.baton, batch: raw.batch.batch()? })
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|error| Malformed(format!("not valid: {error}")))
}

fn unknown<T>(what: &str, given: &str) -> Result<T, Malformed> {
    let given: String = given.chars().take(40).collect();
    Err(Malformed(format!("`{given}` is no type of {what}")))
}

fn need<T>(field: Option<T>, name: &str) -> Result<T, Malformed> {
    field.ok_or_else(|| Malformed(format!("the field `{name}` is missing")))
}

#[derive(Deserialize)]
struct RawPipeline<'a> {
    baton: Option<String>,
    #[serde(borrow)]
    requests: Vec<RawRequest<'a>>,
}

#[derive(Deserialize)]
struct RawCursor<'a> {
    baton: Option<String>,
    #[serde(borrow)]
    batch: RawBatch<'a>,
}

#[derive(Deserialize)]
struct RawClientMsg<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    jwt: Option<String>,
    request_id: Option<i32>,
    #[serde(borrow)]
    request: Option<RawRequest<'a>>,
}

impl RawClientMsg<'_> {
    fn message(self) -> Result<ClientMsg, Malformed> {
        match &*self.r#type {
            "hello" => Ok(ClientMsg::Hello { jwt: self.jwt }),
            "request" => Ok(ClientMsg::Request {
                request_id: need(self.request_id, "request_id")?,
                request: need(self.request, "request")?.request()?,
            }),
            other => unknown("message", other),
        }
    }
}

/// All requests of both variants: they share their fields' names.
#[derive(Deserialize)]
struct RawRequest<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    stream_id: Option<i32>,
    cursor_id: Option<i32>,
    sql_id: Option<i32>,
    max_count: Option<u32>,
    sql: Option<String>,
    #[serde(borrow)]
    stmt: Option<RawStmt<'a>>,
    #[serde(borrow)]
    batch: Option<RawBatch<'a>>,
}

impl RawRequest<'_> {
    fn stream_request(self) -> Result<StreamRequest, Malformed> {
        let sql = SqlRef { sql: self.sql, sql_id: self.sql_id };
        Ok(match &*self.r#type {
            "close" => StreamRequest::Close,
            "execute" => StreamRequest::Execute(need(self.stmt, "stmt")?.stmt()?),
            "batch" => StreamRequest::Batch(need(self.batch, "batch")?.batch()?),
            "sequence" => StreamRequest::Sequence(sql),
            "describe" => StreamRequest::Describe(sql),
            "store_sql" => StreamRequest::StoreSql {
                sql_id: need(sql.sql_id, "sql_id")?,
                sql: need(sql.sql, "sql")?,
            },
            "close_sql" => StreamRequest::CloseSql { sql_id: need(sql.sql_id, "sql_id")? },
            "get_autocommit" => StreamRequest::GetAutocommit,
            other => return unknown("request", other),
        })
    }

    fn request(self) -> Result<Request, Malformed> {
        let stream = need(self.stream_id, "stream_id");
        let cursor = need(self.cursor_id, "cursor_id");
        let sql = SqlRef { sql: self.sql, sql_id: self.sql_id };
        Ok(match &*self.r#type {
            "open_stream" => Request::OpenStream { stream_id: stream? },
            "close_stream" => Request::CloseStream { stream_id: stream? },
            "execute" => {
                Request::Execute { stream_id: stream?, stmt: need(self.stmt, "stmt")?.stmt()? }
            }
            "batch" => {
                Request::Batch { stream_id: stream?, batch: need(self.batch, "batch")?.batch()? }
            }
            "sequence" => Request::Sequence { stream_id: stream?, sql },
            "describe" => Request::Describe { stream_id: stream?, sql },
            "get_autocommit" => Request::GetAutocommit { stream_id: stream? },
            "store_sql" => Request::StoreSql {
                sql_id: need(sql.sql_id, "sql_id")?,
                sql: need(sql.sql, "sql")?,
            },
            "close_sql" => Request::CloseSql { sql_id: need(sql.sql_id, "sql_id")? },
            "open_cursor" => Request::OpenCursor {
                stream_id: stream?,
                cursor_id: cursor?,
                batch: need(self.batch, "batch")?.batch()?,
            },
            "close_cursor" => Request::CloseCursor { cursor_id: cursor? },
            "fetch_cursor" => Request::FetchCursor {
                cursor_id: cursor?,
                max_count: need(self.max_count, "max_count")?,
            },
            other => return unknown("request", other),
        })
    }
}

#[derive(Deserialize)]
struct RawStmt<'a> {
    sql: Option<String>,
    sql_id: Option<i32>,
    #[serde(borrow)]
    args: Option<Vec<RawValue<'a>>>,
    #[serde(borrow)]
    named_args: Option<Vec<RawNamedArg<'a>>>,
    want_rows: Option<bool>,
}

#[derive(Deserialize)]
struct RawNamedArg<'a> {
    name: String,
    #[serde(borrow)]
    value: RawValue<'a>,
}

impl RawStmt<'_> {
    fn stmt(self) -> Result<Stmt, Malformed> {
        let args = self.args.unwrap_or_default().into_iter().map(RawValue::value);
        let named = self.named_args.unwrap_or_default().into_iter();
        let named = named.map(|arg| Ok(NamedArg { name: arg.name, value: arg.value.value()? }));
        Ok(Stmt {
            sql: SqlRef { sql: self.sql, sql_id: self.sql_id },
            args: args.collect::<Result<_, _>>()?,
            named_args: named.collect::<Result<_, Malformed>>()?,
            want_rows: self.want_rows.unwrap_or(true),
        })
    }
}

#[derive(Deserialize)]
struct RawBatch<'a> {
    #[serde(borrow)]
    steps: Vec<RawStep<'a>>,
}

#[derive(Deserialize)]
struct RawStep<'a> {
    #[serde(borrow)]
    condition: Option<RawCond<'a>>,
    #[serde(borrow)]
    stmt: RawStmt<'a>,
}

impl RawBatch<'_> {
    fn batch(self) -> Result<Batch, Malformed> {
        let steps = self.steps.into_iter().map(|step| {
            let condition = step.condition.map(RawCond::condition).transpose()?;
            Ok(BatchStep { condition, stmt: step.stmt.stmt()? })
        });
        Ok(Batch { steps: steps.collect::<Result<_, Malformed>>()? })
    }
}

#[derive(Deserialize)]
struct RawCond<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    step: Option<u32>,
    #[serde(borrow)]
    cond: Option<Box<RawCond<'a>>>,
    #[serde(borrow)]
    conds: Option<Vec<RawCond<'a>>>,
}

impl RawCond<'_> {
    fn condition(self) -> Result<BatchCond, Malformed> {
        let all = |conds: Option<Vec<RawCond<'_>>>| {
            need(conds, "conds")?.into_iter().map(RawCond::condition).collect::<Result<Vec<_>, _>>()
        };
        Ok(match &*self.r#type {
            "ok" => BatchCond::Ok(need(self.step, "step")?),
            "error" => BatchCond::Error(need(self.step, "step")?),
            "not" => BatchCond::Not(Box::new(need(self.cond, "cond")?.condition()?)),
            "and" => BatchCond::And(all(self.conds)?),
            "or" => BatchCond::Or(all(self.conds)?),
            "is_autocommit" => BatchCond::IsAutocommit,
            other => return unknown("condition", other),
        })
    }
}

#[derive(Deserialize)]
struct RawValue<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    value: Option<Scalar>,
    #[serde(borrow)]
    base64: Option<Cow<'a, str>>,
}

impl RawValue<'_> {
    fn value(self) -> Result<Value, Malformed> {
        let wrong = |what: &str| Malformed(format!("the value of {what} is not as it should be"));
        Ok(match (&*self.r#type, self.value) {
            ("null", _) => Value::Null,
            ("integer", Some(Scalar::Text(digits))) => {
                Value::Integer(digits.parse().map_err(|_| wrong("an integer"))?)
            }
            ("float", Some(Scalar::Number(number))) => Value::Float(number),
            ("text", Some(Scalar::Text(text))) => Value::Text(text),
            ("blob", _) => Value::Blob(
                BASE64.decode(&*need(self.base64, "base64")?).map_err(|_| wrong("a blob"))?,
            ),
            ("integer" | "float" | "text", _) => return Err(wrong(&self.r#type)),
            (other, _) => return unknown("value", other),
        })
    }
}

/// A JSON string or number.
enum Scalar {
    Text(String),
    Number(f64),
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;
        #[expect(clippy::cast_precision_loss, reason = "a float is what the client asks for")]
        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }
            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
                Ok(Scalar::Text(text))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number as f64))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number as f64))
            }
        }
        deserializer.deserialize_any(ScalarVisitor)
    }
}
