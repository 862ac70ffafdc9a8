//! `--live`: HTML pages get a script at their end that reloads them after a change.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{Response, StatusCode};
use http_body::Frame;
use verge_types::{Body, BodyError};

use super::events;

/// Adds the script to a whole, plain HTML page; anything else passes as it is.
pub fn add(response: Response<Body>, number: u64) -> Response<Body> {
    let headers = response.headers();
    let html = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|media| media.trim_start().to_ascii_lowercase().starts_with("text/html"));
    let whole = response.status() != StatusCode::PARTIAL_CONTENT
        && !headers.contains_key(CONTENT_ENCODING)
        && !response.body().is_empty();
    if !html || !whole {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    // It would say that the page with another script is the same.
    parts.headers.remove(ETAG);
    let script = Some(Bytes::from(events::script(number)));
    Response::from_parts(parts, Body::stream(Followed { body, script }))
}

/// A body, then the script, then the trailers if there are any.
struct Followed {
    body: Body,
    script: Option<Bytes>,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(None) => {
                Poll::Ready(self.script.take().map(|script| Ok(Frame::data(script))))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn text(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn only_html_gets_the_script() {
        for (media, gets) in [("text/html; charset=utf-8", true), ("text/plain", false)] {
            let mut response = Response::new(Body::from("<p>x"));
            response.headers_mut().insert(CONTENT_TYPE, media.parse().expect("a value"));
            let text = text(add(response, 7)).await;
            assert!(text.starts_with("<p>x"));
            assert_eq!(text.contains("seen=7"), gets, "{media}: {text}");
        }
    }
}
