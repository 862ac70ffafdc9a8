//! The one place where a fault becomes a response.
//!
//! Shows the code, the public message, the limit and the request id. Never shows `detail`:
//! that is for the operator's log.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use verge_types::{Blame, Body, Fault, RequestId};

/// Carries the fault's code, for machines that do not read bodies.
pub const FAULT_HEADER: HeaderName = HeaderName::from_static("verge-fault");

/// What the listener itself refuses; the codes are stable.
pub mod faults {
    use verge_telemetry::TokenRefusal;

    use super::{Blame, Fault};

    pub fn bad_request(why: &'static str) -> Fault {
        Fault::new("bad_request", Blame::Caller, 400, why)
    }

    pub fn unknown_host() -> Fault {
        Fault::new("unknown_host", Blame::Caller, 404, "No app answers at this host name")
    }

    pub fn method() -> Fault {
        Fault::new("method_not_allowed", Blame::Caller, 405, "CONNECT and TRACE are not served")
    }

    pub fn uri_too_long() -> Fault {
        Fault::new("uri_too_long", Blame::Caller, 414, "The request's path and query are too long")
    }

    pub fn headers_too_large() -> Fault {
        let why = "The request has more header fields than are accepted";
        Fault::new("headers_too_large", Blame::Caller, 431, why)
    }

    pub fn upgrade() -> Fault {
        let why = "Only `Upgrade: websocket` (version 13) is served";
        Fault::new("upgrade_not_supported", Blame::Caller, 426, why)
    }

    pub fn expectation() -> Fault {
        let why = "Only `Expect: 100-continue` is understood";
        Fault::new("expectation_failed", Blame::Caller, 417, why)
    }

    /// An `x-verge-bookmark` that is not believed.
    pub fn bookmark(refusal: TokenRefusal) -> Fault {
        let why = match refusal {
            TokenRefusal::malformed => "The bookmark in x-verge-bookmark is none",
            TokenRefusal::too_long => "The bookmark in x-verge-bookmark is too long to be one",
            TokenRefusal::forged => "The bookmark in x-verge-bookmark was not made for this app",
            TokenRefusal::expired => {
                "The bookmark in x-verge-bookmark is too old; go on without it"
            }
            TokenRefusal::too_many => "There are too many bookmarks in x-verge-bookmark",
        };
        Fault::new("bad_bookmark", Blame::Caller, 400, why)
    }

    /// The app's answer is none that can be sent.
    pub fn bad_response(why: &'static str) -> Fault {
        Fault::new("bad_response", Blame::Guest, 502, "The app's answer cannot be sent")
            .with_detail(why)
    }

    /// A bug of ours: the service panicked.
    pub fn internal(detail: String) -> Fault {
        Fault::new("internal_error", Blame::Platform, 500, "Something went wrong on our side")
            .with_detail(detail)
    }
}

/// True if the client would rather read JSON than HTML.
pub fn prefers_json(headers: &HeaderMap) -> bool {
    let mut json = 0u16;
    let mut html = 0u16;
    let values = headers.get_all(http::header::ACCEPT);
    for part in values.iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(',')) {
        let mut fields = part.split(';').map(str::trim);
        let media = fields.next().unwrap_or_default();
        let quality = fields
            .find_map(|field| field.strip_prefix("q="))
            .map_or(1.0, |q| q.parse::<f32>().unwrap_or(0.0).clamp(0.0, 1.0));
        // In thousandths, as RFC 9110 counts them.
        let quality = (quality * 1000.0) as u16;
        match media {
            "application/json" | "application/problem+json" => json = json.max(quality),
            "text/html" | "application/xhtml+xml" => html = html.max(quality),
            _ => {}
        }
    }
    json > html
}

