//! The one shape of a failed request: who is to blame, is a retry worth it, what may be said.

use std::fmt;

use crate::Limit;

/// Who has to act for the failure to go away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The app's code.
    Guest,
    /// Whoever sent the request.
    Caller,
    /// Verge itself.
    Platform,
    /// Somebody the app or the platform asked.
    Upstream,
}

/// A failed request. `message` is public; `detail` is for the operator's log only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Stable, for machines: `cpu_limit`, `guest_exception`, …
    pub code: &'static str,
    pub blame: Blame,
    /// HTTP status of the error page.
    pub status: u16,
    /// Seconds after which the same request may succeed.
    pub retry_after: Option<u32>,
    /// One sentence that may be shown to anyone: no internals.
    pub message: String,
    /// The whole story, for the log.
    pub detail: Option<String>,
    /// The limit that was hit and its value in its own unit.
    pub limit: Option<(Limit, u64)>,
}

impl Fault {
    pub fn new(code: &'static str, blame: Blame, status: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            blame,
            status,
            retry_after: None,
            message: message.into(),
            detail: None,
            limit: None,
        }
    }

    /// The fault of a limit that was hit, `value` being the limit's setting.
    pub fn limit(limit: Limit, value: u64) -> Self {
        let spec = limit.spec();
        Self {
            code: spec.code,
            blame: spec.blame,
            status: spec.status,
            retry_after: (spec.status == 503).then_some(1),
            message: format!("{} ({} {})", spec.message, value, spec.unit.as_str()),
            detail: None,
            limit: Some((limit, value)),
        }
    }

    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match &self.detail {
            Some(detail) => write!(f, " [{detail}]"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
