//! Who is let in.

use std::time::Duration;

use tokio::sync::broadcast;
use verge_fabric::{Event, Fabric, FabricConfig, Links, Peer, Security, Seed};

use crate::world::{Fleet, PATIENCE, id, pair, peer, plain, seed, start};

async fn dial_failure(events: &mut broadcast::Receiver<Event>) -> String {
    let wait = async {
        loop {
            if let Event::DialFailed { why, .. } = events.recv().await.unwrap() {
                return why;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("an attempt fails")
}

async fn refusal(events: &mut broadcast::Receiver<Event>) -> String {
    let wait = async {
        loop {
            if let Event::Refused { why, .. } = events.recv().await.unwrap() {
                return why;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("somebody is refused")
}

async fn meet(mut dialer: FabricConfig, acceptor: &Fabric) -> (Fabric, String, String) {
    let mut refusals = acceptor.events();
    dialer.seeds = vec![seed(acceptor)];
    let dialer = start(dialer).await;
    let why = dial_failure(&mut dialer.events()).await;
    (dialer, why, refusal(&mut refusals).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fleet_is_refused_in_clear_words() {
    let (ours, theirs) = (Fleet::new("acme"), Fleet::new("umbrella"));
    let acceptor = start(ours.config("iad-1")).await;
    let (dialer, why, refused) = meet(theirs.config("fra-1"), &acceptor).await;
    assert!(why.contains("belongs to another fleet"), "{why}");
    assert!(refused.contains("fleet") || refused.contains("refused"), "{refused}");
    assert!(!dialer.members().borrow().is_up(acceptor.node()));
    assert!(acceptor.members().borrow().members.is_empty(), "nothing of it is remembered");
    assert!(acceptor.metrics().handshakes_refused >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fleet_of_the_same_name_is_refused_too() {
    let (ours, theirs) = (Fleet::new("acme"), Fleet::new("acme"));
    let acceptor = start(ours.config("iad-1")).await;
    let (_dialer, why, _) = meet(theirs.config("fra-1"), &acceptor).await;
    assert!(why.contains("belongs to another fleet"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_foreign_certificate_learns_why() {
    // It trusts our authority but shows a certificate of its own.
    let (ours, theirs) = (Fleet::new("acme"), Fleet::new("acme"));
    let acceptor = start(ours.config("iad-1")).await;
    theirs.identity("fra-1");
    let folder = theirs.folder.path();
    std::fs::copy(ours.folder.path().join("ca.pem"), folder.join("ca.pem")).unwrap();
    let (_dialer, why, refused) = meet(theirs.config("fra-1"), &acceptor).await;
    assert!(why.contains("does not accept this node's certificate"), "{why}");
    assert!(refused.contains("another fleet"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_name_than_expected_is_refused() {
    let fleet = Fleet::new("acme");
    let acceptor = start(fleet.config("iad-1")).await;
    let mut dialer = fleet.config("fra-1");
    let address = acceptor.local_addr().to_string();
    dialer.seeds = vec![Seed { address: address.clone(), peer: Some(peer("sin-1")) }];
    let dialer = start(dialer).await;
    let why = dial_failure(&mut dialer.events()).await;
    assert_eq!(why, format!("refused: at {address} is iad-1, not sin-1"));
    let table = dialer.members().borrow().clone();
    assert_eq!(table.get(&id("sin-1")).unwrap().last_error.as_deref(), Some(&*why));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_and_tls_do_not_mix() {
    let fleet = Fleet::new("acme");
    let acceptor = start(fleet.config("iad-1")).await;
    let (_dialer, _, refused) = meet(plain("fra-1", &Links::new(1)), &acceptor).await;
    assert!(refused.contains("does not speak TLS"), "{refused}");
    let acceptor = start(plain("iad-1", &Links::new(1))).await;
    let (_dialer, why, _) = meet(fleet.config("fra-1"), &acceptor).await;
    assert!(why.contains("does not speak TLS"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_fleets_of_other_names_and_namesakes_are_refused() {
    let links = Links::new(1);
    let acceptor = start(plain("iad-1", &links)).await;
    let other = FabricConfig { fleet: "other".parse().unwrap(), ..plain("fra-1", &links) };
    let (_dialer, why, _) = meet(other, &acceptor).await;
    assert_eq!(why, "refused: fra-1 is of fleet other, iad-1 is of fleet dev");

    tokio::time::sleep(Duration::from_millis(5)).await; // another incarnation
    let mut namesake = plain("iad-1", &links);
    namesake.seeds = vec![Seed { address: acceptor.local_addr().to_string(), peer: None }];
    let namesake = start(namesake).await;
    let why = dial_failure(&mut namesake.events()).await;
    assert_eq!(why, "refused: there are two nodes called iad-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_list_may_name_the_node_itself_and_need_no_names() {
    let fleet = Fleet::new("acme");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let nameless = |address: String| Seed { address, peer: None };
    let mut first = fleet.config("iad-1");
    first.listen = port;
    first.seeds = vec![nameless(port.to_string())];
    let mut second = fleet.config("fra-1");
    second.seeds = vec![nameless(port.to_string())];
    let first = start(first).await;
    let second = start(second).await;
    crate::world::linked(&first, second.node()).await;
    assert_eq!(first.members().borrow().members.len(), 1, "itself is no member");
}

#[tokio::test]
async fn without_certificates_only_loopback() {
    let Peer { node, pop } = peer("iad-1");
    let listen = "0.0.0.0:0".parse().unwrap();
    let config = FabricConfig::new("dev".parse().unwrap(), node, pop, listen, Security::Loopback);
    let error = Fabric::start(config).await.err().unwrap();
    assert!(error.to_string().contains("loopback only"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_another_node_is_refused_at_start() {
    let fleet = Fleet::new("acme");
    let mut config = fleet.config("iad-1");
    config.security = Security::MutualTls(fleet.identity("fra-1"));
    let error = Fabric::start(config).await.err().unwrap();
    assert!(error.to_string().contains("the certificate is of fra-1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_work_through_a_simulated_link() {
    let fleet = Fleet::new("acme");
    let links = Links::new(1);
    links.slow(&id("fra-1"), &id("iad-1"), Duration::from_millis(40));
    let simulated = |name| FabricConfig { links: Some(links.clone()), ..fleet.config(name) };
    let (dialer, acceptor) = pair(simulated("fra-1"), simulated("iad-1")).await;
    crate::world::serve_echo(&acceptor);
    assert_eq!(crate::world::echo(&dialer, acceptor.node(), "x").await.unwrap(), "x");
}
