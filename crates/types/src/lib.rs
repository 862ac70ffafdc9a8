//! What every Verge crate agrees on: ids, limits, faults, and the contract between
//! whatever listens (the gateway) and whatever answers (assets, isolates).
//!
//! No I/O happens here and nothing here knows of V8, SQLite, TLS or the file system.

mod body;
mod deployment;
mod fault;
mod id;
mod limits;
mod position;
mod request;
mod service;
mod session;
mod websocket;

pub use body::{Body, BodyError, BoxError};
pub use deployment::{
    AssetsConfig, Binding, CutOff, DatabaseTarget, Deployment, HtmlHandling, Module, ModuleKind,
    NotFoundHandling, RunWorkerFirst, ServiceTarget,
};
pub use fault::{Blame, Fault};
pub use id::{AppName, DeploymentId, InvalidName, RequestId};
pub use limits::{Limit, LimitOverrideError, Limits, Unit, parse_quantity};
pub use position::{Bookmark, Coverage, DatasetId, InvalidText, PopName, Position};
pub use request::{ClientInfo, Geo, RequestContext, Scheme, TraceContext};
pub use service::{BoxFuture, Resolve, Routed, Service};
pub use session::{
    MAX_SESSION_DATASETS, MAX_TIMINGS, News, Remembered, SESSION_MAX_AGE, Session, SessionKeys,
    SessionPolicy, Timing,
};
pub use websocket::{WEBSOCKET_QUEUE, WebSocketAccept, WebSocketMessage};
