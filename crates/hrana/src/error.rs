//! What a client is told when a request fails.

use std::borrow::Cow;
use std::fmt;

use verge_types::Blame;

/// A failed request or statement. Code and message are public; nothing internal belongs here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Stable, for machines: SQLite's names (`SQLITE_CONSTRAINT`) or one of [`codes`].
    pub code: Cow<'static, str>,
    pub message: String,
    pub blame: Blame,
    /// The same request may succeed later, without anybody changing anything.
    pub retry: bool,
}

impl Error {
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        blame: Blame,
        message: impl Into<String>,
    ) -> Self {
        Self { code: code.into(), message: message.into(), blame, retry: false }
    }

    /// The client asked for something that cannot be.
    pub fn caller(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Blame::Caller, message)
    }

    /// Verge failed.
    pub fn platform(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Blame::Platform, message)
    }

    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retry = true;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// The codes that are not SQLite's. Where `libsql-server` has one for the same case, it is that.
pub mod codes {
    pub const AUTH_HEADER_MISSING: &str = "AUTH_HTTP_HEADER_MISSING";
    pub const AUTH_HEADER_INVALID: &str = "AUTH_HTTP_HEADER_INVALID";
    pub const AUTH_HEADER_SCHEME: &str = "AUTH_HTTP_HEADER_UNSUPPORTED_SCHEME";
    pub const AUTH_MISSING: &str = "AUTH_JWT_MISSING";
    pub const AUTH_INVALID: &str = "AUTH_JWT_INVALID";
    pub const AUTH_EXPIRED: &str = "AUTH_JWT_EXPIRED";
    pub const AUTH_CHANGED: &str = "AUTH_ACCESS_CHANGED";
    /// A page of a browser asks a database that wants no token.
    pub const ORIGIN: &str = "ORIGIN_FORBIDDEN";
    /// A write with a read-only token.
    pub const READ_ONLY: &str = "SQL_WRITE_BLOCKED";
    pub const SQL_AND_ID: &str = "SQL_AND_SQL_ID";
    pub const SQL_MISSING: &str = "SQL_MISSING";
    pub const SQL_ID_IN_USE: &str = "SQL_ID_IN_USE";
    pub const SQL_ID_UNKNOWN: &str = "SQL_ID_NOT_FOUND";
    pub const SQL_STORE_FULL: &str = "SQL_STORE_LIMIT";
    pub const SQL_NO_STATEMENT: &str = "SQL_NO_STATEMENT";
    pub const SQL_MANY_STATEMENTS: &str = "SQL_MANY_STATEMENTS";
    pub const ARGS_INVALID: &str = "ARGS_INVALID";
    pub const BATCH_LIMIT: &str = "BATCH_LIMIT";
    pub const BATCH_CONDITION: &str = "BATCH_COND_INVALID";
    pub const PIPELINE_LIMIT: &str = "PIPELINE_LIMIT";
    pub const RESPONSE_TOO_LARGE: &str = "RESPONSE_TOO_LARGE";
    pub const MESSAGE_TOO_LARGE: &str = "MESSAGE_TOO_LARGE";
    pub const MESSAGE_INVALID: &str = "HRANA_PROTO_ERROR";
    pub const BATON_INVALID: &str = "STREAM_BATON_INVALID";
    pub const BATON_USED: &str = "STREAM_BATON_USED";
    pub const STREAM_EXPIRED: &str = "STREAM_EXPIRED";
    pub const STREAM_UNKNOWN: &str = "STREAM_NOT_FOUND";
    pub const STREAM_CLOSED: &str = "STREAM_CLOSED";
    pub const STREAM_LIMIT: &str = "STREAM_LIMIT";
    pub const CURSOR_UNKNOWN: &str = "CURSOR_NOT_FOUND";
    pub const CURSOR_LIMIT: &str = "CURSOR_LIMIT";
    pub const CURSOR_CLOSED: &str = "CURSOR_CLOSED";
    pub const CURSOR_STALLED: &str = "CURSOR_STALLED";
    pub const TRANSACTION_TIMEOUT: &str = "TRANSACTION_TIMEOUT";
    pub const STATEMENT_TIMEOUT: &str = "STATEMENT_TIMEOUT";
    /// Foreign keys cannot be turned off in this database.
    pub const FOREIGN_KEYS_OFF: &str = "FOREIGN_KEYS_OFF_UNSUPPORTED";
    pub const CANCELLED: &str = "STREAM_CANCELLED";
}
