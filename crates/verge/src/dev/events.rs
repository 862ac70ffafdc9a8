//! `/__verge/events`: tells a page that what it shows is out of date (server-sent events).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use tokio::sync::mpsc;
use verge_types::Body;

use super::site::Site;

/// The stream ends by itself before any wall time limit does it; browsers come back.
const LONGEST: Duration = Duration::from_secs(20);
/// Bound of the stream's queue; there is one message at most in practice.
const QUEUE: usize = 4;

/// The script of a page that shows state `number`.
pub fn script(number: u64) -> String {
    format!(
        "<script>new EventSource(\"/__verge/events?seen={number}\").addEventListener(\"change\", () => location.reload())</script>"
    )
}

/// A stream that says `change` once the site's state is not `seen`.
pub fn respond(site: &Site, seen: Option<u64>) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mut changes = site.changes();
    let mut stopped = site.parts.stopped.clone();
    tokio::spawn(async move {
        // A reader that went away ends the stream.
        let hello = Bytes::from_static(b"retry: 250\n\n");
        if sender.send(Ok(hello)).await.is_err() {
            return;
        }
        let seen = seen.unwrap_or(*changes.borrow());
        let changed = tokio::select! {
            changed = changes.wait_for(|number| *number != seen) => changed.is_ok(),
            _ = stopped.wait_for(|stop| *stop) => false,
            () = sender.closed() => false,
            () = tokio::time::sleep(LONGEST) => false,
        };
        if changed {
            let _ = sender.send(Ok(Bytes::from_static(b"event: change\ndata: 1\n\n"))).await;
        }
    });
    let mut response = Response::new(Body::channel(receiver));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
