//! Requests and responses of both variants, independent of their encoding.

use crate::{Batch, BatchResult, CursorEntry, DescribeResult, Error, SqlRef, Stmt, StmtResult};

/// Why bytes are no message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// What a client wants of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamRequest {
    Close,
    Execute(Stmt),
    Batch(Batch),
    Sequence(SqlRef),
    Describe(SqlRef),
    StoreSql { sql_id: i32, sql: String },
    CloseSql { sql_id: i32 },
    GetAutocommit,
}

/// The answer to a [`StreamRequest`] of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamResponse {
    Close,
    Execute(StmtResult),
    Batch(BatchResult),
    Sequence,
    Describe(DescribeResult),
    StoreSql,
    CloseSql,
    GetAutocommit(bool),
}

/// What a client sends over a WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMsg {
    Hello { jwt: Option<String> },
    Request { request_id: i32, request: Request },
}

/// What a client wants of a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    OpenStream { stream_id: i32 },
    CloseStream { stream_id: i32 },
    Execute { stream_id: i32, stmt: Stmt },
    Batch { stream_id: i32, batch: Batch },
    Sequence { stream_id: i32, sql: SqlRef },
    Describe { stream_id: i32, sql: SqlRef },
    GetAutocommit { stream_id: i32 },
    StoreSql { sql_id: i32, sql: String },
    CloseSql { sql_id: i32 },
    OpenCursor { stream_id: i32, cursor_id: i32, batch: Batch },
    CloseCursor { cursor_id: i32 },
    FetchCursor { cursor_id: i32, max_count: u32 },
}

/// What the server sends over a WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerMsg {
    HelloOk,
    HelloError(Error),
    ResponseOk { request_id: i32, response: Response },
    ResponseError { request_id: i32, error: Error },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    OpenStream,
    /// `Close` is the answer to `close_stream`.
    Stream(StreamResponse),
    OpenCursor,
    CloseCursor,
    FetchCursor {
        entries: Vec<CursorEntry>,
        done: bool,
    },
}

/// Body of a pipeline request.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineRequest {
    pub baton: Option<String>,
    pub requests: Vec<StreamRequest>,
}

/// Body of a pipeline response.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineResponse {
    pub baton: Option<String>,
    pub base_url: Option<String>,
    pub results: Vec<Result<StreamResponse, Error>>,
}

/// Body of a cursor request.
#[derive(Clone, Debug, PartialEq)]
pub struct CursorRequest {
    pub baton: Option<String>,
    pub batch: Batch,
}

/// First item of a cursor response.
#[derive(Clone, Debug, PartialEq)]
pub struct CursorResponse {
    pub baton: Option<String>,
    pub base_url: Option<String>,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/x-protobuf",
        }
    }

    pub fn read_client(self, bytes: &[u8]) -> Result<ClientMsg, Malformed> {
        match self {
            Self::Json => crate::json::read_client(bytes),
            Self::Protobuf => crate::protobuf::read_client(bytes),
        }
    }

    pub fn read_pipeline(self, bytes: &[u8]) -> Result<PipelineRequest, Malformed> {
        match self {
            Self::Json => crate::json::read_pipeline(bytes),
            Self::Protobuf => crate::protobuf::read_pipeline(bytes),
        }
    }

    pub fn read_cursor(self, bytes: &[u8]) -> Result<CursorRequest, Malformed> {
        match self {
            Self::Json => crate::json::read_cursor(bytes),
            Self::Protobuf => crate::protobuf::read_cursor(bytes),
        }
    }

    pub fn write_server(self, message: ServerMsg) -> Vec<u8> {
        match self {
            Self::Json => crate::json::write_server(&message),
            Self::Protobuf => crate::protobuf::write_server(message),
        }
    }

    pub fn write_pipeline(self, response: PipelineResponse) -> Vec<u8> {
        match self {
            Self::Json => crate::json::write_pipeline(&response),
            Self::Protobuf => crate::protobuf::write_pipeline(response),
        }
    }

    pub fn write_error(self, error: &Error) -> Vec<u8> {
        match self {
            Self::Json => crate::json::write_error(error),
            Self::Protobuf => crate::protobuf::write_error(error),
        }
    }

    /// Appends the first item of a cursor's response, with what separates items.
    pub fn append_cursor_response(self, out: &mut Vec<u8>, response: CursorResponse) {
        match self {
            Self::Json => crate::json::append_cursor_response(out, &response),
            Self::Protobuf => crate::protobuf::append_cursor_response(out, response),
        }
    }

    /// Appends an entry of a cursor's response, with what separates items.
    pub fn append_cursor_entry(self, out: &mut Vec<u8>, entry: CursorEntry) {
        match self {
            Self::Json => crate::json::append_cursor_entry(out, &entry),
            Self::Protobuf => crate::protobuf::append_cursor_entry(out, entry),
        }
    }
}
