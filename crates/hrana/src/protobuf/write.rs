//! Writes what clients read. Texts and blobs are moved, not copied, up to the output.

use prost::Message;

use super::schema as s;
use crate::{
    BatchResult, Col, CursorEntry, CursorResponse, DescribeResult, Error, PipelineResponse,
    Response, ServerMsg, StmtResult, StreamResponse, Value,
};

pub fn write_server(message: ServerMsg) -> Vec<u8> {
    use s::ServerMsgMsg as M;
    let msg = match message {
        ServerMsg::HelloOk => M::HelloOk(s::Empty {}),
        ServerMsg::HelloError(told) => M::HelloError(s::HelloErrorMsg { error: Some(error(told)) }),
        ServerMsg::ResponseOk { request_id, response: told } => {
            M::ResponseOk(s::ResponseOkMsg { request_id, response: Some(response(told)) })
        }
        ServerMsg::ResponseError { request_id, error: told } => {
            M::ResponseError(s::ResponseErrorMsg { request_id, error: Some(error(told)) })
        }
    };
    s::ServerMsg { msg: Some(msg) }.encode_to_vec()
}

pub fn write_pipeline(response: PipelineResponse) -> Vec<u8> {
    let results = response.results.into_iter().map(|result| {
        let result = match result {
            Ok(told) => s::StreamResultResult::Ok(stream_response(told)),
            Err(told) => s::StreamResultResult::Error(error(told)),
        };
        s::StreamResult { result: Some(result) }
    });
    s::PipelineRespBody {
        baton: response.baton,
        base_url: response.base_url,
        results: results.collect(),
    }
    .encode_to_vec()
}

pub fn write_error(told: &Error) -> Vec<u8> {
    error(told.clone()).encode_to_vec()
}

pub fn append_cursor_response(out: &mut Vec<u8>, response: CursorResponse) {
    append(out, &s::CursorRespBody { baton: response.baton, base_url: response.base_url });
}

pub fn append_cursor_entry(out: &mut Vec<u8>, told: CursorEntry) {
    append(out, &entry(told));
}

fn append(out: &mut Vec<u8>, message: &impl Message) {
    // Encoding into a `Vec` fails for want of room only, and a `Vec` makes room.
    let _ = message.encode_length_delimited(out);
}

fn response(told: Response) -> s::ResponseOkMsgResponse {
    use s::ResponseOkMsgResponse as R;
    match told {
        Response::OpenStream => R::OpenStream(s::Empty {}),
        Response::OpenCursor => R::OpenCursor(s::Empty {}),
        Response::CloseCursor => R::CloseCursor(s::Empty {}),
        Response::FetchCursor { entries, done } => R::FetchCursor(s::FetchCursorResp {
            entries: entries.into_iter().map(entry).collect(),
            done,
        }),
        Response::Stream(told) => match told {
            StreamResponse::Close => R::CloseStream(s::Empty {}),
            StreamResponse::Execute(result) => R::Execute(execute(result)),
            StreamResponse::Batch(result) => R::Batch(batch(result)),
            StreamResponse::Sequence => R::Sequence(s::Empty {}),
            StreamResponse::Describe(result) => R::Describe(describe(result)),
            StreamResponse::StoreSql => R::StoreSql(s::Empty {}),
            StreamResponse::CloseSql => R::CloseSql(s::Empty {}),
            StreamResponse::GetAutocommit(is_autocommit) => {
                R::GetAutocommit(s::GetAutocommitResp { is_autocommit })
            }
        },
    }
}

fn stream_response(told: StreamResponse) -> s::StreamResponse {
    use s::StreamResponseResponse as R;
    let response = match told {
        StreamResponse::Close => R::Close(s::Empty {}),
        StreamResponse::Execute(result) => R::Execute(execute(result)),
        StreamResponse::Batch(result) => R::Batch(batch(result)),
        StreamResponse::Sequence => R::Sequence(s::Empty {}),
        StreamResponse::Describe(result) => R::Describe(describe(result)),
        StreamResponse::StoreSql => R::StoreSql(s::Empty {}),
        StreamResponse::CloseSql => R::CloseSql(s::Empty {}),
        StreamResponse::GetAutocommit(is_autocommit) => {
            R::GetAutocommit(s::GetAutocommitResp { is_autocommit })
        }
    };
    s::StreamResponse { response: Some(response) }
}

fn execute(result: StmtResult) -> s::ExecuteResp {
    s::ExecuteResp { result: Some(stmt_result(result)) }
}

fn batch(result: BatchResult) -> s::BatchResp {
    let present = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    let results = result.step_results.into_iter().enumerate();
    let errors = result.step_errors.into_iter().enumerate();
    s::BatchResp {
        result: Some(s::BatchResult {
            step_results: results
                .filter_map(|(index, result)| Some((present(index), stmt_result(result?))))
                .collect(),
            step_errors: errors
                .filter_map(|(index, told)| Some((present(index), error(told?))))
                .collect(),
        }),
    }
}

fn describe(result: DescribeResult) -> s::DescribeResp {
    let cols = result.cols.into_iter();
    s::DescribeResp {
        result: Some(s::DescribeResult {
            params: result.params.into_iter().map(|name| s::DescribeParam { name }).collect(),
            cols: cols
                .map(|col| s::DescribeCol { name: col.name, decltype: col.decltype })
                .collect(),
            is_explain: result.is_explain,
            is_readonly: result.is_readonly,
        }),
    }
}

fn stmt_result(result: StmtResult) -> s::StmtResult {
    s::StmtResult {
        cols: result.cols.into_iter().map(col).collect(),
        rows: result.rows.into_iter().map(row).collect(),
        affected_row_count: result.done.affected_row_count,
        last_insert_rowid: result.done.last_insert_rowid,
    }
}

fn entry(told: CursorEntry) -> s::CursorEntry {
    use s::Entry as E;
    let entry = match told {
        CursorEntry::StepBegin { step, cols } => {
            E::StepBegin(s::StepBeginEntry { step, cols: cols.into_iter().map(col).collect() })
        }
        CursorEntry::StepEnd(done) => E::StepEnd(s::StepEndEntry {
            affected_row_count: done.affected_row_count,
            last_insert_rowid: done.last_insert_rowid,
        }),
        CursorEntry::StepError { step, error: told } => {
            E::StepError(s::StepErrorEntry { step, error: Some(error(told)) })
        }
        CursorEntry::Row(values) => E::Row(row(values)),
        CursorEntry::Error(told) => E::Error(error(told)),
    };
    s::CursorEntry { entry: Some(entry) }
}

fn error(told: Error) -> s::Error {
    s::Error { message: told.message, code: Some(told.code.into_owned()) }
}

fn col(col: Col) -> s::Col {
    s::Col { name: col.name, decltype: col.decltype }
}

fn row(values: Vec<Value>) -> s::Row {
    s::Row { values: values.into_iter().map(value).collect() }
}

fn value(value: Value) -> s::Value {
    let scalar = match value {
        Value::Null => s::Scalar::Null(s::Empty {}),
        Value::Integer(integer) => s::Scalar::Integer(integer),
        Value::Float(float) => s::Scalar::Float(float),
        Value::Text(text) => s::Scalar::Text(text),
        Value::Blob(bytes) => s::Scalar::Blob(bytes),
    };
    s::Value { value: Some(scalar) }
}
