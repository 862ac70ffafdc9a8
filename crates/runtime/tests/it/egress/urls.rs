//! `fetch`, WebSocket and EventSource: each spelling, as it is and behind a redirect.

use serde_json::json;

use super::places::{Inside, Names, redirector};
use super::spellings::{NAMES, SECRETS, SPELLINGS};
use super::{Outcomes, ask, assert_refused, prober};
use crate::harness::World;

const FETCH: &str = r#"
    async function attempt(spelling, url, init) {
        try {
            const response = await fetch(url, { signal: AbortSignal.timeout(3000), ...init });
            return [spelling, `answered ${response.status} ${await response.text()}`];
        } catch (error) { return [spelling, `error: ${error.name}: ${error.message}`]; }
    }"#;

fn world(allow: &[String]) -> World {
    World::with(|config| {
        config.resolver = Some(Names::new(NAMES).resolver());
        config.egress.allow = allow.to_vec();
    })
}

fn at(port: u16) -> Vec<(&'static str, String)> {
    SPELLINGS.iter().map(|s| (*s, s.replace("PORT", &port.to_string()))).collect()
}

/// A name is told, what it leads to is not.
fn assert_discreet(outcomes: &Outcomes) {
    for (tried, outcome) in outcomes.iter().filter(|(tried, _)| tried.contains(".test")) {
        let told = SECRETS.iter().find(|secret| outcome.contains(*secret));
        assert!(told.is_none(), "{tried}: {outcome}");
    }
}

#[test]
fn there_are_enough_spellings() {
    assert!(SPELLINGS.len() >= 60, "{}", SPELLINGS.len());
}

#[tokio::test]
async fn fetch_reaches_nothing_inside() {
    let inside = Inside::open().await;
    let world = world(&[]);
    let source = format!(
        "{FETCH}
        const run = async (list) => {{ const all = []; for (const [s, url] of list) all.push(await attempt(s, url)); return all; }};"
    );
    let app = prober(&world, &source);
    let outcomes: Outcomes = ask(&app, &json!(at(inside.port))).await;
    assert_refused(&outcomes);
    assert_discreet(&outcomes);
    assert_eq!(inside.reached().await, 0);
}

#[tokio::test]
async fn a_redirect_reaches_nothing_inside() {
    let inside = Inside::open().await;
    let redirector = redirector().await;
    let world = world(&[redirector.to_string()]);
    let source = format!(
        "{FETCH}
        const run = async ([by, list]) => {{
            const all = [];
            for (const [s, url] of list) all.push(await attempt(s, `http://${{by}}/?to=` + encodeURIComponent(url)));
            // Two hops, and a method that is kept.
            for (const [s, url] of list.slice(0, 3)) {{
                const once = `http://${{by}}/?to=` + encodeURIComponent(url);
                all.push(await attempt(s, `http://${{by}}/?to=` + encodeURIComponent(once), {{ method: 'POST', body: 'x' }}));
            }}
            return all;
        }};"
    );
    let app = prober(&world, &source);
    let outcomes: Outcomes = ask(&app, &json!([redirector, at(inside.port)])).await;
    for (tried, outcome) in &outcomes {
        // A header's value is bytes: what is not ASCII in it is another URL, or none.
        let no_url = super::spellings::NO_URL.contains(&tried.as_str())
            || !tried.is_ascii()
            || tried == super::spellings::RELATIVE;
        let refused = outcome.contains("outbound connection refused: ");
        assert!(refused || (no_url && outcome.starts_with("error")), "{tried}: {outcome}");
    }
    assert_discreet(&outcomes);
    assert_eq!(inside.reached().await, 0);
}

#[tokio::test]
async fn a_websocket_reaches_nothing_inside() {
    let inside = Inside::open().await;
    let world = world(&[]);
    let app = prober(
        &world,
        r#"
        const attempt = (spelling, url) => new Promise((done) => {
            const tell = (what) => done([spelling, what]);
            try {
                const socket = new WebSocket(url.replace(/^(\s*)http/i, "$1ws"));
                socket.onopen = () => tell("open");
                socket.onerror = (event) => tell(`error: TypeError: ${event.message}`);
                socket.onclose = () => tell("closed");
                setTimeout(() => tell("timed out"), 3000);
            } catch (error) { tell(`error: TypeError: ${error.message}`); }
        });
        const run = async (list) => { const all = []; for (const [s, url] of list) all.push(await attempt(s, url)); return all; };"#,
    );
    let outcomes: Outcomes = ask(&app, &json!(at(inside.port))).await;
    for (tried, outcome) in &outcomes {
        // Of a failed look-up the engine's WebSocket tells only that it failed.
        let refused = outcome.contains("outbound connection refused: ")
            || (tried.to_lowercase().contains(".test") && outcome.ends_with("dns error"))
            || outcome.contains("Fragments are not allowed")
            || (tried.contains(".internal") && outcome.ends_with("dns error"))
            || (super::spellings::NO_URL.contains(&tried.as_str())
                && outcome.contains("Invalid URL"));
        assert!(refused, "{tried}: {outcome}");
    }
    assert_discreet(&outcomes);
    assert_eq!(inside.reached().await, 0);
}

#[tokio::test]
async fn an_event_source_reaches_nothing_inside() {
    let inside = Inside::open().await;
    let world = world(&[]);
    let app = prober(
        &world,
        r#"
        const attempt = (spelling, url) => new Promise((done) => {
            try {
                const source = new EventSource(url);
                const tell = (what) => { source.close(); done([spelling, what]); };
                source.onopen = () => tell("open");
                source.onerror = () => tell("error");
                setTimeout(() => tell("timed out"), 3000);
            } catch (error) { done([spelling, "error"]); }
        });
        const run = (list) => Promise.all(list.map(([s, url]) => attempt(s, url)));"#,
    );
    let outcomes: Outcomes = ask(&app, &json!(at(inside.port))).await;
    for (tried, outcome) in &outcomes {
        assert_eq!(outcome, "error", "{tried}");
    }
    assert_eq!(inside.reached().await, 0);
}
