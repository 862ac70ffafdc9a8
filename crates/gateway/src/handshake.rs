//! Upgrade requests: WebSocket over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441), nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};
use verge_types::{Body, Fault};

use crate::headers::has_token;
use crate::respond::faults;

/// RFC 6455, section 1.3.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// A client's wish to speak WebSocket, which the app may accept.
pub struct Offer {
    pub on_upgrade: OnUpgrade,
    /// What proves to an HTTP/1.1 client that we understood; HTTP/2 needs no proof.
    accept: Option<HeaderValue>,
}

impl Offer {
    /// Takes the offer out of an upgrade request, which looks the same to the app afterwards
    /// whichever protocol it came over.
    ///
    /// `Upgrade: h2c` is the one other upgrade that common clients send unasked (curl, the
    /// JDK). RFC 9110 lets a server ignore it; the field is removed and no tunnel opens.
    pub fn take(request: &mut Request<Incoming>) -> Result<Option<Self>, Fault> {
        if let Some(protocol) = request.extensions().get::<Protocol>() {
            if protocol.as_str() != "websocket" || !is_version_13(request) {
                return Err(faults::upgrade());
            }
            let on_upgrade = hyper::upgrade::on(&mut *request);
            request.extensions_mut().remove::<Protocol>();
            *request.method_mut() = Method::GET;
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            return Ok(Some(Self { on_upgrade, accept: None }));
        }
        if request.method() == Method::CONNECT || request.method() == Method::TRACE {
            return Err(faults::method());
        }
        let mut wanted = request.headers().get_all(UPGRADE).iter();
        let (first, more) = (wanted.next(), wanted.next().is_some());
        let wants = |name: &[u8]| {
            !more && first.is_some_and(|given| given.as_bytes().eq_ignore_ascii_case(name))
        };
        if wants(b"h2c") {
            request.headers_mut().remove(UPGRADE);
            request.headers_mut().remove(HTTP2_SETTINGS);
            return Ok(None);
        }
        let fits = wants(b"websocket")
            && request.version() == Version::HTTP_11
            && request.method() == Method::GET
            && has_token(request.headers(), &CONNECTION, "upgrade")
            && is_version_13(request);
        let key = request.headers().get(SEC_WEBSOCKET_KEY).filter(|_| fits);
        let accept =
            key.and_then(|key| accept_value(key.as_bytes())).ok_or_else(faults::upgrade)?;
        let on_upgrade = hyper::upgrade::on(request);
        Ok(Some(Self { on_upgrade, accept: Some(accept) }))
    }

    /// Turns the app's `101` into the one its protocol needs.
    pub fn confirm(&self, response: &mut Response<Body>) {
        *response.body_mut() = Body::Empty;
        // We speak none, whatever the app says.
        response.headers_mut().remove(SEC_WEBSOCKET_EXTENSIONS);
        match &self.accept {
            Some(accept) => {
                let headers = response.headers_mut();
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept.clone());
            }
            None => *response.status_mut() = StatusCode::OK,
        }
    }
}

fn is_version_13(request: &Request<Incoming>) -> bool {
    let version = request.headers().get(SEC_WEBSOCKET_VERSION);
    version.is_some_and(|version| version.as_bytes() == b"13")
}

/// `None` unless the key is sixteen bytes in base64.
fn accept_value(key: &[u8]) -> Option<HeaderValue> {
    if BASE64.decode(key).ok()?.len() != 16 {
        return None;
    }
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(ACCEPT_GUID);
    HeaderValue::try_from(BASE64.encode(hash.finalize())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        let accept = accept_value(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for bad in ["", "x", "dGhlIHNhbXBsZQ=="] {
            assert!(accept_value(bad.as_bytes()).is_none());
        }
    }
}