/// The error page of a fault.
pub fn page(fault: &Fault, id: RequestId, json: bool) -> Response<Body> {
    let status = StatusCode::from_u16(fault.status)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (media, body) = if json {
        ("application/json", as_json(fault, status, id))
    } else {
        ("text/html; charset=utf-8", as_html(fault, status, id))
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(FAULT_HEADER, HeaderValue::from_static(fault.code));
    if let Some(seconds) = fault.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

fn as_json(fault: &Fault, status: StatusCode, id: RequestId) -> String {
    let mut text = String::with_capacity(256);
    text.push_str("{\"error\":{\"code\":");
    json_string(&mut text, fault.code);
    text.push_str(",\"status\":");
    text.push_str(status.as_str());
    text.push_str(",\"message\":");
    json_string(&mut text, &fault.message);
    if let Some((limit, value)) = fault.limit {
        text.push_str(",\"limit\":{\"name\":");
        json_string(&mut text, limit.spec().key);
        text.push_str(&format!(",\"value\":{value},\"unit\":"));
        json_string(&mut text, unit(limit.spec().unit));
        text.push('}');
    }
    text.push_str(&format!(",\"requestId\":\"{id}\"}}}}\n"));
    text
}

fn unit(unit: verge_types::Unit) -> &'static str {
    match unit {
        verge_types::Unit::Bytes => "bytes",
        verge_types::Unit::Milliseconds => "ms",
        verge_types::Unit::Count => "count",
    }
}

fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn as_html(fault: &Fault, status: StatusCode, id: RequestId) -> String {
    let whose = match fault.blame {
        Blame::Guest => "The app behind this address could not answer.",
        Blame::Caller => "The request could not be served as it was sent.",
        Blame::Platform => "The platform failed, not the app.",
        Blame::Upstream => "Somebody the app depends on failed.",
    };
    let limit = fault.limit.map_or_else(String::new, |(limit, value)| {
        let spec = limit.spec();
        format!("<dt>Limit</dt><dd><code>{}</code> = {value} {}</dd>", spec.key, unit(spec.unit))
    });
    let retry = fault
        .retry_after
        .map_or_else(String::new, |seconds| format!("<dt>Try again</dt><dd>in {seconds} s</dd>"));
    format!(
        include_str!("error_page.html"),
        status = status.as_str(),
        reason = status.canonical_reason().unwrap_or("Error"),
        message = escape(&fault.message),
        whose = whose,
        code = fault.code,
        limit = limit,
        retry = retry,
        id = id,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use verge_types::Limit;

    fn text(response: Response<Body>) -> String {
        match response.into_body() {
            Body::Full(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_page_names_the_limit_and_hides_the_detail() {
        let fault = Fault::limit(Limit::CpuTime, 50).with_detail("secret");
        for json in [false, true] {
            let response = page(&fault, RequestId(7), json);
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()["verge-fault"], "cpu_limit");
            assert_eq!(response.headers()["retry-after"], "1");
            let body = text(response);
            for part in ["cpu_limit", "cpu_time", "50", "0000000000000007"] {
                assert!(body.contains(part), "{part} is missing in {body}");
            }
            assert!(!body.contains("secret"));
            if json {
                let value: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert_eq!(value["error"]["limit"]["unit"], "ms");
            }
        }
    }

    #[test]
    fn messages_are_escaped_and_odd_statuses_become_500() {
        let fault = Fault::new("x", Blame::Guest, 200, "<script>\"\u{1}\\");
        let response = page(&fault, RequestId(1), false);
        assert_eq!(response.status(), 500);
        assert!(text(response).contains("&lt;script&gt;&quot;"));
        let json: serde_json::Value =
            serde_json::from_str(&text(page(&fault, RequestId(1), true))).unwrap();
        assert_eq!(json["error"]["message"], "<script>\"\u{1}\\");
    }

    #[test]
    fn json_goes_to_those_who_prefer_it() {
        for (accept, json) in [
            ("application/json", true),
            ("text/html,application/json;q=0.9,*/*", false),
            ("text/html;q=0.1, application/json", true),
            ("*/*", false),
            ("application/json;q=x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("accept", HeaderValue::from_static(accept));
            assert_eq!(prefers_json(&headers), json, "{accept}");
        }
    }
}
