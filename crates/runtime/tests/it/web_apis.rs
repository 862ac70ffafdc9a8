//! What web standards promise.

use crate::apps::run_source;

#[tokio::test]
async fn the_minimum_common_api_is_there_and_works() {
    run_source(include_str!("../apps/web_apis/globals.js")).await;
}

#[tokio::test]
async fn events_signals_and_uncaught_errors() {
    run_source(include_str!("../apps/web_apis/events.js")).await;
}

#[tokio::test]
async fn streams() {
    run_source(include_str!("../apps/web_apis/streams.js")).await;
}

#[tokio::test]
async fn requests_responses_and_bodies() {
    run_source(include_str!("../apps/web_apis/bodies.js")).await;
}

#[tokio::test]
async fn web_crypto() {
    run_source(include_str!("../apps/web_apis/crypto.js")).await;
}
