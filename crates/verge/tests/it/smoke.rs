//! The few tests that every engine must pass: the plain examples, started and asked.

use super::harness::{Dev, example, verge};

#[tokio::test]
async fn the_plain_worker_answers() {
    let dev = Dev::start(&[&example("worker")]);
    let answer = dev.get("/").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "Hello from Verge\n"));
    let answer = dev.get("/json?a=1&b=2").await;
    assert_eq!(answer.json()["query"]["b"], "2");
    assert_eq!(dev.get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn a_body_is_echoed() {
    let dev = Dev::start(&[&example("worker")]);
    let text = "x".repeat(300_000);
    let answer = dev.ask(http::Method::POST, "localhost", "/echo", &[], &text).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == text, "{} bytes came back", answer.body.len());
}

#[tokio::test]
async fn the_static_site_answers() {
    let dev = Dev::start(&[&example("static")]);
    assert!(dev.get("/").await.body.contains("A static site"));
}

#[test]
fn the_version_names_the_engine() {
    let output = verge(&["--version"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let named = text.contains("(V8 ") || text.contains("(QuickJS");
    assert!(text.starts_with("verge ") && named, "{text}");
}
