//! Each limit, tripped by a real app behind the real gateway, while a neighbour is under load:
//! the page names the limit, the metric counts it, and the neighbour loses no request.

mod node;

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use verge_types::Limit;

use node::{Ask, Node, STEADY};

const HOSTILE: &str = r#"
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const hog = [];
const trips = {
    "/fine": () => new Response("fine"),
    // Computing.
    "/loop": () => { for (;;); },
    "/loop-later": async () => { await wait(5); for (;;); },
    "/microtasks": async () => { for (;;) await null; },
    "/regexp": () => new Response(String(/^(a+)+$/.test("a".repeat(40) + "b"))),
    "/regexp-late": async () => { await wait(1); return new Response(String(/(x+x+)+y/.exec("x".repeat(60)))); },
    "/timers": async () => { const spin = () => { for (let i = 0; i < 1e8; i++); setTimeout(spin, 0); }; spin(); await wait(60_000); },
    "/sort": () => { const a = Array.from({ length: 1 << 15 }, Math.random); for (;;) a.sort(() => Math.random() - 0.5); },
    // Memory.
    "/grow": () => { for (;;) hog.push(new Array(1000).fill({})); },
    "/map": () => { const map = new Map(); for (let i = 0;; i++) map.set(i, { i }); },
    "/split": () => { const s = "x".repeat(1 << 28); for (;;) hog.push((s + hog.length).split("")); },
    "/flatten": () => { for (;;) hog.push("ab".repeat((1 << 28) - 20 - hog.length).replace("b", "c")); },
    "/json": () => { const s = "[" + "1,".repeat(50_000_000) + "0]"; for (;;) hog.push(JSON.parse(s)); },
    "/json-objects": () => { const s = "[" + '{"a":1},'.repeat(2_000_000) + "0]"; for (;;) hog.push(JSON.parse(s)); },
    "/stringify": () => { const a = new Array(1 << 20).fill("x".repeat(100)); for (;;) hog.push(JSON.stringify(a).split("")); },
    "/promises": async () => { const all = []; for (;;) { all.push(new Promise(() => {})); if (all.length % 1e5 === 0) await null; } },
    // Memory outside the heap.
    "/arrays": () => { for (;;) hog.push(new Uint8Array(1 << 20)); },
    "/one-array": () => new Response(String(new Uint8Array(2 ** 32).length)),
    "/encode": () => { const s = "x".repeat(1 << 24); for (;;) hog.push(new TextEncoder().encode(s)); },
    "/keep": () => { hog.push(new TextEncoder().encode("x".repeat(1 << 22))); return new Response("kept"); },
    "/blob": async () => { for (;;) hog.push(await new Blob([new Uint8Array(1 << 22)]).arrayBuffer()); },
    // Thrown where it happens.
    "/deep": () => { const f = () => f() + 1; return new Response(String(f())); },
    "/long-string": () => new Response("x".repeat(2 ** 30)),
    "/rejected": () => Promise.reject(new Error("secret-detail")),
    "/throw-null": () => { throw null; },
    "/throw-symbol": () => { throw Symbol("secret-detail"); },
    "/throw-trap": () => { throw { get message() { throw this; }, get stack() { throw this; }, toString() { throw this; } }; },
    "/throw-proxy": () => { throw new Proxy({}, { get() { throw new Error("secret-detail"); }, getPrototypeOf() { throw 1; } }); },
    "/no-response": () => 7,
    // Bodies.
    "/read": async (request) => new Response(String((await request.text()).length)),
    "/body": () => new Response("x".repeat(20_000)),
    "/body-bytes": () => new Response(new Uint8Array(20_000), { headers: { "x-a": "b" } }),
    "/stream": () => new Response(new ReadableStream({ async pull(c) { await wait(1); c.enqueue(new Uint8Array(1000)); } })),
    "/stream-throws": () => { let n = 0; return new Response(new ReadableStream({ async pull(c) { await wait(1); if (n++ === 3) throw new Error("secret-detail"); c.enqueue(new Uint8Array(100)); } })); },
    "/stream-loops": () => { let n = 0; return new Response(new ReadableStream({ async pull(c) { await wait(1); if (n++ === 3) for (;;); c.enqueue(new Uint8Array(100)); } })); },
    "/stream-grows": () => { let n = 0; return new Response(new ReadableStream({ async pull(c) { await wait(1); if (n++ === 3) for (;;) hog.push(new Array(1000).fill({})); c.enqueue(new Uint8Array(100)); } })); },
    // Time, others, at once.
    "/wait": async () => { await wait(60_000); return new Response("late"); },
    "/hold": async () => { await wait(700); return new Response("held"); },
    "/subrequests": async () => { for (let i = 0; i < 5; i++) await fetch("http://127.0.0.1:1/").catch((e) => { if (e.name === "LimitError") throw e; }); },
};
export default { fetch: (request) => trips[new URL(request.url).pathname](request) };
"#;

