//! Links that are slow, cut and healed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request};
use verge_fabric::{Conditions, Error, Fabric, Links, MessageStream, State};
use verge_types::Body;

use crate::world::{PATIENCE, echo, id, linked, pair, plain, seed, serve_echo, start, until};

async fn world() -> (Links, Fabric, Fabric) {
    let links = Links::new(7);
    let (dialer, acceptor) = pair(plain("fra-1", &links), plain("iad-1", &links)).await;
    serve_echo(&dialer);
    serve_echo(&acceptor);
    (links, dialer, acceptor)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_a_slow_link_takes_one_round_trip_from_either_side() {
    let (links, dialer, acceptor) = world().await;
    let round_trip = Duration::from_millis(300);
    links.slow(dialer.node(), acceptor.node(), round_trip);
    for (from, to) in [(&dialer, &acceptor), (&acceptor, &dialer)] {
        // The best of some, so that a busy machine does not matter: never less than one round
        // trip, and less than two, which is what a second exchange would cost.
        let mut best = Duration::MAX;
        for _ in 0..10 {
            let begin = Instant::now();
            assert_eq!(echo(from, to.node(), "x").await.unwrap(), "x");
            best = best.min(begin.elapsed());
            assert!(best >= round_trip, "{best:?}");
            if best < round_trip * 2 {
                break;
            }
        }
        assert!(best < round_trip * 2, "{best:?}");
    }
    // The smoothed value gets there with the heartbeats.
    let close = async {
        while dialer.rtt(acceptor.node()).is_none_or(|rtt| rtt < round_trip / 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, close).await.expect("the round trip is measured");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_noticed_by_both_and_healing_brings_them_back() {
    let (links, dialer, acceptor) = world().await;
    acceptor.serve_streams("hold", |_, _, mut stream: MessageStream| async move {
        while let Ok(Some(_)) = stream.recv().await {}
    });
    let to = acceptor.node();
    let stream = dialer.open_stream(to, "hold", HeaderMap::new(), PATIENCE).await.unwrap();
    let (_tx, mut rx) = stream.split();
    links.cut(dialer.node(), to);
    for (node, other) in [(&dialer, to), (&acceptor, dialer.node())] {
        until(node, "down", |table| table.get(other).unwrap().state == State::Down).await;
        until(node, "unlinked", |table| !table.get(other).unwrap().linked).await;
    }
    assert!(matches!(rx.recv().await, Err(Error::LinkLost(_))));
    let refused = echo(&dialer, to, "x").await.unwrap_err();
    assert!(refused.to_string().contains("nothing was heard for"), "{refused}");

    links.heal(dialer.node(), to);
    linked(&dialer, to).await;
    linked(&acceptor, dialer.node()).await;
    assert_eq!(echo(&dialer, to, "back").await.unwrap(), "back");
    assert_eq!(echo(&acceptor, dialer.node(), "too").await.unwrap(), "too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_cut_loses_nothing() {
    let (links, dialer, acceptor) = world().await;
    let (a, b) = (dialer.node().clone(), acceptor.node().clone());
    acceptor.serve_streams("echo", |_, _, mut stream: MessageStream| async move {
        while let Ok(Some(message)) = stream.recv().await {
            if stream.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut stream = dialer.open_stream(&b, "echo", HeaderMap::new(), PATIENCE).await.unwrap();
    for round in 0..5u8 {
        links.cut(&a, &b);
        stream.send(Bytes::from(vec![round])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        links.heal(&a, &b);
        assert_eq!(stream.recv().await.unwrap().unwrap(), vec![round]);
    }
    assert_eq!(dialer.metrics().links_made, 1, "the connection outlived it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_way_cut_is_seen_by_the_deaf_side_first() {
    for towards_acceptor in [true, false] {
        let (links, dialer, acceptor) = world().await;
        let (speaker, deaf) =
            if towards_acceptor { (&dialer, &acceptor) } else { (&acceptor, &dialer) };
        links.cut_one_way(speaker.node(), deaf.node());
        until(deaf, "deaf", |table| table.get(speaker.node()).unwrap().state != State::Up).await;
        for (node, other) in [(deaf, speaker), (speaker, deaf)] {
            until(node, "unlinked", |table| !table.get(other.node()).unwrap().linked).await;
        }
        links.heal(speaker.node(), deaf.node());
        linked(speaker, deaf.node()).await;
        assert_eq!(echo(speaker, deaf.node(), "x").await.unwrap(), "x");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_between_two_leaves_the_third_with_both() {
    let links = Links::new(7);
    let nrt = start(plain("nrt-1", &links)).await;
    let mut others = Vec::new();
    for name in ["fra-1", "iad-1"] {
        let mut config = plain(name, &links);
        config.seeds.push(seed(&nrt));
        others.push(start(config).await);
    }
    let (fra, iad) = (&others[0], &others[1]);
    // These two learn of each other from the third.
    linked(fra, iad.node()).await;
    linked(iad, fra.node()).await;
    links.cut(fra.node(), iad.node());
    until(fra, "cut off", |table| table.get(&id("iad-1")).unwrap().state == State::Down).await;
    until(iad, "cut off", |table| table.get(&id("fra-1")).unwrap().state == State::Down).await;
    serve_echo(&nrt);
    for node in &others {
        assert_eq!(echo(node, nrt.node(), "x").await.unwrap(), "x");
    }
    links.heal(fra.node(), iad.node());
    linked(fra, iad.node()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_line_carries_everything_in_the_end() {
    let (links, dialer, acceptor) = world().await;
    let bad = Conditions {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(30),
        loss: 0.01,
        bandwidth: Some(4 << 20),
        cut: false,
    };
    links.set(dialer.node(), acceptor.node(), bad);
    links.set(acceptor.node(), dialer.node(), bad);
    let large: Bytes = (0..2_000_000u32).map(|i| (i >> 5) as u8).collect();
    let request = Request::new(Body::from(large.clone()));
    let answer = dialer.call(acceptor.node(), "echo", request, PATIENCE).await.unwrap();
    let seen = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert!(seen == large);
}
