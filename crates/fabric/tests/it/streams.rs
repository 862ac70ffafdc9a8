use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::sync::mpsc;
use verge_fabric::{Error, Fabric, Links, MessageStream, Peer};

use crate::world::{Fleet, PATIENCE, echo, pair, plain, serve_echo};

async fn both_ways() -> (Fabric, Fabric) {
    let fleet = Fleet::new("acme");
    pair(fleet.config("fra-1"), fleet.config("iad-1")).await
}

/// Streams of this name come out of the receiver.
fn serve(fabric: &Fabric, name: &str) -> mpsc::Receiver<(Peer, HeaderMap, MessageStream)> {
    let (give, take) = mpsc::channel(8);
    fabric.serve_streams(name, move |from, headers, stream| {
        let give = give.clone();
        async move { give.send((from, headers, stream)).await.unwrap() }
    });
    take
}

async fn open(from: &Fabric, to: &Fabric, name: &str) -> MessageStream {
    from.open_stream(to.node(), name, HeaderMap::new(), PATIENCE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_go_both_ways_and_end_cleanly() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        let mut opened = serve(to, "log");
        let mut headers = HeaderMap::new();
        headers.insert("from", HeaderValue::from_static("3/17"));
        let near = from.open_stream(to.node(), "log", headers, PATIENCE).await.unwrap();
        let (peer, headers, far) = opened.recv().await.unwrap();
        assert_eq!((peer, &headers["from"]), (from.peer(), &HeaderValue::from_static("3/17")));
        assert_eq!((near.node(), far.node()), (to.node(), from.node()));
        let (mut tx, mut rx) = near.split();
        let (mut far_tx, mut far_rx) = far.split();
        for size in [0, 1, 4, 16_380, 16_381, 100_000, 3_000_000] {
            let message = Bytes::from(vec![7; size]);
            tx.send(message.clone()).await.unwrap();
            assert!(far_rx.recv().await.unwrap().unwrap() == message);
            far_tx.send(message.clone()).await.unwrap();
            assert!(rx.recv().await.unwrap().unwrap() == message);
        }
        let _near = tx.finish().unwrap();
        assert_eq!(far_rx.recv().await.unwrap(), None);
        far_tx.send(Bytes::from("last")).await.unwrap();
        let _far = far_tx.finish().unwrap();
        assert_eq!(rx.recv().await.unwrap().unwrap(), "last");
        assert_eq!(rx.recv().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_reader_holds_bounded_memory_and_nobody_else() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        serve_echo(to);
        let mut opened = serve(to, "log");
        let stream = open(from, to, "log").await;
        let (_, _, mut far) = opened.recv().await.unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let sending = tokio::spawn(async move {
            let (mut tx, mut rx) = stream.split();
            for index in 0..1000u32 {
                let mut message = vec![0; 100_000];
                message[..4].copy_from_slice(&index.to_be_bytes());
                tx.send(message.into()).await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let _finished = tx.finish().unwrap();
            assert_eq!(rx.recv().await.unwrap(), None);
        });
        // It stops by itself: window (4 MiB), send buffer (1 MiB), one message.
        let mut before = usize::MAX;
        while before != sent.load(Ordering::SeqCst) {
            before = sent.load(Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(before <= (5 << 20) / 100_000 + 2, "{before} messages under way");
        // Others of the same connection are not held up.
        assert_eq!(echo(from, to.node(), "free").await.unwrap(), "free");
        assert!(from.members().borrow().is_up(to.node()), "heartbeats go on");
        for index in 0..1000u32 {
            let message = far.recv().await.unwrap().unwrap();
            assert_eq!(message[..4], index.to_be_bytes());
        }
        assert_eq!(far.recv().await.unwrap(), None);
        far.close().await.unwrap();
        sending.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_messages_are_refused_on_both_sides() {
    let links = Links::new(1);
    let mut small = plain("fra-1", &links);
    small.limits.max_message = 1000;
    let (large, small) = pair(plain("iad-1", &links), small).await;
    let mut opened = serve(&small, "log");
    let mut near = open(&large, &small, "log").await;
    let (_, _, mut far) = opened.recv().await.unwrap();

    let refused = far.send(vec![0; 1001].into()).await.unwrap_err();
    assert_eq!(refused.to_string(), "a message of 1001 bytes is over the limit of 1000");
    far.send(vec![0; 1000].into()).await.unwrap();
    assert_eq!(near.recv().await.unwrap().unwrap().len(), 1000, "the stream goes on");

    near.send(vec![0; 2_000_000].into()).await.unwrap();
    let refused = far.recv().await.unwrap_err();
    assert!(matches!(refused, Error::TooLarge(e) if e.size == 2_000_000), "{refused}");
    drop(far);
    assert!(matches!(near.recv().await, Err(Error::Reset(_))), "the sender learns of it");
    assert_eq!(small.metrics().messages_refused, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_vanishes_is_no_clean_end() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        let mut opened = serve(to, "log");
        let mut near = open(from, to, "log").await;
        let (_, _, far) = opened.recv().await.unwrap();
        drop(far);
        assert!(matches!(near.recv().await, Err(Error::Reset(_))));

        let near = open(from, to, "log").await;
        let (_, _, mut far) = opened.recv().await.unwrap();
        drop(near);
        assert!(matches!(far.recv().await, Err(Error::Reset(_))));
        let (mut tx, _rx) = far.split();
        let closed = tokio::time::timeout(PATIENCE, tx.closed()).await.unwrap();
        assert!(matches!(closed, Error::Reset(_)), "{closed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_dropped_half_way_spoils_the_stream_not_the_messages() {
    let (dialer, acceptor) = both_ways().await;
    let mut opened = serve(&acceptor, "log");
    let mut near = open(&dialer, &acceptor, "log").await;
    let (_, _, mut far) = opened.recv().await.unwrap();
    let large = Bytes::from(vec![0; 12 << 20]);
    let cut_off = tokio::time::timeout(Duration::from_millis(300), near.send(large)).await;
    assert!(cut_off.is_err(), "larger than the window, and nobody reads");
    assert!(matches!(near.send(Bytes::from("x")).await, Err(Error::Interrupted)));
    assert!(far.recv().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_a_connection() {
    let (dialer, acceptor) = both_ways().await;
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        to.serve_streams("echo", |_, _, mut stream: MessageStream| async move {
            while let Ok(Some(message)) = stream.recv().await {
                if stream.send(message).await.is_err() {
                    return;
                }
            }
        });
        let runs: Vec<_> = (0..100u8)
            .map(|index| {
                let (from, to) = (from.clone(), to.clone());
                tokio::spawn(async move {
                    let mut stream = open(&from, &to, "echo").await;
                    for round in 0..20u8 {
                        let message = Bytes::from(vec![index ^ round; usize::from(round) * 997]);
                        stream.send(message.clone()).await.unwrap();
                        assert!(stream.recv().await.unwrap().unwrap() == message);
                    }
                })
            })
            .collect();
        for run in runs {
            run.await.unwrap();
        }
    }
    assert_eq!(dialer.metrics().links_made, 1);
    assert_eq!(dialer.metrics().streams_served, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_serves_this_stream() {
    let (dialer, acceptor) = both_ways().await;
    let opened = dialer.open_stream(acceptor.node(), "none", HeaderMap::new(), PATIENCE).await;
    assert!(matches!(opened.err(), Some(Error::UnknownName { .. })));
}
