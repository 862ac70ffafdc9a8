//! `/__verge/…`: what `verge dev` answers itself.
//!
//! Metrics and scheduled runs are for this machine and never for a page of another site; only
//! the events, which say nothing but "changed", are for everyone who may see the app.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Method, Request, Response, StatusCode};
use serde_json::json;
use verge_telemetry::Metrics;
use verge_types::{Body, RequestContext};

use super::events;
use super::front::{Wants, plain};
use super::site::Site;

pub const PREFIX: &str = "/__verge/";

const TEXT: &str = "text/plain; charset=utf-8";

pub async fn respond(site: &Site, request: &Request<()>, cx: RequestContext) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let path = request.uri().path().strip_prefix(PREFIX).unwrap_or_default();
    if path == "events" {
        let seen = parameter(query, "seen").and_then(|seen| seen.parse().ok());
        return events::respond(site, seen);
    }
    if !is_ours(request, &cx) {
        let text = "This is for programs on the machine that verge dev runs on.\n".to_owned();
        return plain(StatusCode::FORBIDDEN, "", TEXT, text);
    }
    match path {
        "metrics" => {
            let mut response = plain(StatusCode::OK, "", TEXT, site.parts.metrics.expose());
            response.headers_mut().insert(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static(Metrics::CONTENT_TYPE),
            );
            response
        }
        "scheduled" => scheduled(site, request, query, cx).await,
        _ => {
            let text =
                "There is /__verge/metrics, /__verge/scheduled?cron=… and /__verge/events.\n";
            plain(StatusCode::NOT_FOUND, "", TEXT, text.to_owned())
        }
    }
}

/// From this machine, and not by a web page of somebody else.
fn is_ours(request: &Request<()>, cx: &RequestContext) -> bool {
    let near = cx.client.addr.ip().to_canonical().is_loopback();
    let foreign = request
        .headers()
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site" || site == "same-site");
    near && !foreign
}

async fn scheduled(
    site: &Site,
    request: &Request<()>,
    query: &str,
    cx: RequestContext,
) -> Response<Body> {
    if ![Method::GET, Method::POST].contains(request.method()) {
        let text = "GET or POST runs the handler.\n".to_owned();
        return plain(StatusCode::METHOD_NOT_ALLOWED, "", TEXT, text);
    }
    let state = site.state();
    let Some(app) = state.version.as_ref().and_then(|version| version.app().cloned()) else {
        let text = "No version of this app with code runs.\n".to_owned();
        return plain(StatusCode::SERVICE_UNAVAILABLE, "", TEXT, text);
    };
    let cron = parameter(query, "cron")
        .or_else(|| state.config.crons.first().cloned())
        .unwrap_or_else(|| "* * * * *".to_owned());
    let time = parameter(query, "time").and_then(|time| time.parse::<f64>().ok());
    let started = std::time::Instant::now();
    let done = app.scheduled(&cron, time.unwrap_or_else(now), cx).await;
    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let json = Wants::of(request.method(), request.headers()) == Wants::Json;
    match done {
        Ok(()) if json => {
            let text = format!("{}\n", json!({ "cron": cron, "took_ms": took }));
            plain(StatusCode::OK, "", "application/json", text)
        }
        Ok(()) => plain(StatusCode::OK, "", TEXT, format!("{cron} ran in {took} ms\n")),
        Err(fault) => {
            let status = StatusCode::from_u16(fault.status);
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let detail = fault.detail.as_deref().unwrap_or_default();
            let text = format!("{}: {}\n\n{detail}\n", fault.code, fault.message);
            plain(status, fault.code, TEXT, text)
        }
    }
}

/// Milliseconds since the epoch, as JavaScript has them.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64)
}

/// A parameter of a query, with `+` and `%xx` decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let raw = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = raw.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        for (query, value) in [
            ("cron=*/5+*+*+*+*", Some("*/5 * * * *")),
            ("a=1&cron=%2A%20x", Some("* x")),
            ("cron=%", Some("%")),
            ("cron=%é", Some("%é")),
            ("crons=1", None),
            ("", None),
        ] {
            assert_eq!(parameter(query, "cron").as_deref(), value, "{query}");
        }
    }
}
