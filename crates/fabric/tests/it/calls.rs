use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{Notify, mpsc};
use verge_fabric::{Error, Fabric, Links, Retry};
use verge_types::{Body, BodyError};

use crate::world::{Fleet, PATIENCE, echo, id, pair, plain, serve_echo};

/// A body fed by a channel.
struct Fed(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Body) {
    let (tx, rx) = mpsc::channel(1);
    (tx, Body::stream(Fed(rx)))
}

/// Every test of this list runs from the dialing and from the accepting side.
async fn both_ways() -> (Fabric, Fabric) {
    let fleet = Fleet::new("acme");
    pair(fleet.config("fra-1"), fleet.config("iad-1")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_requests_arrive_as_they_were() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        to.serve_calls("http", |_, request: Request<Body>| async move {
            let (parts, body) = request.into_parts();
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["sum"], "7");
            assert_eq!(parts.method, Method::PUT);
            assert_eq!(parts.uri, "https://app.test/a/b?c=d");
            assert_eq!(parts.headers.get_all("cookie").iter().count(), 2);
            assert_eq!(parts.headers["raw"].as_bytes(), b"\xff\x80");
            let mut response = Response::new(Body::from(collected.to_bytes()));
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            response.headers_mut().insert("set-cookie", HeaderValue::from_static("x=y"));
            response
        });
        let (feed, body) = fed();
        let mut request = Request::new(body);
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = "https://app.test/a/b?c=d".parse().unwrap();
        request.headers_mut().append("cookie", HeaderValue::from_static("a"));
        request.headers_mut().append("cookie", HeaderValue::from_static("b"));
        request.headers_mut().insert("raw", HeaderValue::from_bytes(b"\xff\x80").unwrap());
        let feeding = tokio::spawn(async move {
            for piece in ["one ", "two"] {
                feed.send(Ok(Frame::data(Bytes::from(piece)))).await.unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("sum", HeaderValue::from_static("7"));
            feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
        });
        let response = from.call(to.node(), "http", request, PATIENCE).await.unwrap();
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
        assert_eq!(response.headers()["set-cookie"], "x=y");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "one two");
        feeding.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_at_once() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        serve_echo(to);
        let (feed, body) = fed();
        let call = from.call(to.node(), "echo", Request::new(body), PATIENCE);
        let mut answer = call.await.unwrap().into_body();
        for round in 0..5u8 {
            feed.send(Ok(Frame::data(Bytes::from(vec![round; 10])))).await.unwrap();
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), vec![round; 10]);
        }
        drop(feed);
        assert!(answer.frame().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_whole() {
    let (dialer, acceptor) = both_ways().await;
    let large: Bytes = (0..20_000_000u32).map(|i| (i >> 7) as u8).collect();
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        serve_echo(to);
        let request = Request::new(Body::from(large.clone()));
        let answer = from.call(to.node(), "echo", request, PATIENCE).await.unwrap();
        let seen = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(seen == large);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_come_before_the_request_was_read() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        to.serve_calls("no", |_, _request: Request<Body>| async move {
            let mut response = Response::new(Body::from("too much"));
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            response
        });
        let feeding = |size: usize| {
            let body = StreamBody::new(Endless(size));
            Request::new(Body::stream(body))
        };
        for size in [1, 100_000] {
            let answer = from.call(to.node(), "no", feeding(size), PATIENCE).await.unwrap();
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "too much");
        }
    }
}

struct Endless(usize);

