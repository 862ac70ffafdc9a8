//! What a request to one site meets: its own pages, an error page, or the version that runs.

use std::sync::Arc;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use verge_types::{Body, BoxFuture, Fault, RequestContext, Service};

use super::error_page;
use super::inner;
use super::live_reload;
use super::site::{Site, State};
use crate::failure::Failure;
use crate::terminal::failure_json;

/// Carries the code of what failed. (`verge-fault` is the gateway's, which takes it off apps'
/// answers.)
const ERROR_HEADER: &str = "x-verge-error";

pub struct Front {
    pub site: Arc<Site>,
    /// Which of the site's places this is.
    place: usize,
}

/// In which form whoever asks wants an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A browser that shows a page.
    Page,
    Json,
    /// curl, `fetch()` and the like.
    Text,
}

impl Wants {
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if verge_gateway::prefers_json(headers) {
            return Self::Json;
        }
        let html = value(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html"));
        // Frames and documents navigate; a `fetch()` that takes HTML does not.
        let navigates = value("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
        let shows = [Method::GET, Method::HEAD, Method::POST].contains(method);
        if html && navigates && shows { Self::Page } else { Self::Text }
    }
}

impl Front {
    pub fn new(site: Arc<Site>, place: usize) -> Self {
        Self { site, place }
    }
}

impl Service for Front {
    fn call(
        &self,
        request: Request<Body>,
        cx: RequestContext,
    ) -> BoxFuture<Result<Response<Body>, Fault>> {
        let state = self.site.state();
        if request.uri().path().starts_with(inner::PREFIX) {
            let site = self.site.clone();
            let request = request.map(drop);
            return Box::pin(async move { Ok(inner::respond(&site, &request, cx).await) });
        }
        let wants = Wants::of(request.method(), request.headers());
        let version = match (&state.version, &state.broken) {
            (Some(version), None) => version.clone(),
            // Scripts and assets keep working; whoever looks sees the error.
            (Some(version), Some(_)) if wants != Wants::Page => version.clone(),
            (_, Some(failure)) => {
                let response = broken(failure, &state, wants);
                return Box::pin(std::future::ready(Ok(response)));
            }
            (None, None) => {
                let fault = Fault::new(
                    "not_built",
                    verge_types::Blame::Platform,
                    503,
                    "The app is being built for the first time",
                )
                .with_retry_after(1);
                return Box::pin(std::future::ready(Err(fault)));
            }
        };
        let live = self.site.parts.live_reload;
        let asked = format!("{} {}", request.method(), request.uri());
        let answer = version.running[self.place].service.call(request, cx.clone());
        Box::pin(async move {
            // Kept until the response begins: a swap must not end what runs.
            let _version = version;
            match answer.await {
                Ok(response) if live => Ok(live_reload::add(response, state.number)),
                Ok(response) => Ok(response),
                Err(fault) => failed(fault, &asked, &state, wants, &cx),
            }
        })
    }
}

/// The answer of an app that did not build and has no earlier version, or is looked at.
fn broken(failure: &Failure, state: &State, wants: Wants) -> Response<Body> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match wants {
        Wants::Page => page(status, failure.code, error_page::build(failure, state)),
        Wants::Json => {
            let value = serde_json::json!({ "error": failure_json(failure) });
            plain(status, failure.code, "application/json", format!("{value}\n"))
        }
        Wants::Text => {
            let text = error_page::build_text(failure);
            plain(status, failure.code, "text/plain; charset=utf-8", text)
        }
    }
}

/// A fault with its story, which in development whoever asks may read.
fn failed(
    fault: Fault,
    asked: &str,
    state: &State,
    wants: Wants,
    cx: &RequestContext,
) -> Result<Response<Body>, Fault> {
    let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match (wants, &fault.detail) {
        (Wants::Page, _) => {
            page(status, fault.code, error_page::fault(&fault, asked, state, cx.id))
        }
        (Wants::Text, Some(detail)) => {
            let text = format!("{}: {}\n\n{detail}\n", fault.code, fault.message);
            plain(status, fault.code, "text/plain; charset=utf-8", text)
        }
        (Wants::Json | Wants::Text, _) => return Err(fault),
    };
    if let Some(seconds) = fault.retry_after {
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

fn page(status: StatusCode, code: &'static str, html: String) -> Response<Body> {
    plain(status, code, "text/html; charset=utf-8", html)
}

pub fn plain(
    status: StatusCode,
    code: &'static str,
    media: &'static str,
    text: String,
) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !code.is_empty() {
        headers.insert(ERROR_HEADER, HeaderValue::from_static(code));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_looked_at_gets_a_page() {
        let chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, mode, wants) in [
            (chrome, Some("navigate"), Wants::Page),
            (chrome, None, Wants::Page),
            ("text/html", Some("cors"), Wants::Text),
            ("*/*", None, Wants::Text),
            ("application/json", Some("cors"), Wants::Json),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            if let Some(mode) = mode {
                headers.insert("sec-fetch-mode", HeaderValue::from_static(mode));
            }
            assert_eq!(Wants::of(&Method::GET, &headers), wants, "{accept} {mode:?}");
        }
    }
}