const LIMITS: &[(&str, &str)] = &[
    ("heap", "32MiB"),
    ("external_memory", "16MiB"),
    ("cpu_time", "300ms"),
    ("wall_time", "1500ms"),
    ("request_body", "10000"),
    ("response_body", "10000"),
    ("subrequests", "3"),
    ("concurrent_requests", "4"),
];

async fn node() -> Node {
    Node::start(&[("steady", STEADY, &[]), ("hostile", HOSTILE, LIMITS)]).await
}

/// One where memory ends what time would end first.
async fn node_with_time() -> Node {
    node_without(&["cpu_time", "wall_time"]).await
}

/// One where these limits of time are far away, however slow the machine is.
async fn node_without(far: &[&str]) -> Node {
    let limits: Vec<_> = LIMITS
        .iter()
        .map(|(key, value)| (*key, if far.contains(key) { "50s" } else { value }))
        .collect();
    Node::start(&[("steady", STEADY, &[]), ("hostile", HOSTILE, &limits)]).await
}

/// Nothing of the machine, the engine or the app's code is on a page.
fn assert_discreet(path: &str, page: &str) {
    for internal in
        ["secret-detail", ".rs:", "/app/", "index.js", "ext:", "stack", "isolate-", "panicked"]
    {
        assert!(!page.contains(internal), "{path}: {internal} in {page}");
    }
}

/// The page names the limit and its value, once for programs and once for people.
async fn assert_page(node: &Node, path: &str, limit: Limit, value: u64) {
    let spec = limit.spec();
    let answer = node.ask("hostile", Ask::get(path).accept("application/json")).await;
    let code = answer.header("verge-fault").to_owned();
    assert_eq!((answer.status, code.as_str()), (spec.status, spec.code), "{path}: {}", answer.text);
    assert_discreet(path, &answer.text);
    let page: Value = serde_json::from_str(&answer.text).unwrap();
    let unit = &page["error"]["limit"]["unit"];
    assert_eq!(
        page["error"]["limit"],
        json!({ "name": spec.key, "value": value, "unit": unit }),
        "{path}"
    );
    assert_eq!(node.ask("hostile", Ask::get("/fine")).await.text, "fine", "after {path}");
}

