//! Writes what clients read, straight into bytes.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use crate::{
    BatchResult, Col, CursorEntry, CursorResponse, DescribeResult, Done, Error, PipelineResponse,
    Response, ServerMsg, StmtResult, StreamResponse, Value,
};

pub fn write_server(message: &ServerMsg) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match message {
        ServerMsg::HelloOk => raw(&mut out, r#"{"type":"hello_ok"}"#),
        ServerMsg::HelloError(told) => {
            raw(&mut out, r#"{"type":"hello_error","error":"#);
            error(&mut out, told);
            raw(&mut out, "}");
        }
        ServerMsg::ResponseOk { request_id, response: told } => {
            raw(&mut out, r#"{"type":"response_ok","request_id":"#);
            number(&mut out, request_id);
            raw(&mut out, r#","response":"#);
            response(&mut out, told);
            raw(&mut out, "}");
        }
        ServerMsg::ResponseError { request_id, error: told } => {
            raw(&mut out, r#"{"type":"response_error","request_id":"#);
            number(&mut out, request_id);
            raw(&mut out, r#","error":"#);
            error(&mut out, told);
            raw(&mut out, "}");
        }
    }
    out
}

pub fn write_pipeline(response: &PipelineResponse) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    raw(&mut out, r#"{"baton":"#);
    optional(&mut out, response.baton.as_deref());
    raw(&mut out, r#","base_url":"#);
    optional(&mut out, response.base_url.as_deref());
    raw(&mut out, r#","results":"#);
    list(&mut out, &response.results, |out, result| {
        match result {
            Ok(told) => {
                raw(out, r#"{"type":"ok","response":"#);
                stream_response(out, told, "close");
            }
            Err(told) => {
                raw(out, r#"{"type":"error","error":"#);
                error(out, told);
            }
        }
        raw(out, "}");
    });
    raw(&mut out, "}");
    out
}

pub fn write_error(told: &Error) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    error(&mut out, told);
    out
}

pub fn append_cursor_response(out: &mut Vec<u8>, response: &CursorResponse) {
    raw(out, r#"{"baton":"#);
    optional(out, response.baton.as_deref());
    raw(out, r#","base_url":"#);
    optional(out, response.base_url.as_deref());
    raw(out, "}\n");
}

pub fn append_cursor_entry(out: &mut Vec<u8>, told: &CursorEntry) {
    entry(out, told);
    raw(out, "\n");
}

fn response(out: &mut Vec<u8>, told: &Response) {
    match told {
        Response::OpenStream => raw(out, r#"{"type":"open_stream"}"#),
        Response::Stream(told) => stream_response(out, told, "close_stream"),
        Response::OpenCursor => raw(out, r#"{"type":"open_cursor"}"#),
        Response::CloseCursor => raw(out, r#"{"type":"close_cursor"}"#),
        Response::FetchCursor { entries, done } => {
            raw(out, r#"{"type":"fetch_cursor","entries":"#);
            list(out, entries, entry);
            raw(out, r#","done":"#);
            number(out, done);
            raw(out, "}");
        }
    }
}

/// `close` is what closing is called: the two variants differ.
fn stream_response(out: &mut Vec<u8>, told: &StreamResponse, close: &str) {
    let kind = match told {
        StreamResponse::Close => close,
        StreamResponse::Execute(_) => "execute",
        StreamResponse::Batch(_) => "batch",
        StreamResponse::Sequence => "sequence",
        StreamResponse::Describe(_) => "describe",
        StreamResponse::StoreSql => "store_sql",
        StreamResponse::CloseSql => "close_sql",
        StreamResponse::GetAutocommit(_) => "get_autocommit",
    };
    raw(out, r#"{"type":""#);
    raw(out, kind);
    raw(out, r#"""#);
    match told {
        StreamResponse::Execute(result) => {
            raw(out, r#","result":"#);
            stmt_result(out, result);
        }
        StreamResponse::Batch(result) => {
            raw(out, r#","result":"#);
            batch_result(out, result);
        }
        StreamResponse::Describe(result) => {
            raw(out, r#","result":"#);
            describe_result(out, result);
        }
        StreamResponse::GetAutocommit(autocommit) => {
            raw(out, r#","is_autocommit":"#);
            number(out, autocommit);
        }
        _ => {}
    }
    raw(out, "}");
}

fn stmt_result(out: &mut Vec<u8>, result: &StmtResult) {
    raw(out, r#"{"cols":"#);
    list(out, &result.cols, col);
    raw(out, r#","rows":"#);
    list(out, &result.rows, |out, row| list(out, row, value));
    raw(out, ",");
    done(out, &result.done);
    raw(out, "}");
}

/// The fields, without braces.
fn done(out: &mut Vec<u8>, done: &Done) {
    raw(out, r#""affected_row_count":"#);
    number(out, &done.affected_row_count);
    raw(out, r#","last_insert_rowid":"#);
    match done.last_insert_rowid {
        None => raw(out, "null"),
        Some(rowid) => quoted(out, &rowid),
    }
    raw(out, r#","rows_read":"#);
    number(out, &done.rows_read);
    raw(out, r#","rows_written":"#);
    number(out, &done.rows_written);
    raw(out, r#","query_duration_ms":"#);
    float(out, done.duration_ms);
}

fn batch_result(out: &mut Vec<u8>, result: &BatchResult) {
    raw(out, r#"{"step_results":"#);
    list(out, &result.step_results, |out, result| match result {
        None => raw(out, "null"),
        Some(result) => stmt_result(out, result),
    });
    raw(out, r#","step_errors":"#);
    list(out, &result.step_errors, |out, told| match told {
        None => raw(out, "null"),
        Some(told) => error(out, told),
    });
    raw(out, "}");
}

fn describe_result(out: &mut Vec<u8>, result: &DescribeResult) {
    raw(out, r#"{"params":"#);
    list(out, &result.params, |out, name| {
        raw(out, r#"{"name":"#);
        optional(out, name.as_deref());
        raw(out, "}");
    });
    raw(out, r#","cols":"#);
    list(out, &result.cols, |out, col| {
        raw(out, r#"{"name":"#);
        text(out, &col.name);
        raw(out, r#","decltype":"#);
        optional(out, col.decltype.as_deref());
        raw(out, "}");
    });
    raw(out, r#","is_explain":"#);
    number(out, &result.is_explain);
    raw(out, r#","is_readonly":"#);
    number(out, &result.is_readonly);
    raw(out, "}");
}

fn entry(out: &mut Vec<u8>, entry: &CursorEntry) {
    match entry {
        CursorEntry::StepBegin { step, cols } => {
            raw(out, r#"{"type":"step_begin","step":"#);
            number(out, step);
            raw(out, r#","cols":"#);
            list(out, cols, col);
        }
        CursorEntry::StepEnd(told) => {
            raw(out, r#"{"type":"step_end","#);
            done(out, told);
        }
        CursorEntry::StepError { step, error: told } => {
            raw(out, r#"{"type":"step_error","step":"#);
            number(out, step);
            raw(out, r#","error":"#);
            error(out, told);
        }
        CursorEntry::Row(row) => {
            raw(out, r#"{"type":"row","row":"#);
            list(out, row, value);
        }
        CursorEntry::Error(told) => {
            raw(out, r#"{"type":"error","error":"#);
            error(out, told);
        }
    }
    raw(out, "}");
}

fn error(out: &mut Vec<u8>, error: &Error) {
    raw(out, r#"{"message":"#);
    text(out, &error.message);
    raw(out, r#","code":"#);
    text(out, &error.code);
    raw(out, "}");
}

fn col(out: &mut Vec<u8>, col: &Col) {
    raw(out, r#"{"name":"#);
    optional(out, col.name.as_deref());
    raw(out, r#","decltype":"#);
    optional(out, col.decltype.as_deref());
    raw(out, "}");
}

fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => raw(out, r#"{"type":"null"}"#),
        Value::Integer(integer) => {
            raw(out, r#"{"type":"integer","value":"#);
            quoted(out, integer);
            raw(out, "}");
        }
        Value::Float(told) => {
            raw(out, r#"{"type":"float","value":"#);
            float(out, *told);
            raw(out, "}");
        }
        Value::Text(told) => {
            raw(out, r#"{"type":"text","value":"#);
            text(out, told);
            raw(out, "}");
        }
        Value::Blob(bytes) => {
            raw(out, r#"{"type":"blob","base64":""#);
            let start = out.len();
            // Four characters for three bytes, rounded up: always enough.
            out.resize(start + bytes.len().div_ceil(3) * 4, 0);
            let written = BASE64.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
            out.truncate(start + written);
            raw(out, r#""}"#);
        }
    }
}

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    raw(out, "[");
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            raw(out, ",");
        }
        write(out, item);
    }
    raw(out, "]");
}

fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// A number or a boolean. (Writing into a `Vec` cannot fail, here and below.)
fn number(out: &mut Vec<u8>, number: &impl std::fmt::Display) {
    let _ = write!(out, "{number}");
}

fn quoted(out: &mut Vec<u8>, number: &i64) {
    let _ = write!(out, "\"{number}\"");
}

/// JSON has no infinity, but a number that is too large is read as one, also by JavaScript.
fn float(out: &mut Vec<u8>, float: f64) {
    if float.is_nan() {
        raw(out, "null");
    } else if float.is_infinite() {
        raw(out, if float > 0.0 { "1e999" } else { "-1e999" });
    } else {
        let _ = serde_json::to_writer(out, &float);
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

fn optional(out: &mut Vec<u8>, told: Option<&str>) {
    match told {
        None => raw(out, "null"),
        Some(told) => text(out, told),
    }
}
