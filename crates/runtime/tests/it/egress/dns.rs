//! Names that change their mind, or say two things at once.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::places::{Inside, Names, welcome};
use super::{Outcomes, ask, prober};
use crate::harness::World;

const RUN: &str = r#"
    import net from "node:net";
    const viaFetch = async (url) => {
        try {
            const response = await fetch(url, { signal: AbortSignal.timeout(3000) });
            return [url, await response.text()];
        } catch (error) { return [url, `error: ${error.message}`]; }
    };
    const viaSocket = (host, port) => new Promise((done) => {
        const socket = net.connect(port, host);
        socket.on("connect", () => { socket.destroy(); done([host, "connected"]); });
        socket.on("error", (error) => done([host, `error: ${error.code} ${error.message}`]));
        setTimeout(() => done([host, "timed out"]), 3000);
    });
    const viaWebSocket = (url) => new Promise((done) => {
        const socket = new WebSocket(url);
        socket.onopen = () => done([url, "open"]);
        socket.onerror = (event) => done([url, `error: ${event.message}`]);
    });
    "#;

#[tokio::test]
async fn a_name_that_changes_its_mind_is_judged_each_time() {
    // Allowed on all ports, so that the name may lead there: it plays the public address.
    let good = welcome("127.0.0.2").await;
    // On the same port, so that only the address makes the difference.
    let inside = tokio::net::TcpListener::bind(("127.0.0.1", good.port())).await.unwrap();
    let names = Names::new(&[(
        "rebind.test",
        &[&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"], &["::1"], &["10.0.0.1"]],
    )]);
    let world = World::with(|config| {
        config.resolver = Some(names.resolver());
        config.egress.allow = vec!["127.0.0.2".to_owned()];
    });
    let app = prober(
        &world,
        &format!(
            "{RUN} const run = async (port) => {{
                const url = `http://rebind.test:${{port}}/`;
                const all = [];
                for (let i = 0; i < 6; i++) all.push(await viaFetch(url));
                all.push(await viaWebSocket(`ws://rebind.test:${{port}}/`));
                all.push(await viaSocket('rebind.test', port));
                return all;
            }};"
        ),
    );
    let outcomes: Outcomes = ask(&app, &json!(good.port())).await;
    let outcomes: Vec<_> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    let refused = |outcome: &str| outcome.contains("outbound connection refused: `rebind.test");
    assert_eq!(outcomes[0], "welcome");
    assert!(refused(&outcomes[1]), "{outcomes:?}");
    assert_eq!(outcomes[2], "welcome");
    for outcome in &outcomes[3..6] {
        assert!(refused(outcome), "{outcomes:?}");
    }
    assert!(outcomes[6].ends_with("dns error"), "{outcomes:?}");
    assert!(outcomes[7].starts_with("error: EPERM"), "{outcomes:?}");
    // Asked once a connection: what was judged is what is connected to.
    assert_eq!(names.asked.load(Ordering::SeqCst), 8);
    let came = tokio::time::timeout(std::time::Duration::from_millis(50), inside.accept()).await;
    assert!(came.is_err(), "the name led inside");
}

#[tokio::test]
async fn of_two_answers_only_the_public_one_is_used() {
    let good = welcome("127.0.0.2").await;
    let inside = tokio::net::TcpListener::bind(("127.0.0.1", good.port())).await.unwrap();
    let names = Names::new(&[
        ("first.test", &[&["127.0.0.1", "::1", "127.0.0.2"]]),
        ("last.test", &[&["127.0.0.2", "127.0.0.1", "::ffff:127.0.0.1"]]),
        ("none.test", &[&["127.0.0.1", "10.0.0.1", "::1"]]),
    ]);
    let world = World::with(|config| {
        config.resolver = Some(names.resolver());
        config.egress.allow = vec!["127.0.0.2".to_owned()];
    });
    let app = prober(
        &world,
        &format!(
            "{RUN} const run = async (port) => [
                await viaFetch(`http://first.test:${{port}}/`), await viaFetch(`http://last.test:${{port}}/`),
                await viaSocket('first.test', port), await viaSocket('last.test', port),
                await viaFetch(`http://none.test:${{port}}/`), await viaSocket('none.test', port),
            ];"
        ),
    );
    let outcomes: Outcomes = ask(&app, &json!(good.port())).await;
    let outcomes: Vec<_> = outcomes.iter().map(|(_, outcome)| outcome.as_str()).collect();
    assert_eq!(outcomes[..4], ["welcome", "welcome", "connected", "connected"]);
    assert!(outcomes[4].contains("outbound connection refused: `none.test"), "{outcomes:?}");
    assert!(outcomes[5].starts_with("error: EPERM"), "{outcomes:?}");
    let came = tokio::time::timeout(std::time::Duration::from_millis(50), inside.accept()).await;
    assert!(came.is_err(), "a name led inside");
}

#[tokio::test]
async fn without_exceptions_a_name_leads_nowhere_inside_either() {
    let inside = Inside::open().await;
    let names = Names::new(&[("twice.test", &[&["127.0.0.1"], &["::1"], &["0.0.0.0"]])]);
    let world = World::with(|config| config.resolver = Some(names.resolver()));
    let app = prober(
        &world,
        &format!(
            "{RUN} const run = async (port) => [
                await viaFetch(`http://twice.test:${{port}}/`), await viaSocket('twice.test', port),
                await viaWebSocket(`ws://twice.test:${{port}}/`), await viaFetch(`http://absent.test:${{port}}/`),
            ];"
        ),
    );
    let outcomes: Outcomes = ask(&app, &json!(inside.port)).await;
    for (tried, outcome) in &outcomes {
        assert!(outcome.starts_with("error: "), "{tried}: {outcome}");
    }
    assert_eq!(outcomes[3].1, "error: fetch failed");
    assert_eq!(inside.reached().await, 0);
}
