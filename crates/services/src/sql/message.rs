//! What travels between a PoP and a database's primary.

use std::time::Duration;

use verge_types::Position;

use super::codec::{Reader, Writer};
use super::error::{ErrorKind, SqlError};
use super::run::{Outcome, Query, Stats};
use super::script::Executed;
use super::sink::Rows;
use super::value::Value;

/// The first byte of each message.
const VERSION: u8 = 1;

/// What is asked of the primary.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// One statement, in a transaction of its own.
    Query(Query),
    /// Statements in one transaction.
    Batch(Vec<Query>),
    /// A script in one transaction.
    Exec(String),
    /// An interactive transaction that may take so many milliseconds.
    Begin {
        deadline_ms: u64,
    },
    /// Statements within it.
    Step {
        transaction: u64,
        queries: Vec<Query>,
    },
    Commit {
        transaction: u64,
    },
    Rollback {
        transaction: u64,
    },
    /// One of the others, of a session that has seen something, or whose read must be strong.
    Fresh {
        seen: Option<Position>,
        strong: bool,
        request: Box<Request>,
    },
    /// A script in one transaction, with what each of its statements gave.
    Script(String),
}

/// What the primary did.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    Outcomes(Vec<Outcome>),
    Executed(Executed),
    Began { transaction: u64 },
    Ended,
}

/// The primary's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Where the primary stood afterwards: the session's new bookmark.
    pub position: Position,
    /// The node and region that answered.
    pub served_by: String,
    pub served_by_region: String,
    pub done: Done,
}

impl Request {
    /// The same, of a session that has seen so much, or whose read must be strong.
    pub(super) fn fresh(self, seen: Option<Position>, strong: bool) -> Self {
        if seen.is_none() && !strong {
            return self;
        }
        Self::Fresh { seen, strong, request: Box::new(self) }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(VERSION);
        self.put(&mut out);
        out.finish()
    }

    fn put(&self, out: &mut Writer) {
        match self {
            Self::Query(query) => {
                out.byte(0);
                put_query(out, query);
            }
            Self::Batch(queries) => {
                out.byte(1);
                out.list(queries, put_query);
            }
            Self::Exec(script) => {
                out.byte(2);
                out.text(script);
            }
            Self::Begin { deadline_ms } => {
                out.byte(3);
                out.number(*deadline_ms);
            }
            Self::Step { transaction, queries } => {
                out.byte(4);
                out.number(*transaction);
                out.list(queries, put_query);
            }
            Self::Commit { transaction } => {
                out.byte(5);
                out.number(*transaction);
            }
            Self::Rollback { transaction } => {
                out.byte(6);
                out.number(*transaction);
            }
            Self::Fresh { seen, strong, request } => {
                out.byte(7);
                let seen = seen.unwrap_or_default();
                out.number(seen.epoch);
                out.number(seen.txid);
                out.byte(u8::from(*strong));
                request.put(out);
            }
            Self::Script(script) => {
                out.byte(8);
                out.text(script);
            }
        }
    }

    /// # Errors
    /// [`ErrorKind::Malformed`] for whatever `encode` did not make.
    pub fn decode(bytes: &[u8]) -> Result<Self, SqlError> {
        let mut from = Reader::new(bytes, VERSION)?;
        let request = match from.byte()? {
            7 => {
                let seen = Position::new(from.number()?, from.number()?);
                let seen = (seen != Position::default()).then_some(seen);
                let strong = from.byte()? != 0;
                // Not another of this kind: it would nest without end.
                let request = Box::new(Self::get(from.byte()?, &mut from)?);
                Self::Fresh { seen, strong, request }
            }
            kind => Self::get(kind, &mut from)?,
        };
        from.end()?;
        Ok(request)
    }

    fn get(kind: u8, from: &mut Reader<'_>) -> Result<Self, SqlError> {
        Ok(match kind {
            0 => Self::Query(get_query(from)?),
            1 => Self::Batch(from.list(get_query)?),
            2 => Self::Exec(from.text()?),
            3 => Self::Begin { deadline_ms: from.number()? },
            4 => Self::Step { transaction: from.number()?, queries: from.list(get_query)? },
            5 => Self::Commit { transaction: from.number()? },
            6 => Self::Rollback { transaction: from.number()? },
            8 => Self::Script(from.text()?),
            _ => return Err(SqlError::malformed("unknown request")),
        })
    }
}

