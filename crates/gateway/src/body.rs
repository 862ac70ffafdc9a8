//! Bodies on their way in and out: counted, cut at their limit, watched.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use verge_types::{Body, BodyError, Fault, Limit};

use crate::finish::Finish;
use crate::headers::sanitize_trailers;
use crate::vitals::{Progress, Vitals};

/// A request body that ends with the limit's fault where it grows too large.
pub struct RequestBody {
    incoming: Incoming,
    left: u64,
    limit: u64,
    vitals: Arc<Vitals>,
    progress: Arc<Progress>,
}

impl RequestBody {
    pub fn new(
        incoming: Incoming,
        limit: u64,
        vitals: Arc<Vitals>,
        progress: Arc<Progress>,
    ) -> Self {
        Self { incoming, left: limit, limit, vitals, progress }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Pending => {
                this.vitals.body_wanted();
                Poll::Pending
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(BodyError::Transport(Box::new(error)))))
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.vitals.body_came();
                    if !data.is_empty() {
                        this.progress.made();
                    }
                    match this.left.checked_sub(data.len() as u64) {
                        Some(left) => this.left = left,
                        None => {
                            this.vitals.body_over_limit();
                            let fault = Fault::limit(Limit::RequestBody, this.limit);
                            return Poll::Ready(Some(Err(fault.into())));
                        }
                    }
                } else if let Some(trailers) = frame.trailers_mut() {
                    sanitize_trailers(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A response body as hyper sends it. When it is dropped, the request is over.
pub struct ResponseBody {
    body: Body,
    finish: Finish,
}

impl ResponseBody {
    pub fn new(body: Body, finish: Finish) -> Self {
        Self { body, finish }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.body).poll_frame(cx);
        this.finish.vitals().polled_out(poll.is_pending());
        match poll {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                this.finish.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.finish.sent(data.len() as u64);
                } else if let Some(trailers) = frame.trailers_mut() {
                    sanitize_trailers(trailers);
                }
                if this.body.is_end_stream() {
                    this.finish.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.finish.body_failed(&error);
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
