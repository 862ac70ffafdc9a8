//! Reads what clients send. Nesting is bounded by prost (100 levels).

use prost::Message;

use super::schema as s;
use crate::{
    Batch, BatchCond, BatchStep, ClientMsg, CursorRequest, Malformed, NamedArg, PipelineRequest,
    Request, SqlRef, Stmt, StreamRequest, Value,
};

pub fn read_client(bytes: &[u8]) -> Result<ClientMsg, Malformed> {
    match need(parse::<s::ClientMsg>(bytes)?.msg, "msg")? {
        s::ClientMsgMsg::Hello(hello) => Ok(ClientMsg::Hello { jwt: hello.jwt }),
        s::ClientMsgMsg::Request(message) => Ok(ClientMsg::Request {
            request_id: message.request_id,
            request: request(need(message.request, "request")?)?,
        }),
    }
}

pub fn read_pipeline(bytes: &[u8]) -> Result<PipelineRequest, Malformed> {
    let body: s::PipelineReqBody = parse(bytes)?;
    let requests = body.requests.into_iter().map(stream_request);
    Ok(PipelineRequest { baton: body.baton, requests: requests.collect::<Result<_, _>>()? })
}

pub fn read_cursor(bytes: &[u8]) -> Result<CursorRequest, Malformed> {
    let body: s::CursorReqBody = parse(bytes)?;
    Ok(CursorRequest { baton: body.baton, batch: batch(body.batch)? })
}

fn parse<T: Message + Default>(bytes: &[u8]) -> Result<T, Malformed> {
    T::decode(bytes).map_err(|error| Malformed(format!("not valid: {error}")))
}

fn need<T>(field: Option<T>, name: &str) -> Result<T, Malformed> {
    field.ok_or_else(|| Malformed(format!("the field `{name}` is missing or of an unknown type")))
}

fn request(request: s::RequestMsgRequest) -> Result<Request, Malformed> {
    use s::RequestMsgRequest as R;
    Ok(match request {
        R::OpenStream(of) => Request::OpenStream { stream_id: of.stream_id },
        R::CloseStream(of) => Request::CloseStream { stream_id: of.stream_id },
        R::Execute(of) => Request::Execute { stream_id: of.stream_id, stmt: stmt(of.stmt)? },
        R::Batch(of) => Request::Batch { stream_id: of.stream_id, batch: batch(of.batch)? },
        R::OpenCursor(of) => Request::OpenCursor {
            stream_id: of.stream_id,
            cursor_id: of.cursor_id,
            batch: batch(of.batch)?,
        },
        R::CloseCursor(of) => Request::CloseCursor { cursor_id: of.cursor_id },
        R::FetchCursor(of) => {
            Request::FetchCursor { cursor_id: of.cursor_id, max_count: of.max_count }
        }
        R::Sequence(of) => Request::Sequence {
            stream_id: of.stream_id,
            sql: SqlRef { sql: of.sql, sql_id: of.sql_id },
        },
        R::Describe(of) => Request::Describe {
            stream_id: of.stream_id,
            sql: SqlRef { sql: of.sql, sql_id: of.sql_id },
        },
        R::StoreSql(of) => Request::StoreSql { sql_id: of.sql_id, sql: of.sql },
        R::CloseSql(of) => Request::CloseSql { sql_id: of.sql_id },
        R::GetAutocommit(of) => Request::GetAutocommit { stream_id: of.stream_id },
    })
}

fn stream_request(request: s::StreamRequest) -> Result<StreamRequest, Malformed> {
    use s::StreamRequestRequest as R;
    Ok(match need(request.request, "request")? {
        R::Close(_) => StreamRequest::Close,
        R::Execute(of) => StreamRequest::Execute(stmt(of.stmt)?),
        R::Batch(of) => StreamRequest::Batch(batch(of.batch)?),
        R::Sequence(of) => StreamRequest::Sequence(SqlRef { sql: of.sql, sql_id: of.sql_id }),
        R::Describe(of) => StreamRequest::Describe(SqlRef { sql: of.sql, sql_id: of.sql_id }),
        R::StoreSql(of) => StreamRequest::StoreSql { sql_id: of.sql_id, sql: of.sql },
        R::CloseSql(of) => StreamRequest::CloseSql { sql_id: of.sql_id },
        R::GetAutocommit(_) => StreamRequest::GetAutocommit,
    })
}

fn stmt(stmt: Option<s::Stmt>) -> Result<Stmt, Malformed> {
    let stmt = need(stmt, "stmt")?;
    let named = stmt
        .named_args
        .into_iter()
        .map(|arg| Ok(NamedArg { name: arg.name, value: value(need(arg.value, "value")?)? }));
    Ok(Stmt {
        sql: SqlRef { sql: stmt.sql, sql_id: stmt.sql_id },
        args: stmt.args.into_iter().map(value).collect::<Result<_, _>>()?,
        named_args: named.collect::<Result<_, Malformed>>()?,
        want_rows: stmt.want_rows.unwrap_or(true),
    })
}

fn batch(batch: Option<s::Batch>) -> Result<Batch, Malformed> {
    let steps = need(batch, "batch")?.steps.into_iter().map(|step| {
        let condition = step.condition.map(condition).transpose()?;
        Ok(BatchStep { condition, stmt: stmt(step.stmt)? })
    });
    Ok(Batch { steps: steps.collect::<Result<_, Malformed>>()? })
}

fn condition(cond: s::BatchCond) -> Result<BatchCond, Malformed> {
    let all = |list: s::CondList| {
        list.conds.into_iter().map(condition).collect::<Result<Vec<_>, Malformed>>()
    };
    Ok(match need(cond.cond, "cond")? {
        s::Cond::StepOk(step) => BatchCond::Ok(step),
        s::Cond::StepError(step) => BatchCond::Error(step),
        s::Cond::Not(inner) => BatchCond::Not(Box::new(condition(*inner)?)),
        s::Cond::And(list) => BatchCond::And(all(list)?),
        s::Cond::Or(list) => BatchCond::Or(all(list)?),
        s::Cond::IsAutocommit(_) => BatchCond::IsAutocommit,
    })
}

fn value(value: s::Value) -> Result<Value, Malformed> {
    Ok(match need(value.value, "value")? {
        s::Scalar::Null(_) => Value::Null,
        s::Scalar::Integer(integer) => Value::Integer(integer),
        s::Scalar::Float(float) => Value::Float(float),
        s::Scalar::Text(text) => Value::Text(text),
        s::Scalar::Blob(bytes) => Value::Blob(bytes),
    })
}
