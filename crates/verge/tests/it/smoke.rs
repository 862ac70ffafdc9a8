//! What every engine must pass: apps of each kind, started and asked by the real binary. The
//! rest of the suite is held on V8 alone (docs/decisions/0004-quickjs-fallback.md).

use http::Method;
use http_body_util::BodyExt;

use super::harness::{Dev, example, project, verge};

/// The engine that the binary says it has.
fn engine() -> String {
    let output = verge(&["--version"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let engine = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    engine.unwrap_or_else(|| panic!("no engine in {text}")).0.to_owned()
}

#[test]
fn the_version_names_the_engine() {
    let wanted = if cfg!(feature = "quickjs") { "QuickJS " } else { "V8 " };
    assert!(engine().starts_with(wanted), "{}", engine());
}

#[tokio::test]
async fn what_does_not_hold_on_the_fallback_is_said_once() {
    let dev = Dev::start(&[&example("worker")]);
    let warnings = dev.count("warning");
    if cfg!(feature = "quickjs") {
        let text = dev.event("warning", 0)["message"].as_str().expect("text").to_owned();
        assert!(text.contains(&engine()) && text.contains("docs/decisions/0004"), "{text}");
        assert_eq!(warnings, 1);
    } else {
        assert_eq!(warnings, 0);
    }
}

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
async fn a_posted_body_is_echoed() {
    let dev = Dev::start(&[&example("worker")]);
    let text = "x".repeat(300_000);
    let answer = dev.ask(Method::POST, "localhost", "/echo", &[], &text).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == text, "{} bytes came back", answer.body.len());
}

#[tokio::test]
async fn the_static_site_answers() {
    let dev = Dev::start(&[&example("static")]);
    assert!(dev.get("/").await.body.contains("A static site"));
}

#[tokio::test]
async fn an_app_of_npm_packages_answers() {
    let dev = Dev::start(&[&example("hono")]);
    assert_eq!(dev.get("/").await.body, "Hello from Hono on Verge\n");
    let json = [("content-type", "application/json")];
    let made = dev.ask(Method::POST, "localhost", "/api/notes", &json, r#"{"text":"x"}"#).await;
    assert_eq!((made.status, made.json()["text"].as_str()), (201, Some("x")));
}

#[tokio::test]
async fn a_webassembly_module_runs() {
    let dev = Dev::start(&[&example("wasm")]);
    assert_eq!(dev.get("/1000").await.json()["primes"], 168);
}

#[tokio::test]
async fn node_built_ins_are_there_and_files_are_not() {
    // An interpreter, in a build that is not optimised, on a machine that may have other work.
    let config = r#"{ "main": "index.js", "limits": { "startup_time": "60s" } }"#;
    let app = r#"import { Buffer } from "node:buffer";
        import { createHash } from "node:crypto";
        import { AsyncLocalStorage } from "node:async_hooks";
        import { readFile } from "node:fs/promises";
        import path from "node:path";
        const storage = new AsyncLocalStorage();
        export default {
            async fetch() {
                const stored = await storage.run("kept", async () => {
                    await new Promise((done) => setTimeout(done, 1));
                    return storage.getStore();
                });
                const file = await readFile("/etc/hostname").then(() => "read", () => "refused");
                const base64 = Buffer.from("Verge").toString("base64");
                const hash = createHash("sha256").update("Verge").digest("hex");
                return Response.json({ stored, file, base64, hash, path: path.join("/a", "../b") });
            },
        };"#;
    let dir = project(&[("verge.jsonc", config), ("index.js", app)]);
    let dev = Dev::start(&[dir.path()]);
    let answer = dev.get("/").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let hash = "1b9add4861f96898742138993a1beb108c044482f686627cb008ff4e49f234ca";
    let wanted = serde_json::json!({
        "stored": "kept", "file": "refused", "base64": "VmVyZ2U=", "hash": hash, "path": "/b",
    });
    assert_eq!(answer.json(), wanted);
}

#[tokio::test]
async fn a_body_streams_while_it_is_made() {
    let dir = project(&[(
        "index.js",
        r#"let next;
        export default {
            fetch(request) {
                if (new URL(request.url).pathname === "/next") {
                    next();
                    return new Response("told");
                }
                const { readable, writable } = new TransformStream();
                const writer = writable.getWriter();
                const send = (text) => writer.write(new TextEncoder().encode(text));
                (async () => {
                    await send("first ");
                    await new Promise((done) => next = done);
                    await send("second");
                    await writer.close();
                })();
                return new Response(readable);
            },
        };"#,
    )]);
    let dev = Dev::start(&[dir.path()]);
    let mut response = dev.open(Method::GET, "localhost", "/", &[], "").await;
    let mut text = String::new();
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(bytes) = frame.expect("a frame").into_data() {
            // The second part is only made once the first was seen here.
            if text.is_empty() {
                assert_eq!(dev.get("/next").await.body, "told");
            }
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    assert_eq!(text, "first second");
}

#[tokio::test]
async fn an_uncaught_error_has_a_page_and_the_app_lives_on() {
    let dir = project(&[(
        "src/index.ts",
        "const fail = (what: string): never => {\n  throw new TypeError(`no ${what}`);\n};\n\
         export default {\n  fetch(request: Request) {\n    if (request.url.endsWith('/fail')) fail('luck');\n    \
         return new Response('fine');\n  },\n};\n",
    )]);
    let dev = Dev::start(&[dir.path()]);
    let page = dev.visit("/fail").await;
    assert_eq!(page.status, 500);
    assert!(page.body.contains("TypeError: no luck"), "{}", page.body);
    assert!(page.body.contains("src/index.ts"), "{}", page.body);
    assert_eq!(dev.get("/").await.body, "fine");
}

#[tokio::test]
async fn an_endless_loop_is_ended_and_the_app_lives_on() {
    let config = r#"{ "name": "app", "main": "index.js", "limits": { "cpu_time": "100ms" } }"#;
    let code = r#"export default {
        async fetch(request) {
            const { pathname } = new URL(request.url);
            if (pathname === "/loop") for (;;);
            if (pathname === "/later") { await scheduler.wait(1); for (;;); }
            if (pathname === "/regexp") return new Response(/^(a+)+$/.test("a".repeat(40) + "b"));
            return new Response("fine");
        },
    };"#;
    let dir = project(&[("verge.jsonc", config), ("index.js", code)]);
    let dev = Dev::start(&[dir.path()]);
    for path in ["/loop", "/later", "/regexp"] {
        let ended = dev.get(path).await;
        assert_eq!(ended.header("verge-fault"), "cpu_limit", "{path}: {ended:?}");
        assert_eq!(dev.get("/").await.body, "fine", "{path}");
    }
}
