//! Coming, going, coming back.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use verge_fabric::{Error, Links, MessageStream, Retry, State};
use verge_types::Body;

use crate::world::{
    Fleet, PATIENCE, echo, id, linked, pair, plain, seed, serve_echo, start, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_find_each_other_through_one_seed() {
    let fleet = Fleet::new("acme");
    let first = start(fleet.config("nrt-1")).await;
    let mut all = vec![first];
    for name in ["fra-1", "iad-1"] {
        let mut config = fleet.config(name);
        config.seeds.push(seed(&all[0]));
        all.push(start(config).await);
    }
    for from in &all {
        serve_echo(from);
    }
    for from in &all {
        for to in all.iter().filter(|to| to.node() != from.node()) {
            linked(from, to.node()).await;
            assert_eq!(echo(from, to.node(), "x").await.unwrap(), "x");
            let table = from.members().borrow().clone();
            assert_eq!(table.get(to.node()).unwrap().peer, to.peer());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_both_dial_one_connection_stays() {
    for _ in 0..5 {
        let fleet = Fleet::new("acme");
        let ports: Vec<_> = (0..2)
            .map(|_| {
                let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                free.local_addr().unwrap()
            })
            .collect();
        let mut nodes = Vec::new();
        for (at, name) in ["fra-1", "iad-1"].into_iter().enumerate() {
            let mut config = fleet.config(name);
            config.timing.dial_grace = Duration::ZERO;
            config.listen = ports[at];
            // Without a name nobody waits for the other.
            let address = ports[1 - at].to_string();
            config.seeds.push(verge_fabric::Seed { address, peer: None });
            nodes.push(config);
        }
        let (b, a) = (nodes.pop().unwrap(), nodes.pop().unwrap());
        let (a, b) = tokio::join!(start(a), start(b));
        serve_echo(&a);
        serve_echo(&b);
        linked(&a, b.node()).await;
        linked(&b, a.node()).await;
        let settled = async {
            loop {
                let alive = |fabric: &verge_fabric::Fabric| {
                    let metrics = fabric.metrics();
                    metrics.links_made - metrics.links_lost
                };
                if alive(&a) == 1 && alive(&b) == 1 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("one connection stays");
        // One end may see the needless connection go before the other one is welcomed: then a
        // call says that it was not begun, and the next one works.
        for (from, to) in [(&a, &b), (&b, &a)] {
            let answered = async {
                loop {
                    match echo(from, to.node(), "x").await {
                        Ok(answer) => return answer,
                        Err(error) => assert_eq!(error.retry(), Retry::Safe, "{error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            assert_eq!(tokio::time::timeout(PATIENCE, answered).await.expect("in time"), "x");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_missed_and_welcome_again() {
    let fleet = Fleet::new("acme");
    for (dialer, acceptor) in [("fra-1", "iad-1"), ("iad-1", "fra-1")] {
        let (stays, goes) = pair(fleet.config(dialer), fleet.config(acceptor)).await;
        let (name, address) = (goes.node().clone(), goes.local_addr());
        goes.kill();
        until(&stays, "missing", |table| !table.get(&name).unwrap().linked).await;
        assert_ne!(stays.members().borrow().get(&name).unwrap().state, State::Up);
        let gone = echo(&stays, &name, "x").await.unwrap_err();
        assert_eq!(gone.retry(), Retry::Safe, "{gone}");
        until(&stays, "down", |table| table.get(&name).unwrap().state == State::Down).await;
        drop(goes);

        let mut config = fleet.config(acceptor);
        config.listen = address;
        let back = start(config).await;
        serve_echo(&back);
        linked(&stays, &name).await;
        assert_eq!(echo(&stays, &name, "again").await.unwrap(), "again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moved_is_found_through_others() {
    let fleet = Fleet::new("acme");
    let (fra, nrt) = pair(fleet.config("fra-1"), fleet.config("nrt-1")).await;
    let mut config = fleet.config("iad-1");
    config.seeds.push(seed(&nrt));
    let iad = start(config).await;
    linked(&fra, iad.node()).await;
    iad.kill();
    until(&fra, "gone", |table| !table.get(&id("iad-1")).unwrap().linked).await;
    let mut config = fleet.config("iad-1"); // another port
    config.seeds.push(seed(&nrt));
    let iad = start(config).await;
    linked(&fra, iad.node()).await;
    linked(&iad, fra.node()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_calls_finish_and_is_seen_at_once() {
    let fleet = Fleet::new("acme");
    for (dialer, acceptor) in [("fra-1", "iad-1"), ("iad-1", "fra-1")] {
        let (caller, server) = pair(fleet.config(dialer), fleet.config(acceptor)).await;
        server.serve_calls("slow", |_, _| async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Response::new(Body::from(Bytes::from(vec![1; 3_000_000])))
        });
        let (from, to) = (caller.clone(), server.node().clone());
        let call = tokio::spawn(async move {
            let answer = from.call(&to, "slow", Request::new(Body::Empty), PATIENCE).await?;
            Ok::<_, Error>(answer.into_body().collect().await.unwrap().to_bytes())
        });
        while server.metrics().calls_served == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ending = server.clone();
        let shutdown = tokio::spawn(async move { ending.shutdown(PATIENCE).await });
        until(&caller, "told", |table| table.get(server.node()).unwrap().left).await;
        let late = echo(&caller, server.node(), "x").await.unwrap_err();
        assert_eq!(late.retry(), Retry::Safe, "{late}");
        assert_eq!(call.await.unwrap().unwrap().len(), 3_000_000, "what had begun is finished");
        assert!(shutdown.await.unwrap(), "it ended by itself");
        assert!(matches!(echo(&server, caller.node(), "x").await, Err(Error::ShuttingDown)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_does_not_wait_for_ever() {
    let links = Links::new(1);
    let (a, b) = pair(plain("fra-1", &links), plain("iad-1", &links)).await;
    b.serve_streams("hold", |_, _, mut stream: MessageStream| async move {
        while let Ok(Some(_)) = stream.recv().await {}
    });
    let mut stream = a.open_stream(b.node(), "hold", HeaderMap::new(), PATIENCE).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, b.shutdown(Duration::from_millis(300))).await;
    assert!(!ended.unwrap(), "not by itself");
    assert!(stream.recv().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_ends_everything() {
    let links = Links::new(1);
    let (a, b) = pair(plain("fra-1", &links), plain("iad-1", &links)).await;
    let address = b.local_addr();
    let name = b.node().clone();
    drop(b);
    until(&a, "gone", |table| !table.get(&name).unwrap().linked).await;
    let free = async {
        while tokio::net::TcpListener::bind(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the port is free again");
}