impl futures_core::Stream for Endless {
    type Item = Result<Frame<Bytes>, BodyError>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; self.0])))))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_is_never_taken_for_whole() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        let (saw, mut seen) = mpsc::channel(1);
        to.serve_calls("up", move |_, request: Request<Body>| {
            let saw = saw.clone();
            async move {
                saw.send(request.into_body().collect().await.is_err()).await.unwrap();
                Response::new(Body::Empty)
            }
        });
        let (feed, body) = fed();
        let (target, from_clone) = (to.node().clone(), from.clone());
        let call = tokio::spawn(async move {
            from_clone.call(&target, "up", Request::new(body), PATIENCE).await
        });
        feed.send(Ok(Frame::data(Bytes::from("begin")))).await.unwrap();
        feed.send(Err(BodyError::Transport("the client left".into()))).await.unwrap();
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.retry(), Retry::MaybeDone, "{error}");
        // The handler was dropped or saw the error; it never saw a whole body.
        if let Ok(Some(failed)) =
            tokio::time::timeout(Duration::from_millis(500), seen.recv()).await
        {
            assert!(failed);
        }

        to.serve_calls("down", |_, _| async {
            let (feed, body) = fed();
            tokio::spawn(async move {
                feed.send(Ok(Frame::data(Bytes::from("begin")))).await.unwrap();
                let _ = feed.send(Err(BodyError::Transport("the disk broke".into()))).await;
            });
            Response::new(body)
        });
        let request = Request::new(Body::Empty);
        let answer = from.call(to.node(), "down", request, PATIENCE).await.unwrap();
        assert!(answer.into_body().collect().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_gives_up_stops_the_handler() {
    struct Gone(Arc<Notify>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        let (begun, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begin, leave) = (begun.clone(), gone.clone());
        to.serve_calls("slow", move |_, _| {
            let guard = Gone(leave.clone());
            begin.notify_one();
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        });
        let request = Request::new(Body::Empty);
        let error =
            from.call(to.node(), "slow", request, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, Error::Deadline { sent: true, .. }), "{error}");
        assert_eq!(error.fault().status, 504);
        begun.notified().await;
        tokio::time::timeout(PATIENCE, gone.notified()).await.expect("the handler is dropped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_at_once_than_channels_are_parked() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        serve_echo(to);
        let calls: Vec<_> = (0..600)
            .map(|index| {
                let (from, to) = (from.clone(), to.node().clone());
                tokio::spawn(async move { echo(&from, &to, &index.to_string()).await })
            })
            .collect();
        for (index, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap().unwrap(), index.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_is_said_and_nothing_was_begun() {
    let links = Links::new(1);
    let mut small = plain("fra-1", &links);
    small.limits.max_channels = 2;
    let (dialer, acceptor) = pair(small, plain("iad-1", &links)).await;
    acceptor.serve_calls("hold", |_, _| std::future::pending::<Response<Body>>());
    serve_echo(&acceptor);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let (from, to) = (dialer.clone(), acceptor.node().clone());
            let hold =
                async move { from.call(&to, "hold", Request::new(Body::Empty), PATIENCE).await };
            tokio::spawn(hold)
        })
        .collect();
    while acceptor.metrics().calls_served < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let request = Request::new(Body::Empty);
    let error = dialer
        .call(acceptor.node(), "echo", request, Duration::from_millis(200))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Busy { .. }) && error.retry() == Retry::Safe, "{error}");
    held.iter().for_each(tokio::task::JoinHandle::abort);
    assert_eq!(echo(&dialer, acceptor.node(), "room again").await.unwrap(), "room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_what_is_wrong() {
    let (dialer, acceptor) = both_ways().await;
    let call = |to, name| dialer.call(to, name, Request::new(Body::Empty), PATIENCE);
    let unknown = call(acceptor.node(), "nobody").await.unwrap_err();
    assert_eq!(unknown.to_string(), "iad-1 does not serve `nobody`");
    let stranger = id("xxx-1");
    assert!(matches!(call(&stranger, "x").await, Err(Error::UnknownNode(_))));
    assert!(matches!(call(dialer.node(), "x").await, Err(Error::Myself(_))));
    let fault = unknown.fault();
    assert!(!fault.message.contains("iad-1"), "nodes are not named in public: {}", fault.message);
    // The call after a refused one works.
    serve_echo(&acceptor);
    assert_eq!(echo(&dialer, acceptor.node(), "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_fails_its_call_only() {
    let (dialer, acceptor) = both_ways().await;
    acceptor.serve_calls("bad", |_, _| async { panic!("on purpose, for the test") });
    serve_echo(&acceptor);
    let request = Request::new(Body::Empty);
    let error = dialer.call(acceptor.node(), "bad", request, PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Reset(_)), "{error}");
    assert_eq!(echo(&dialer, acceptor.node(), "x").await.unwrap(), "x");
}
