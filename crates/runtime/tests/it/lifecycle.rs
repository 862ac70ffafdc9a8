//! Isolates come with the first request, go when idle, and come back.

use std::time::Duration;

use super::harness::{AppSpec, World, get_text};

const COUNTING: &str = r#"
    let seen = 0;
    export default { fetch() { return new Response(String(++seen)) } };
"#;

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within 10 s: {what}");
}

#[tokio::test]
async fn an_idle_app_is_dropped_and_comes_back() {
    let world = World::with(|config| config.idle_after = Duration::from_millis(200));
    let app = world.app(COUNTING);
    assert_eq!(app.isolates(), 0, "nothing runs before the first request");
    // The first isolate runs without a code cache, the second makes it, the third uses it.
    for _ in 0..3 {
        assert_eq!(get_text(&app, "/").await, "1");
        assert_eq!(get_text(&app, "/").await, "2");
        until("the idle isolate is dropped", || app.isolates() == 0).await;
    }
    assert_eq!(world.logs.text(), "");
}

#[tokio::test]
async fn a_busy_app_is_not_dropped() {
    let world = World::with(|config| config.idle_after = Duration::from_millis(200));
    let app = world.load(AppSpec::new(
        r#"export default { async fetch() { await scheduler.wait(1500); return new Response("done") } }"#,
    ));
    assert_eq!(get_text(&app, "/").await, "done");
}

#[tokio::test]
async fn many_apps_start_at_once_without_waiting_for_the_pool() {
    let world = World::with(|config| config.warm = 1);
    let apps: Vec<_> = (0..12)
        .map(|index| world.load(AppSpec::new(COUNTING).named(&format!("app-{index}"))))
        .collect();
    let asked: Vec<_> = apps
        .into_iter()
        .map(|app| tokio::spawn(async move { get_text(&app, "/").await }))
        .collect();
    for answer in asked {
        assert_eq!(answer.await.expect("no panic"), "1");
    }
}
