//! Bodies on their way in and out: counted, cut at their limit, watched.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use verge_types::{Body, BodyError, Fault, Limit};

use crate::finish::Finish;
use crate::headers::sanitize_trailers;
use crate::session::Late;
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
    /// What may still have to be told in a trailer section.
    late: Option<Box<Late>>,
    /// The body has ended; it is not asked again.
    ended: bool,
    finish: Finish,
}

impl ResponseBody {
    pub fn new(body: Body, late: Option<Box<Late>>, finish: Finish) -> Self {
        Self { body, late, ended: false, finish }
    }

    /// The end of a body without trailers of its own.
    fn end(&mut self) -> Option<Frame<Bytes>> {
        self.ended = true;
        self.finish.complete();
        let mut trailers = HeaderMap::new();
        self.late.take()?.close(&mut trailers);
        (!trailers.is_empty()).then(|| Frame::trailers(trailers))
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
        if this.ended {
            return Poll::Ready(None);
        }
        let poll = Pin::new(&mut this.body).poll_frame(cx);
        this.finish.vitals().polled_out(poll.is_pending());
        match poll {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(this.end().map(Ok)),
            Poll::Ready(Some(Ok(mut frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.finish.sent(data.len() as u64);
                } else if let Some(trailers) = frame.trailers_mut() {
                    sanitize_trailers(trailers);
                    if let Some(late) = this.late.take() {
                        late.close(trailers);
                    }
                }
                if this.is_end_stream() {
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
        self.ended || self.late.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
