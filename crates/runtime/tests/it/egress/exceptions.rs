//! What development may allow, and how little that opens.

use serde_json::json;

use super::places::{Inside, Names, redirector, welcome};
use super::{Outcomes, ask, prober};
use crate::harness::World;

const RUN: &str = r#"
    import net from "node:net";
    const viaFetch = async (url) => {
        try { return [url, await (await fetch(url, { signal: AbortSignal.timeout(3000) })).text()]; }
        catch (error) { return [url, `error: ${error.message}`]; }
    };
    const viaSocket = (host, port) => new Promise((done) => {
        const label = `${host} ${port}`;
        const socket = net.connect(port, host);
        socket.on("connect", () => { socket.destroy(); done([label, "connected"]); });
        socket.on("error", (error) => done([label, `error: ${error.code} ${error.message}`]));
        setTimeout(() => done([label, "timed out"]), 3000);
    });
    const run = async ({ urls, sockets }) => {
        const all = [];
        for (const url of urls) all.push(await viaFetch(url));
        for (const [host, port] of sockets) all.push(await viaSocket(host, port));
        return all;
    };"#;

#[tokio::test]
async fn an_exception_opens_one_place_on_one_port() {
    let good = welcome("127.0.0.1").await;
    let inside = Inside::open().await;
    let (open, shut) = (good.port(), inside.port);
    let world = World::with(|config| {
        config.resolver = Some(
            Names::new(&[("db.test", &[&["127.0.0.1"]]), ("evil.test", &[&["127.0.0.1"]])])
                .resolver(),
        );
        config.egress.allow = vec![format!("127.0.0.1:{open}"), format!("DB.test.:{open}")];
    });
    let app = prober(&world, RUN);
    let good: Outcomes = ask(
        &app,
        &json!({
            "urls": [
                format!("http://127.0.0.1:{open}/"), format!("http://2130706433:{open}/"),
                format!("http://localhost:{open}/"), format!("http://[::ffff:127.0.0.1]:{open}/"),
                format!("http://db.test:{open}/"),
            ],
            "sockets": [["127.0.0.1", open], ["localhost", open], ["db.test", open]],
        }),
    )
    .await;
    for (tried, outcome) in &good {
        assert!(["welcome", "connected"].contains(&outcome.as_str()), "{tried}: {outcome}");
    }
    let bad: Outcomes = ask(
        &app,
        &json!({
            "urls": [
                format!("http://127.0.0.1:{shut}/"), format!("http://localhost:{shut}/"),
                format!("http://db.test:{shut}/"), format!("http://evil.test:{shut}/"),
                // A name is an exception only if it is named.
                format!("http://evil.test:{open}/"),
                format!("http://127.0.0.2:{open}/"), format!("http://[::1]:{shut}/"),
                format!("http://10.0.0.1:{open}/"),
            ],
            "sockets": [
                ["127.0.0.1", shut], ["localhost", shut], ["db.test", shut], ["evil.test", shut],
                ["evil.test", open], ["::1", shut], ["127.0.0.2", open], ["::ffff:127.0.0.1", shut],
            ],
        }),
    )
    .await;
    for (tried, outcome) in &bad {
        assert!(outcome.starts_with("error: "), "{tried}: {outcome}");
    }
    assert_eq!(inside.reached().await, 0);
}

#[tokio::test]
async fn what_is_denied_stays_denied() {
    let redirector = redirector().await;
    let world = World::with(|config| {
        config.resolver = Some(Names::new(&[("fleet.test", &[&["20.0.0.9"]])]).resolver());
        config.egress.allow = vec![redirector.to_string(), "20.0.0.9".to_owned()];
        config.egress.deny = vec!["20.0.0.0/24".to_owned(), "2a00:1::/32".to_owned()];
    });
    let app = prober(&world, RUN);
    let outcomes: Outcomes = ask(
        &app,
        &json!({
            "urls": [
                "http://20.0.0.9/", "http://[::ffff:20.0.0.9]/", "http://fleet.test/", "http://[2a00:1::5]/",
                format!("http://{redirector}/?to=http://20.0.0.9/"),
            ],
            "sockets": [["20.0.0.9", 80], ["fleet.test", 80], ["2a00:1::5", 80]],
        }),
    )
    .await;
    for (tried, outcome) in &outcomes {
        assert!(outcome.starts_with("error: "), "{tried}: {outcome}");
        assert!(outcome.contains("refused") || outcome.contains("EPERM"), "{tried}: {outcome}");
    }
}
