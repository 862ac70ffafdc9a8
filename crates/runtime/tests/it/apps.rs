//! Runs the apps of `tests/apps`: JavaScript cases, each reported by name.

use http::Request;
use verge_types::{Body, ModuleKind};

use crate::harness::{AppSpec, World, send, text};

const CHECK: &[u8] = include_bytes!("../apps/check.js");

/// An app of cases, with limits that leave room for a slow machine.
pub fn spec(source: &str) -> AppSpec {
    AppSpec::new(source)
        .module("check.js", ModuleKind::Esm, CHECK)
        .limit("cpu_time", "60s")
        .limit("startup_time", "10s")
}

/// Runs all cases of an app; panics with those that failed.
pub async fn run(world: &World, spec: AppSpec) {
    let app = world.load(spec);
    let request = Request::post("http://test.example/cases?q=1")
        .header("x-sent", "yes")
        .body(Body::from("the body of the request"))
        .expect("a request");
    let answer = match send(&app, request).await {
        Ok(response) => text(response).await,
        Err(fault) => panic!("{fault}\n{}", world.logs.text()),
    };
    let results: Vec<(String, Option<String>)> =
        serde_json::from_str(&answer).expect("a list of cases");
    assert!(!results.is_empty(), "no case was run");
    let failed: Vec<String> = results
        .iter()
        .filter_map(|(name, error)| error.as_ref().map(|error| format!("- {name}\n{error}")))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} cases failed:\n{}",
        failed.len(),
        results.len(),
        failed.join("\n")
    );
}

/// Runs the cases of one source in a world of its own.
pub async fn run_source(source: &str) {
    run(&World::new(), spec(source)).await;
}