/// An answer as bytes, a failure too.
pub fn encode_reply(result: &Result<Reply, SqlError>) -> Vec<u8> {
    let mut out = Writer::new(VERSION);
    match result {
        Ok(reply) => {
            out.byte(0);
            out.number(reply.position.epoch);
            out.number(reply.position.txid);
            out.text(&reply.served_by);
            out.text(&reply.served_by_region);
            match &reply.done {
                Done::Outcomes(outcomes) => {
                    out.byte(0);
                    out.list(outcomes, put_outcome);
                }
                Done::Executed(executed) => {
                    out.byte(1);
                    out.number(executed.count);
                    out.duration(executed.duration);
                    out.number(executed.changes);
                }
                Done::Began { transaction } => {
                    out.byte(2);
                    out.number(*transaction);
                }
                Done::Ended => out.byte(3),
            }
        }
        Err(error) => {
            out.byte(1);
            out.byte(error.kind as u8);
            out.number(u64::from(error.code.cast_unsigned()));
            out.text(&error.message);
        }
    }
    out.finish()
}

/// # Errors
/// The primary's own failure, or [`ErrorKind::Malformed`].
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, SqlError> {
    let mut from = Reader::new(bytes, VERSION)?;
    match from.byte()? {
        0 => {
            let position = Position::new(from.number()?, from.number()?);
            let (served_by, served_by_region) = (from.text()?, from.text()?);
            let done = match from.byte()? {
                0 => Done::Outcomes(from.list(get_outcome)?),
                1 => Done::Executed(Executed {
                    count: from.number()?,
                    duration: from.duration()?,
                    changes: from.number()?,
                }),
                2 => Done::Began { transaction: from.number()? },
                3 => Done::Ended,
                _ => return Err(SqlError::malformed("unknown reply")),
            };
            from.end()?;
            Ok(Reply { position, served_by, served_by_region, done })
        }
        1 => {
            let kind = ErrorKind::from_u8(from.byte()?)
                .ok_or_else(|| SqlError::malformed("unknown error"))?;
            let code = u32::try_from(from.number()?)
                .map_err(|_| SqlError::malformed("error code"))?
                .cast_signed();
            let message = from.text()?;
            from.end()?;
            Err(SqlError { kind, code, message })
        }
        _ => Err(SqlError::malformed("unknown result")),
    }
}

fn put_query(out: &mut Writer, query: &Query) {
    out.text(&query.sql);
    out.list(&query.params, put_value);
}

fn get_query(from: &mut Reader<'_>) -> Result<Query, SqlError> {
    Ok(Query { sql: from.text()?, params: from.list(get_value)? })
}

fn put_value(out: &mut Writer, value: &Value) {
    match value {
        Value::Null => out.byte(0),
        Value::Integer(value) => {
            out.byte(1);
            out.fixed(value.cast_unsigned());
        }
        Value::Real(value) => {
            out.byte(2);
            out.fixed(value.to_bits());
        }
        Value::Text(value) => {
            out.byte(3);
            out.text(value);
        }
        Value::Blob(value) => {
            out.byte(4);
            out.bytes(value);
        }
    }
}

fn get_value(from: &mut Reader<'_>) -> Result<Value, SqlError> {
    Ok(match from.byte()? {
        0 => Value::Null,
        1 => Value::Integer(from.fixed()?.cast_signed()),
        2 => Value::Real(f64::from_bits(from.fixed()?)),
        3 => Value::Text(from.text()?),
        4 => Value::Blob(from.bytes()?.to_vec()),
        _ => return Err(SqlError::malformed("unknown value")),
    })
}

fn put_outcome(out: &mut Writer, outcome: &Outcome) {
    out.list(&outcome.rows.columns, |out, name| out.text(name));
    out.list(&outcome.rows.values, put_value);
    let stats = &outcome.stats;
    out.duration(stats.duration);
    for number in [stats.rows_read, stats.rows_written, stats.changes, stats.size_after] {
        out.number(number);
    }
    out.fixed(stats.last_row_id.cast_unsigned());
    out.byte(u8::from(stats.changed_db));
}

fn get_outcome(from: &mut Reader<'_>) -> Result<Outcome, SqlError> {
    let columns: Vec<Box<str>> = from.list(|from| Ok(from.text()?.into()))?;
    let values = from.list(get_value)?;
    let whole =
        if columns.is_empty() { values.is_empty() } else { values.len() % columns.len() == 0 };
    if !whole {
        return Err(SqlError::malformed("rows of unequal length"));
    }
    let duration: Duration = from.duration()?;
    let stats = Stats {
        duration,
        rows_read: from.number()?,
        rows_written: from.number()?,
        changes: from.number()?,
        size_after: from.number()?,
        last_row_id: from.fixed()?.cast_signed(),
        changed_db: from.byte()? != 0,
    };
    Ok(Outcome { rows: Rows { columns, values }, stats })
}
