//! The React example: the shell is on the wire before the slow data is there.

use std::time::{Duration, Instant};

use http::Method;
use http_body_util::BodyExt;

use super::harness::{Dev, example};

#[tokio::test]
async fn the_shell_leaves_before_the_slow_data() {
    let dev = Dev::start(&[&example("react")]);
    // The first request pays for compiling React.
    dev.get("/?slow=0").await;
    let slow = Duration::from_millis(800);
    let started = Instant::now();
    let path = format!("/?slow={}", slow.as_millis());
    let mut response = dev.open(Method::GET, "localhost", &path, &[], "").await;
    assert_eq!(response.status(), 200);
    let mut text = String::new();
    let (mut shell, mut data) = (None, None);
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(bytes) = frame.expect("a frame").into_data() {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        let now = started.elapsed();
        if text.contains("Asking a slow database") {
            shell.get_or_insert(now);
        }
        if text.contains("Frankfurt") {
            data.get_or_insert(now);
        }
    }
    let (shell, data) = (shell.expect("a shell"), data.expect("the data"));
    println!("shell after {shell:?}, slow data after {data:?}");
    assert!(text.ends_with("</html>"), "the page is whole");
    assert!(data >= slow, "{data:?}");
    assert!(shell + slow / 2 < data, "the shell waited: {shell:?}, {data:?}");
}

#[tokio::test]
async fn assets_of_an_app_with_code_are_served() {
    let dev = Dev::start(&[&example("react")]);
    let style = dev.get("/style.css").await;
    assert_eq!((style.status, style.header("content-type")), (200, "text/css; charset=utf-8"));
    assert_eq!(dev.get("/nowhere").await.status, 404);
}
