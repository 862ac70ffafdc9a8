//! Headers, conditions, ranges, encodings.

use std::io::Read;

use http::{Method, Request};
use http_body_util::BodyExt;
use verge_render::Assets;
use verge_types::{Body, NotFoundHandling};

use crate::{ask, config, folder, get, outcome};

fn with(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::Empty).unwrap()
}

#[tokio::test]
async fn etags_and_ranges() {
    let big = "0123456789".repeat(60_000);
    let dir = folder(&[("a.txt", "0123456789"), ("big.bin", &big)]);
    let assets = Assets::load(&config(dir.path()), None).unwrap();
    for path in ["/a.txt", "/big.bin"] {
        let response = assets.respond(&get(path)).unwrap();
        let etag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert_eq!(response.headers()["cache-control"], "public, max-age=0, must-revalidate");
        assert_eq!(response.headers()["cache-status"], "verge; hit; detail=asset");
        let whole = response.into_body().collect().await.unwrap().to_bytes();
        assert!(whole.starts_with(b"0123456789"));

        let weak = format!("\"x\", W/{etag}");
        let fresh = assets.respond(&with(path, &[("if-none-match", &weak)])).unwrap();
        assert_eq!(fresh.status(), 304);
        assert!(fresh.into_body().collect().await.unwrap().to_bytes().is_empty());

        let part =
            assets.respond(&with(path, &[("range", "bytes=2-5"), ("if-range", &etag)])).unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.headers()["content-range"], format!("bytes 2-5/{}", whole.len()).as_str());
        assert_eq!(part.into_body().collect().await.unwrap().to_bytes(), "2345");

        let stale = assets
            .respond(&with(path, &[("range", "bytes=2-5"), ("if-range", "\"old\"")]))
            .unwrap();
        assert_eq!(stale.status(), 200);
        let beyond = assets.respond(&with(path, &[("range", "bytes=9999999-")])).unwrap();
        assert_eq!(beyond.status(), 416);

        let head = Request::head(path).body(Body::Empty).unwrap();
        let head = assets.respond(&head).unwrap();
        assert_eq!(head.headers()["content-length"], whole.len().to_string().as_str());
        assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}

#[tokio::test]
async fn text_is_compressed_behind_the_scenes() {
    let text = "compress me ".repeat(1000);
    let dir = folder(&[("a.html", &text), ("ready.js", "plain"), ("ready.js.br", "BROTLI")]);
    let assets = Assets::load(&config(dir.path()), None).unwrap();
    let ready = assets.respond(&with("/ready.js", &[("accept-encoding", "gzip, br")])).unwrap();
    assert_eq!(ready.headers()["content-encoding"], "br");
    assert_eq!(ready.headers()["vary"], "accept-encoding");
    assert_eq!(outcome(Some(ready)).await, "200 BROTLI");

    for _ in 0..500 {
        let response = assets.respond(&with("/a", &[("accept-encoding", "gzip")])).unwrap();
        if response.headers().contains_key("content-encoding") {
            let plain_etag = assets.respond(&get("/a")).unwrap().headers()["etag"].clone();
            assert_ne!(response.headers()["etag"], plain_etag);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let mut unpacked = String::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut unpacked).unwrap();
            assert_eq!(unpacked, text);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never compressed");
}

#[tokio::test]
async fn header_and_redirect_files() {
    let dir = folder(&[
        ("index.html", "root"),
        ("app-B8fK2a1x.js", "js"),
        ("_headers", "/*\n  X-All: yes\n/app-*\n  Access-Control-Allow-Origin: *\n"),
        ("_redirects", "/old/* /new/:splat 301\n/alias / 200\n/out https://example.com/\n"),
    ]);
    let assets = Assets::load(&config(dir.path()), None).unwrap();
    assert!(assets.warnings().is_empty(), "{:?}", assets.warnings());
    let js = assets.respond(&get("/app-B8fK2a1x.js")).unwrap();
    assert_eq!(js.headers()["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(js.headers()["x-all"], "yes");
    assert_eq!(js.headers()["access-control-allow-origin"], "*");
    assert_eq!(ask(&assets, "/old/a/b?q=1").await, "301 /new/a/b?q=1");
    assert_eq!(ask(&assets, "/alias").await, "200 root");
    assert_eq!(ask(&assets, "/out").await, "302 https://example.com/");
    assert_eq!(ask(&assets, "/_headers").await, "miss");
    assert_eq!(ask(&assets, "/_redirects").await, "miss");
}

#[tokio::test]
async fn what_is_not_there() {
    let dir =
        folder(&[("index.html", "root"), ("404.html", "lost"), ("docs/404.html", "lost docs")]);
    let mut config = config(dir.path());
    for (mode, path, expected) in [
        (NotFoundHandling::None, "/x", "404 Not Found"),
        (NotFoundHandling::NotFoundPage, "/x/y", "404 lost"),
        (NotFoundHandling::NotFoundPage, "/docs/a/b", "404 lost docs"),
        (NotFoundHandling::SinglePageApplication, "/x/y", "200 root"),
    ] {
        config.not_found_handling = mode;
        let assets = Assets::load(&config, None).unwrap();
        assert_eq!(outcome(Some(assets.not_found(&get(path)))).await, expected, "{mode:?} {path}");
    }
    let assets = Assets::load(&config, None).unwrap();
    let mut post = get("/x");
    *post.method_mut() = Method::POST;
    let refused = assets.not_found(&post);
    assert_eq!(refused.status(), 405);
    assert_eq!(refused.headers()["allow"], "GET, HEAD");
}

#[tokio::test]
async fn a_second_scan_sees_what_changed() {
    let dir = folder(&[("a.txt", "one"), ("b.txt", "same")]);
    let first = Assets::load(&config(dir.path()), None).unwrap();
    std::fs::write(dir.path().join("a.txt"), "three").unwrap();
    std::fs::write(dir.path().join("c.txt"), "new").unwrap();
    let second = Assets::load(&config(dir.path()), Some(&first)).unwrap();
    assert_eq!(ask(&second, "/a.txt").await, "200 three");
    assert_eq!(ask(&second, "/b.txt").await, "200 same");
    assert_eq!(ask(&second, "/c.txt").await, "200 new");
    assert_eq!(ask(&first, "/c.txt").await, "miss");
}
