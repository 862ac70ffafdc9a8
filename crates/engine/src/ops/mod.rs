//! Verge's own ops, by what they serve.

pub mod digest;
pub mod html_rewriter;
pub mod log;
pub mod modules;
pub mod outbound;
pub mod request;
pub mod respond;
pub mod services;
pub mod sql;
pub mod sql_transaction;
pub mod unavailable;
pub mod websocket;

use std::sync::Arc;

use deno_core::OpState;

use crate::{Exchanges, Host};

/// The isolate's exchanges. Present from its making on.
fn exchanges(state: &mut OpState) -> &mut Exchanges {
    state.borrow_mut::<Exchanges>()
}

/// The node as this isolate sees it; absent until an app has claimed the isolate.
fn host(state: &OpState) -> Option<&Arc<Host>> {
    state.try_borrow::<Arc<Host>>()
}

/// What ops throw.
#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub enum OpError {
    #[class(type)]
    #[error("The request is over: {0} can no longer be read")]
    RequestOver(&'static str),
    #[class(type)]
    #[error("`{0}` is no header name")]
    HeaderName(String),
    #[class(type)]
    #[error("the value of header `{0}` has a character that cannot be sent")]
    HeaderValue(String),
    #[class(type)]
    #[error("{0} is no status code of a response")]
    Status(u16),
    #[class("VergeLimit")]
    #[error("{code}: {message}")]
    Limit { code: &'static str, message: String },
    #[class(generic)]
    #[error("{0}")]
    Service(String),
    #[class(type)]
    #[error("{0}")]
    Type(String),
    #[class(inherit)]
    #[error(transparent)]
    Resource(#[from] deno_core::error::ResourceError),
}

impl OpError {
    fn limit(limit: verge_types::Limit, value: u64) -> Self {
        let fault = verge_types::Fault::limit(limit, value);
        Self::Limit { code: fault.code, message: fault.message }
    }
}