async fn assert_counted(node: &Node, app: &str, limit: Limit) {
    let line = format!("verge_limit_hits_total{{app=\"{app}\",limit=\"{}\"}}", limit.spec().code);
    // What isolates count themselves they tell every quarter of a second.
    for _ in 0..40 {
        if node.metrics.expose().contains(&line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{line} is missing in\n{}", node.metrics.expose());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cpu_time() {
    let node = node_without(&["wall_time"]).await;
    let load = node.load("steady").await;
    for path in
        ["/loop", "/loop-later", "/microtasks", "/regexp", "/regexp-late", "/timers", "/sort"]
    {
        assert_page(&node, path, Limit::CpuTime, 300).await;
    }
    assert_counted(&node, "hostile", Limit::CpuTime).await;
    load.assert_nothing_lost("cpu_time").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heap() {
    let node = node_with_time().await;
    let load = node.load("steady").await;
    for path in ["/grow", "/map", "/split", "/json", "/json-objects", "/stringify", "/promises"] {
        assert_page(&node, path, Limit::Heap, 32 << 20).await;
    }
    // Ends at V8's own longest string or at the heap, whichever comes first.
    let answer = node.ask("hostile", Ask::get("/flatten")).await;
    assert!(
        ["heap_limit", "guest_exception"].contains(&answer.header("verge-fault")),
        "{answer:?}"
    );
    assert_counted(&node, "hostile", Limit::Heap).await;
    load.assert_nothing_lost("heap").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_memory() {
    let node = node_with_time().await;
    let load = node.load("steady").await;
    // Little by little, all of it kept: each request is answered, and the isolate that holds
    // too much is replaced.
    for _ in 0..12 {
        assert_eq!(node.ask("hostile", Ask::get("/keep")).await.text, "kept");
    }
    assert_counted(&node, "hostile", Limit::ExternalMemory).await;
    for path in ["/arrays", "/one-array", "/encode", "/blob"] {
        assert_page(&node, path, Limit::ExternalMemory, 16 << 20).await;
    }
    load.assert_nothing_lost("external_memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_thrown_is_that_requests_failure_and_no_more() {
    let node = node().await;
    let load = node.load("steady").await;
    for path in [
        "/deep",
        "/long-string",
        "/rejected",
        "/throw-null",
        "/throw-symbol",
        "/throw-trap",
        "/throw-proxy",
        "/no-response",
        "/nowhere",
    ] {
        let answer = node.ask("hostile", Ask::get(path)).await;
        assert_eq!(
            (answer.status, answer.header("verge-fault")),
            (500, "guest_exception"),
            "{path}"
        );
        assert_discreet(path, &answer.text);
        assert_eq!(node.ask("hostile", Ask::get("/fine")).await.text, "fine", "after {path}");
    }
    load.assert_nothing_lost("exceptions").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_fails_on_its_way_is_cut_and_not_ended() {
    let node = node().await;
    let load = node.load("steady").await;
    for path in ["/stream", "/stream-throws", "/stream-loops", "/stream-grows"] {
        let answer = node.ask("hostile", Ask::get(path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.cut, "{path} ended as if it were whole: {} bytes", answer.text.len());
        assert_eq!(node.ask("hostile", Ask::get("/fine")).await.text, "fine", "after {path}");
    }
    assert_counted(&node, "hostile", Limit::ResponseBody).await;
    assert_counted(&node, "hostile", Limit::CpuTime).await;
    load.assert_nothing_lost("streams").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies() {
    let node = node().await;
    let load = node.load("steady").await;
    assert_page(&node, "/body", Limit::ResponseBody, 10_000).await;
    assert_page(&node, "/body-bytes", Limit::ResponseBody, 10_000).await;
    assert_counted(&node, "hostile", Limit::ResponseBody).await;
    for chunked in [false, true] {
        let ask =
            Ask { method: Method::POST, body: "x".repeat(20_000), chunked, ..Ask::get("/read") };
        let answer = node.ask("hostile", ask).await;
        assert_eq!(
            (answer.status, answer.header("verge-fault")),
            (413, "request_body_limit"),
            "{answer:?}"
        );
        assert!(answer.text.contains("10000"), "{answer:?}");
        assert_discreet("/read", &answer.text);
    }
    let ask = Ask { method: Method::POST, body: "x".repeat(9_999), ..Ask::get("/read") };
    assert_eq!(node.ask("hostile", ask).await.text, "9999");
    assert_counted(&node, "hostile", Limit::RequestBody).await;
    load.assert_nothing_lost("bodies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wall_time_and_subrequests() {
    let node = node().await;
    let load = node.load("steady").await;
    assert_page(&node, "/wait", Limit::WallTime, 1_500).await;
    assert_counted(&node, "hostile", Limit::WallTime).await;
    assert_page(&node, "/subrequests", Limit::Subrequests, 3).await;
    assert_counted(&node, "hostile", Limit::Subrequests).await;
    load.assert_nothing_lost("wall_time, subrequests").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests() {
    let node = node().await;
    let load = node.load("steady").await;
    assert_eq!(node.ask("hostile", Ask::get("/fine")).await.text, "fine");
    let asked = (0..12).map(|_| node.ask("hostile", Ask::get("/hold")));
    let answers = futures_util::future::join_all(asked).await;
    let held = answers.iter().filter(|answer| answer.text == "held").count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(held >= 4, "{answers:?}");
    assert_eq!(held + refused.len(), 12, "{answers:?}");
    for answer in refused {
        assert_eq!(answer.header("verge-fault"), "concurrency_limit");
        assert_eq!(answer.header("retry-after"), "1");
        assert_discreet("/hold", &answer.text);
    }
    assert_counted(&node, "hostile", Limit::ConcurrentRequests).await;
    load.assert_nothing_lost("concurrent_requests").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_starts_an_app() {
    let large = format!("// {}\nexport default {{ fetch() {{}} }}", "x".repeat(2_000));
    let node = Node::start(&[
        ("steady", STEADY, &[]),
        ("looping", "for (;;); export default { fetch() {} }", &[("startup_time", "50ms")]),
        (
            "waiting",
            "await new Promise(() => {}); export default { fetch() {} }",
            &[("wall_time", "500ms")],
        ),
        (
            "growing",
            "const hog = []; for (;;) hog.push(new Array(1000).fill({}));",
            &[("heap", "32MiB"), ("startup_time", "60s")],
        ),
        ("large", &large, &[("script_size", "1KiB")]),
        ("throwing", "throw new Error('secret-detail')", &[]),
    ])
    .await;
    let load = node.load("steady").await;
    for (app, status, code, limit) in [
        ("looping", 503, "startup_limit", Some(Limit::StartupTime)),
        ("growing", 503, "heap_limit", Some(Limit::Heap)),
        ("large", 500, "script_size_limit", Some(Limit::ScriptSize)),
        ("throwing", 500, "startup_failed", None),
    ] {
        // Twice: a start that failed is not remembered as a good one.
        for _ in 0..2 {
            let answer = node.ask(app, Ask::get("/").accept("application/json")).await;
            assert_eq!((answer.status, answer.header("verge-fault")), (status, code), "{answer:?}");
            assert_discreet(app, &answer.text);
            if let Some(limit) = limit {
                let page: Value = serde_json::from_str(&answer.text).unwrap();
                assert_eq!(page["error"]["limit"]["name"], limit.spec().key);
            }
        }
        if let Some(limit) = limit {
            assert_counted(&node, app, limit).await;
        }
    }
    // Top-level code that waits for ever is held by the request's wall time.
    let answer = node.ask("waiting", Ask::get("/")).await;
    assert_eq!(answer.header("verge-fault"), "wall_time_limit", "{answer:?}");
    load.assert_nothing_lost("start").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolates_tell_what_they_use() {
    let source = r#"export default { async fetch() { const end = Date.now() + 30; let n = 0; while (performance.now() && n < 3e6) n++; return new Response(String(n)); } }"#;
    let node = Node::start(&[("busy", source, &[("cpu_time", "20s")])]).await;
    let number = |line: &str| -> Option<f64> {
        let text = node.metrics.expose();
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
    };
    node.ask("busy", Ask::get("/")).await;
    for _ in 0..100 {
        let cpu = number("verge_cpu_seconds_total{app=\"busy\"}").unwrap_or(0.0);
        let heap = number("verge_heap_bytes{app=\"busy\"}").unwrap_or(0.0);
        if cpu > 0.01 && heap > 100_000.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let text = node.metrics.expose();
    assert!(
        number("verge_cpu_seconds_total{app=\"busy\"}").is_some_and(|cpu| cpu > 0.01),
        "{text}"
    );
    assert!(
        number("verge_heap_bytes{app=\"busy\"}").is_some_and(|heap| heap > 100_000.0),
        "{text}"
    );
    assert_eq!(number("verge_isolates{app=\"busy\"}"), Some(1.0), "{text}");
    assert_eq!(
        number("verge_isolate_starts_total{app=\"busy\",start=\"pooled\"}"),
        Some(1.0),
        "{text}"
    );
    assert_eq!(number("verge_isolate_start_seconds_count"), Some(1.0), "{text}");
    assert_eq!(number("verge_cpu_per_request_seconds_count"), Some(1.0), "{text}");
    node.retire("busy");
    for _ in 0..100 {
        if number("verge_isolates{app=\"busy\"}") == Some(0.0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(number("verge_isolates{app=\"busy\"}"), Some(0.0));
    assert_eq!(number("verge_heap_bytes{app=\"busy\"}"), Some(0.0));
}
