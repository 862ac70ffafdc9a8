//! Each example does what its README says.

use http::Method;

use super::harness::{Dev, example};

#[tokio::test]
async fn hono_keeps_notes() {
    let dev = Dev::start(&[&example("hono")]);
    assert_eq!(dev.get("/").await.body, "Hello from Hono on Verge\n");
    let json = [("content-type", "application/json")];
    let made =
        dev.ask(Method::POST, "localhost", "/api/notes", &json, r#"{"text":"second"}"#).await;
    assert_eq!((made.status, made.json()["id"].as_u64()), (201, Some(2)));
    assert_eq!(dev.get("/api/notes/2").await.json()["text"], "second");
    let gone = dev.ask(Method::DELETE, "localhost", "/api/notes/1", &[], "").await;
    assert_eq!(gone.status, 204);
    assert_eq!(dev.get("/api/notes/1").await.status, 404);
    assert_eq!(dev.get("/api/notes").await.json().as_array().map(Vec::len), Some(1));
    let bad = dev.ask(Method::POST, "localhost", "/api/notes", &json, "{}").await;
    assert_eq!((bad.status, bad.body.as_str()), (400, "text is missing"));
}

#[tokio::test]
async fn the_wasm_module_counts_primes() {
    let dev = Dev::start(&[&example("wasm")]);
    assert_eq!(dev.get("/100").await.json()["primes"], 25);
    assert_eq!(dev.get("/1000").await.json()["primes"], 168);
    assert_eq!(dev.get("/x").await.status, 400);
}

#[tokio::test]
async fn the_static_site_has_headers_redirects_and_a_404_page() {
    let dev = Dev::start(&[&example("static")]);
    let page = dev.get("/about").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let style = dev.get("/style.css").await;
    assert_eq!(style.header("cache-control"), "public, max-age=3600");
    let unchanged = dev.get_as("/style.css", &[("if-none-match", style.header("etag"))]).await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    let moved = dev.get("/home").await;
    assert_eq!((moved.status, moved.header("location")), (301, "/"));
    let missing = dev.get("/nowhere").await;
    assert_eq!(missing.status, 404);
    assert!(missing.body.contains("Nothing here"), "{}", missing.body);
}

#[tokio::test]
async fn several_apps_are_told_apart_by_host() {
    let (worker, site) = (example("worker"), example("static"));
    let dev = Dev::start(&[&worker, &site]);
    for (host, text) in [
        ("localhost", "Hello from Verge"),
        ("127.0.0.1", "Hello from Verge"),
        ("worker.localhost", "Hello from Verge"),
        ("static.localhost", "A static site"),
    ] {
        let answer = dev.ask(Method::GET, host, "/", &[], "").await;
        assert!(answer.body.contains(text), "{host}: {answer:?}");
    }
    for host in ["nobody.localhost", "evil.example", "192.168.1.1"] {
        let answer = dev.ask(Method::GET, host, "/", &[], "").await;
        assert_eq!((answer.status, answer.header("verge-fault")), (404, "unknown_host"), "{host}");
    }
}
