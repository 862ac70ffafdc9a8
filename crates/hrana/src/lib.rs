//! The Hrana protocol, versions 1 to 3, server side: what libSQL clients speak over HTTP and
//! WebSocket, in JSON and Protobuf.
//!
//! [`HranaService`] answers for one database. It is a [`verge_types::Service`], so whatever
//! listens can carry it. Behind it stand a [`Backend`] (the database) and [`Tokens`] (who may).
//!
//! Inside, from the bytes inwards: `json` and `protobuf` read and write messages; `session` (pure)
//! knows what a WebSocket's messages mean and `websocket` drives it; `http` ties requests to
//! streams by batons; `stream` owns a connection and its deadlines; `batch` (pure) decides
//! which step of a batch runs. Every limit is in [`limits`].

mod backend;
mod batch;
mod baton;
mod control;
mod database;
mod error;
mod http;
mod json;
pub mod limits;
mod message;
mod protobuf;
mod rows;
mod service;
mod session;
mod sql_text;
mod sqlite_codes;
mod statement;
mod stored_sql;
mod stream;
mod tokens;
mod websocket;

pub use backend::{Answer, Backend, Connection, Interrupt, Transaction};
pub use batch::{Batch, BatchCond, BatchResult, BatchRun, BatchStep, CursorEntry, Outcome};
pub use control::Control;
pub use database::DatabaseBackend;
pub use error::{Error, codes};
pub use limits::Limits;
pub use message::{
    ClientMsg, CursorRequest, CursorResponse, Encoding, Malformed, PipelineRequest,
    PipelineResponse, Request, Response, ServerMsg, StreamRequest, StreamResponse,
};
pub use rows::Rows;
pub use service::{HranaConfig, HranaService};
pub use session::{Effect, Session, close};
pub use sqlite_codes::sqlite_code;
pub use statement::{
    Col, DescribeCol, DescribeResult, Done, NamedArg, SqlRef, Statement, Stmt, StmtResult, Value,
};
pub use stored_sql::{Step, Work};
pub use tokens::{Access, Open, TokenList, Tokens};
