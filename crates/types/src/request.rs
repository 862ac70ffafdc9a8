//! What is known of a request beside its bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{RequestId, Session};

/// `http` or `https`, as the client spoke to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// W3C Trace Context of the request: ours, with the caller's as parent if it sent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: u128,
    /// The span of this request at this node.
    pub span_id: u64,
    /// The caller's span, if any.
    pub parent_id: Option<u64>,
    pub sampled: bool,
}

impl TraceContext {
    /// The header value to hand on: `00-<trace>-<span>-<flags>`.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Where the client seems to be. Empty strings are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Geo {
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// AF, AN, AS, EU, NA, OC or SA.
    pub continent: String,
    pub city: String,
    pub region: String,
    pub region_code: String,
    pub postal_code: String,
    pub latitude: String,
    pub longitude: String,
    /// IANA zone name.
    pub timezone: String,
    pub asn: u32,
    pub as_organization: String,
    /// The PoP that answers, as a three-letter code.
    pub colo: String,
}

/// The connection a request came over.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientInfo {
    pub addr: SocketAddr,
    pub scheme: Scheme,
    /// "HTTP/1.1" or "HTTP/2".
    pub http_protocol: &'static str,
    /// "TLSv1.3" and the like; empty in clear text.
    pub tls_version: &'static str,
    /// Empty in clear text.
    pub tls_cipher: &'static str,
}

impl ClientInfo {
    /// Sets the fields in which apps read who the client is, in place of what was there:
    /// `x-forwarded-for`, `x-real-ip` and `cf-connecting-ip`, `x-forwarded-proto`.
    pub fn describe(&self, headers: &mut HeaderMap) {
        // An IPv4 client of an IPv6 socket is told as what it is.
        let ip = HeaderValue::try_from(self.addr.ip().to_canonical().to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        headers.insert(HeaderName::from_static("x-forwarded-for"), ip.clone());
        headers.insert(
            HeaderName::from_static("x-forwarded-proto"),
            HeaderValue::from_static(self.scheme.as_str()),
        );
        headers.insert(HeaderName::from_static("x-real-ip"), ip.clone());
        headers.insert(HeaderName::from_static("cf-connecting-ip"), ip);
    }
}

/// Everything a service may want to know of a request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub id: RequestId,
    pub client: Arc<ClientInfo>,
    pub geo: Arc<Geo>,
    pub trace: TraceContext,
    /// What the client has written and read before; lives as long as its request or WebSocket.
    pub session: Session,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_reads_of_its_client_what_the_platform_says() {
        let client = ClientInfo {
            addr: SocketAddr::new("::ffff:9.9.9.9".parse().unwrap(), 1),
            scheme: Scheme::Https,
            http_protocol: "HTTP/1.1",
            tls_version: "",
            tls_cipher: "",
        };
        let mut headers = HeaderMap::new();
        headers.append("x-real-ip", HeaderValue::from_static("1.1.1.1"));
        client.describe(&mut headers);
        for name in ["x-forwarded-for", "x-real-ip", "cf-connecting-ip"] {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), ["9.9.9.9"], "{name}");
        }
        assert_eq!(headers["x-forwarded-proto"], "https");
    }
}
