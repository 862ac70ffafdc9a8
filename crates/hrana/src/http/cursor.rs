//! `POST …/cursor`: a batch whose results stream out as they come.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use tokio::time::Duration;
use verge_types::{Body, BodyError};

use super::streams::{keep, take};
use crate::rows::CursorQueue;
use crate::service::{Failure, Shared, respond_with};
use crate::{Access, CursorEntry, CursorResponse, Encoding, Error, codes};

/// How long a cursor may be read, beyond the stream's idle time, until its baton expires.
const LONGEST_CURSOR: Duration = Duration::from_secs(3600);

pub fn answer_cursor(
    shared: &Arc<Shared>,
    encoding: Encoding,
    access: Access,
    body: &[u8],
) -> Result<Response<Body>, Failure> {
    let request = encoding
        .read_cursor(body)
        .map_err(|malformed| Error::caller(codes::MESSAGE_INVALID, malformed.to_string()))?;
    let stream = take(shared, request.baton.as_deref(), access)?;
    let queue = CursorQueue::new(&shared.limits);
    match stream.stored.steps(request.batch) {
        Ok(steps) => {
            let at_queue = Arc::clone(&queue);
            let reply = Box::new(move |begun: Result<_, Error>| -> ReplyFuture {
                if let Err(error) = begun {
                    at_queue.push(CursorEntry::Error(error));
                }
                Box::pin(std::future::ready(()))
            });
            if let Err((_, error)) = stream.handle.cursor(steps, Arc::clone(&queue), reply) {
                queue.push(CursorEntry::Error(error));
                queue.finish();
            }
        }
        Err(error) => {
            queue.push(CursorEntry::Error(error));
            queue.finish();
        }
    }
    // The client has the baton before the batch ends; a request that comes too early waits in
    // the stream's queue.
    let baton = Some(keep(shared, stream, LONGEST_CURSOR));
    let mut first = Vec::new();
    let head = CursorResponse { baton, base_url: shared.base_url.clone() };
    encoding.append_cursor_response(&mut first, head);
    let max_count = shared.limits.fetch_entries;
    let body = CursorBody {
        first: Some(first),
        next: Some(fetch(Arc::clone(&queue), max_count)),
        queue,
        encoding,
        max_count,
    };
    let content_type = match encoding {
        Encoding::Json => "application/x-ndjson",
        Encoding::Protobuf => "application/x-protobuf",
    };
    Ok(respond_with(StatusCode::OK, content_type, Body::stream(body)))
}

type ReplyFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
type Fetched = Pin<Box<dyn Future<Output = (Vec<CursorEntry>, bool)> + Send>>;

fn fetch(queue: Arc<CursorQueue>, max_count: usize) -> Fetched {
    Box::pin(async move { queue.fetch(max_count).await })
}

/// Takes from the cursor only what the client takes. Dropping closes the cursor.
struct CursorBody {
    first: Option<Vec<u8>>,
    /// `None` after the end.
    next: Option<Fetched>,
    queue: Arc<CursorQueue>,
    encoding: Encoding,
    max_count: usize,
}

impl http_body::Body for CursorBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first.into()))));
        }
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let Poll::Ready((entries, done)) = next.as_mut().poll(cx) else { return Poll::Pending };
        self.next = (!done).then(|| fetch(Arc::clone(&self.queue), self.max_count));
        if entries.is_empty() {
            return Poll::Ready(None);
        }
        let mut bytes = Vec::with_capacity(64 * entries.len());
        for entry in entries {
            self.encoding.append_cursor_entry(&mut bytes, entry);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
    }
}

impl Drop for CursorBody {
    fn drop(&mut self) {
        self.queue.stop(crate::websocket::closed());
    }
}
