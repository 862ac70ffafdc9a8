//! The protocol's Protobuf messages, field by field as its appendix numbers them.
//!
//! Messages of the same fields are declared once: on the wire only numbers and types count.

use std::collections::BTreeMap;

// What both variants share.

#[derive(Clone, PartialEq, prost::Message)]
pub struct Error {
    #[prost(string, tag = "1")]
    pub message: String,
    #[prost(string, optional, tag = "2")]
    pub code: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Stmt {
    #[prost(string, optional, tag = "1")]
    pub sql: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub sql_id: Option<i32>,
    #[prost(message, repeated, tag = "3")]
    pub args: Vec<Value>,
    #[prost(message, repeated, tag = "4")]
    pub named_args: Vec<NamedArg>,
    #[prost(bool, optional, tag = "5")]
    pub want_rows: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NamedArg {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StmtResult {
    #[prost(message, repeated, tag = "1")]
    pub cols: Vec<Col>,
    #[prost(message, repeated, tag = "2")]
    pub rows: Vec<Row>,
    #[prost(uint64, tag = "3")]
    pub affected_row_count: u64,
    #[prost(sint64, optional, tag = "4")]
    pub last_insert_rowid: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Col {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub decltype: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Row {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Batch {
    #[prost(message, repeated, tag = "1")]
    pub steps: Vec<BatchStep>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchStep {
    #[prost(message, optional, tag = "1")]
    pub condition: Option<BatchCond>,
    #[prost(message, optional, tag = "2")]
    pub stmt: Option<Stmt>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchCond {
    #[prost(oneof = "Cond", tags = "1, 2, 3, 4, 5, 6")]
    pub cond: Option<Cond>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Cond {
    #[prost(uint32, tag = "1")]
    StepOk(u32),
    #[prost(uint32, tag = "2")]
    StepError(u32),
    #[prost(message, tag = "3")]
    Not(Box<BatchCond>),
    #[prost(message, tag = "4")]
    And(CondList),
    #[prost(message, tag = "5")]
    Or(CondList),
    #[prost(message, tag = "6")]
    IsAutocommit(Empty),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CondList {
    #[prost(message, repeated, tag = "1")]
    pub conds: Vec<BatchCond>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchResult {
    #[prost(btree_map = "uint32, message", tag = "1")]
    pub step_results: BTreeMap<u32, StmtResult>,
    #[prost(btree_map = "uint32, message", tag = "2")]
    pub step_errors: BTreeMap<u32, Error>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CursorEntry {
    #[prost(oneof = "Entry", tags = "1, 2, 3, 4, 5")]
    pub entry: Option<Entry>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Entry {
    #[prost(message, tag = "1")]
    StepBegin(StepBeginEntry),
    #[prost(message, tag = "2")]
    StepEnd(StepEndEntry),
    #[prost(message, tag = "3")]
    StepError(StepErrorEntry),
    #[prost(message, tag = "4")]
    Row(Row),
    #[prost(message, tag = "5")]
    Error(Error),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StepBeginEntry {
    #[prost(uint32, tag = "1")]
    pub step: u32,
    #[prost(message, repeated, tag = "2")]
    pub cols: Vec<Col>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StepEndEntry {
    #[prost(uint64, tag = "1")]
    pub affected_row_count: u64,
    #[prost(sint64, optional, tag = "2")]
    pub last_insert_rowid: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StepErrorEntry {
    #[prost(uint32, tag = "1")]
    pub step: u32,
    #[prost(message, optional, tag = "2")]
    pub error: Option<Error>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DescribeResult {
    #[prost(message, repeated, tag = "1")]
    pub params: Vec<DescribeParam>,
    #[prost(message, repeated, tag = "2")]
    pub cols: Vec<DescribeCol>,
    #[prost(bool, tag = "3")]
    pub is_explain: bool,
    #[prost(bool, tag = "4")]
    pub is_readonly: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DescribeParam {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DescribeCol {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, optional, tag = "2")]
    pub decltype: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    #[prost(oneof = "Scalar", tags = "1, 2, 3, 4, 5")]
    pub value: Option<Scalar>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Scalar {
    #[prost(message, tag = "1")]
    Null(Empty),
    #[prost(sint64, tag = "2")]
    Integer(i64),
    #[prost(double, tag = "3")]
    Float(f64),
    #[prost(string, tag = "4")]
    Text(String),
    #[prost(bytes = "vec", tag = "5")]
    Blob(Vec<u8>),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SqlIdReq {
    #[prost(int32, tag = "1")]
    pub sql_id: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StoreSqlReq {
    #[prost(int32, tag = "1")]
    pub sql_id: i32,
    #[prost(string, tag = "2")]
    pub sql: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecuteResp {
    #[prost(message, optional, tag = "1")]
    pub result: Option<StmtResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchResp {
    #[prost(message, optional, tag = "1")]
    pub result: Option<BatchResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DescribeResp {
    #[prost(message, optional, tag = "1")]
    pub result: Option<DescribeResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetAutocommitResp {
    #[prost(bool, tag = "1")]
    pub is_autocommit: bool,
}

// Over WebSocket.

#[derive(Clone, PartialEq, prost::Message)]
pub struct ClientMsg {
    #[prost(oneof = "ClientMsgMsg", tags = "1, 2")]
    pub msg: Option<ClientMsgMsg>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ClientMsgMsg {
    #[prost(message, tag = "1")]
    Hello(HelloMsg),
    #[prost(message, tag = "2")]
    Request(RequestMsg),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ServerMsg {
    #[prost(oneof = "ServerMsgMsg", tags = "1, 2, 3, 4")]
    pub msg: Option<ServerMsgMsg>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ServerMsgMsg {
    #[prost(message, tag = "1")]
    HelloOk(Empty),
    #[prost(message, tag = "2")]
    HelloError(HelloErrorMsg),
    #[prost(message, tag = "3")]
    ResponseOk(ResponseOkMsg),
    #[prost(message, tag = "4")]
    ResponseError(ResponseErrorMsg),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloMsg {
    #[prost(string, optional, tag = "1")]
    pub jwt: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloErrorMsg {
    #[prost(message, optional, tag = "1")]
    pub error: Option<Error>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestMsg {
    #[prost(int32, tag = "1")]
    pub request_id: i32,
    #[prost(oneof = "RequestMsgRequest", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub request: Option<RequestMsgRequest>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RequestMsgRequest {
    #[prost(message, tag = "2")]
    OpenStream(StreamIdReq),
    #[prost(message, tag = "3")]
    CloseStream(StreamIdReq),
    #[prost(message, tag = "4")]
    Execute(ExecuteReq),
    #[prost(message, tag = "5")]
    Batch(BatchReq),
    #[prost(message, tag = "6")]
    OpenCursor(OpenCursorReq),
    #[prost(message, tag = "7")]
    CloseCursor(CursorIdReq),
    #[prost(message, tag = "8")]
    FetchCursor(FetchCursorReq),
    #[prost(message, tag = "9")]
    Sequence(StreamSqlReq),
    #[prost(message, tag = "10")]
    Describe(StreamSqlReq),
    #[prost(message, tag = "11")]
    StoreSql(StoreSqlReq),
    #[prost(message, tag = "12")]
    CloseSql(SqlIdReq),
    #[prost(message, tag = "13")]
    GetAutocommit(StreamIdReq),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseOkMsg {
    #[prost(int32, tag = "1")]
    pub request_id: i32,
    #[prost(oneof = "ResponseOkMsgResponse", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub response: Option<ResponseOkMsgResponse>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ResponseOkMsgResponse {
    #[prost(message, tag = "2")]
    OpenStream(Empty),
    #[prost(message, tag = "3")]
    CloseStream(Empty),
    #[prost(message, tag = "4")]
    Execute(ExecuteResp),
    #[prost(message, tag = "5")]
    Batch(BatchResp),
    #[prost(message, tag = "6")]
    OpenCursor(Empty),
    #[prost(message, tag = "7")]
    CloseCursor(Empty),
    #[prost(message, tag = "8")]
    FetchCursor(FetchCursorResp),
    #[prost(message, tag = "9")]
    Sequence(Empty),
    #[prost(message, tag = "10")]
    Describe(DescribeResp),
    #[prost(message, tag = "11")]
    StoreSql(Empty),
    #[prost(message, tag = "12")]
    CloseSql(Empty),
    #[prost(message, tag = "13")]
    GetAutocommit(GetAutocommitResp),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseErrorMsg {
    #[prost(int32, tag = "1")]
    pub request_id: i32,
    #[prost(message, optional, tag = "2")]
    pub error: Option<Error>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamIdReq {
    #[prost(int32, tag = "1")]
    pub stream_id: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CursorIdReq {
    #[prost(int32, tag = "1")]
    pub cursor_id: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecuteReq {
    #[prost(int32, tag = "1")]
    pub stream_id: i32,
    #[prost(message, optional, tag = "2")]
    pub stmt: Option<Stmt>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchReq {
    #[prost(int32, tag = "1")]
    pub stream_id: i32,
    #[prost(message, optional, tag = "2")]
    pub batch: Option<Batch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OpenCursorReq {
    #[prost(int32, tag = "1")]
    pub stream_id: i32,
    #[prost(int32, tag = "2")]
    pub cursor_id: i32,
    #[prost(message, optional, tag = "3")]
    pub batch: Option<Batch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchCursorReq {
    #[prost(int32, tag = "1")]
    pub cursor_id: i32,
    #[prost(uint32, tag = "2")]
    pub max_count: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchCursorResp {
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<CursorEntry>,
    #[prost(bool, tag = "2")]
    pub done: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamSqlReq {
    #[prost(int32, tag = "1")]
    pub stream_id: i32,
    #[prost(string, optional, tag = "2")]
    pub sql: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub sql_id: Option<i32>,
}

// Over HTTP.

#[derive(Clone, PartialEq, prost::Message)]
pub struct PipelineReqBody {
    #[prost(string, optional, tag = "1")]
    pub baton: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub requests: Vec<StreamRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PipelineRespBody {
    #[prost(string, optional, tag = "1")]
    pub baton: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub base_url: Option<String>,
    #[prost(message, repeated, tag = "3")]
    pub results: Vec<StreamResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamResult {
    #[prost(oneof = "StreamResultResult", tags = "1, 2")]
    pub result: Option<StreamResultResult>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StreamResultResult {
    #[prost(message, tag = "1")]
    Ok(StreamResponse),
    #[prost(message, tag = "2")]
    Error(Error),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CursorReqBody {
    #[prost(string, optional, tag = "1")]
    pub baton: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub batch: Option<Batch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CursorRespBody {
    #[prost(string, optional, tag = "1")]
    pub baton: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub base_url: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamRequest {
    #[prost(oneof = "StreamRequestRequest", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub request: Option<StreamRequestRequest>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StreamRequestRequest {
    #[prost(message, tag = "1")]
    Close(Empty),
    #[prost(message, tag = "2")]
    Execute(ExecuteStreamReq),
    #[prost(message, tag = "3")]
    Batch(BatchStreamReq),
    #[prost(message, tag = "4")]
    Sequence(SqlReq),
    #[prost(message, tag = "5")]
    Describe(SqlReq),
    #[prost(message, tag = "6")]
    StoreSql(StoreSqlReq),
    #[prost(message, tag = "7")]
    CloseSql(SqlIdReq),
    #[prost(message, tag = "8")]
    GetAutocommit(Empty),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamResponse {
    #[prost(oneof = "StreamResponseResponse", tags = "1, 2, 3, 4, 5, 6, 7, 8")]
    pub response: Option<StreamResponseResponse>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StreamResponseResponse {
    #[prost(message, tag = "1")]
    Close(Empty),
    #[prost(message, tag = "2")]
    Execute(ExecuteResp),
    #[prost(message, tag = "3")]
    Batch(BatchResp),
    #[prost(message, tag = "4")]
    Sequence(Empty),
    #[prost(message, tag = "5")]
    Describe(DescribeResp),
    #[prost(message, tag = "6")]
    StoreSql(Empty),
    #[prost(message, tag = "7")]
    CloseSql(Empty),
    #[prost(message, tag = "8")]
    GetAutocommit(GetAutocommitResp),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecuteStreamReq {
    #[prost(message, optional, tag = "1")]
    pub stmt: Option<Stmt>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchStreamReq {
    #[prost(message, optional, tag = "1")]
    pub batch: Option<Batch>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SqlReq {
    #[prost(string, optional, tag = "1")]
    pub sql: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub sql_id: Option<i32>,
}
