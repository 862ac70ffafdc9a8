//! Where apps may not connect to, in every spelling, over every transport. A real listener
//! stands at the end of the way in and must not be reached.

mod dns;
mod exceptions;
mod node;
mod places;
mod spellings;
mod urls;

use std::sync::Arc;

use http::Request;
use verge_runtime::App;
use verge_types::Body;

use crate::harness::{AppSpec, World, send, text};

/// Loads an app that answers a POST of a JSON value with what `run(value)` gives.
fn prober(world: &World, source: &str) -> Arc<App> {
    let source = format!(
        "{source}
        export default {{ async fetch(request) {{ return Response.json(await run(await request.json())); }} }}"
    );
    world.load(AppSpec::new(&source).limit("cpu_time", "60s"))
}

async fn ask<T: serde::de::DeserializeOwned>(app: &App, value: &serde_json::Value) -> T {
    let request =
        Request::post("http://test.example/").body(Body::from(value.to_string())).unwrap();
    let answer = text(send(app, request).await.unwrap()).await;
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// What an attempt came to: `[what was tried, outcome]`; the outcome of a failed one begins
/// with `error: `.
type Outcomes = Vec<(String, String)>;

/// Every attempt failed, either because it is no URL at all or with the policy's words.
fn assert_refused(outcomes: &Outcomes) {
    for (tried, outcome) in outcomes {
        let refused = outcome.starts_with("error: TypeError: outbound connection refused: ")
            || (spellings::NO_URL.contains(&tried.as_str()) && outcome.contains("Invalid URL"));
        assert!(refused, "{tried}: {outcome}");
    }
}
