//! App shapes, handlers, modules, bindings.

use http::Request;
use verge_types::{Binding, Body, ModuleKind, ServiceTarget};

use crate::harness::{AppSpec, World, get, get_text, send, text};

#[tokio::test]
async fn a_module_worker_answers() {
    let world = World::new();
    let app = world.app(r#"export default { fetch(request) { return new Response("hello " + new URL(request.url).pathname) } }"#);
    assert_eq!(get_text(&app, "/you?x=1").await, "hello /you");
}

#[tokio::test]
async fn a_deno_program_answers() {
    let world = World::new();
    let app = world.app(r#"Deno.serve({ port: 1 }, async (req, info) => Response.json({ at: info.remoteAddr.hostname }))"#);
    assert_eq!(get_text(&app, "/").await, r#"{"at":"203.0.113.9"}"#);
}

#[tokio::test]
async fn the_request_is_all_there() {
    let world = World::new();
    let app = world.app(
        r#"export default { async fetch(request, env) {
            return Response.json({
                method: request.method, url: request.url, agent: request.headers.get("user-agent"),
                body: await request.text(), country: request.cf.country, greeting: env.GREETING, n: env.N.deep,
            });
        } }"#,
    );
    drop(app);
    let app = world.load(
        AppSpec::new(
            r#"export default { async fetch(request, env) {
                return Response.json({
                    method: request.method, url: request.url, agent: request.headers.get("user-agent"),
                    body: await request.text(), country: request.cf.country, greeting: env.GREETING, n: env.N.deep,
                });
            } }"#,
        )
        .bind("GREETING", Binding::Var { value: "hi".into() })
        .bind("N", Binding::Var { value: serde_json::json!({ "deep": 3 }) }),
    );
    let request = Request::put("http://test.example/a/b?c=%20d")
        .header("user-agent", "probe/1")
        .body(Body::from("payload"))
        .unwrap();
    let answer: serde_json::Value =
        serde_json::from_str(&text(send(&app, request).await.unwrap()).await).unwrap();
    assert_eq!(
        answer,
        serde_json::json!({
            "method": "PUT", "url": "http://test.example/a/b?c=%20d", "agent": "probe/1",
            "body": "payload", "country": "DE", "greeting": "hi", "n": 3,
        })
    );
}

#[tokio::test]
async fn a_response_streams_as_it_is_made() {
    let world = World::new();
    let app = world.app(
        r#"export default { fetch() {
            const { readable, writable } = new TransformStream();
            (async () => {
                const writer = writable.getWriter();
                for (let i = 0; i < 5; i++) { await writer.write(new TextEncoder().encode(i + ",")); await scheduler.wait(5); }
                await writer.close();
            })();
            return new Response(readable, { headers: { "x-kind": "stream" } });
        } }"#,
    );
    let response = get(&app, "/").await.unwrap();
    assert_eq!(response.headers()["x-kind"], "stream");
    assert_eq!(text(response).await, "0,1,2,3,4,");
}

#[tokio::test]
async fn modules_of_all_kinds_load() {
    let world = World::new();
    // (module (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))
    let wasm: &[u8] = &[
        0, 97, 115, 109, 1, 0, 0, 0, 1, 7, 1, 96, 2, 127, 127, 1, 127, 3, 2, 1, 0, 7, 7, 1, 3, 97,
        100, 100, 0, 0, 10, 9, 1, 7, 0, 32, 0, 32, 1, 106, 11,
    ];
    let app = world.load(
        AppSpec::new(
            r#"
            import add from "./add.wasm";
            import text from "./note.txt";
            import data from "./data.bin";
            import json from "./data.json";
            import typed from "./data.json" with { type: "json" };
            import { basename } from "node:path";
            import { Buffer } from "node:buffer";
            import { AsyncLocalStorage } from "node:async_hooks";
            const late = await import("./late.js");
            const storage = new AsyncLocalStorage();
            const instance = new WebAssembly.Instance(add);
            export default { async fetch() {
                const stored = await storage.run("kept", async () => { await scheduler.wait(1); return storage.getStore(); });
                return Response.json([instance.exports.add(40, 2), text, new Uint8Array(data)[1], json.a, typed.a,
                    basename("/x/y.js"), Buffer.from("hi").toString("base64"), late.value, stored]);
            } }"#,
        )
        .module("add.wasm", ModuleKind::Wasm, wasm)
        .module("note.txt", ModuleKind::Text, b"a \"note\"")
        .module("data.bin", ModuleKind::Data, &[1, 2, 3])
        .module("data.json", ModuleKind::Json, br#"{"a":[1]}"#)
        .module("late.js", ModuleKind::Esm, b"export const value = import.meta.url;"),
    );
    assert_eq!(
        get_text(&app, "/").await,
        r#"[42,"a \"note\"",2,[1],[1],"y.js","aGk=","file:///app/late.js","kept"]"#
    );
}

#[tokio::test]
async fn a_thrown_error_is_a_fault_and_the_isolate_lives_on() {
    let world = World::new();
    let app = world.app(
        r#"let n = 0; export default { fetch(request) {
            n++;
            const { pathname } = new URL(request.url);
            if (pathname === "/throw") throw new Error("boom");
            if (pathname === "/reject") return Promise.reject("not an error");
            if (pathname === "/nothing") return undefined;
            if (pathname === "/stray") { Promise.reject(new Error("stray")); return new Response("ok"); }
            return new Response(String(n));
        } }"#,
    );
    for path in ["/throw", "/reject", "/nothing"] {
        let fault = get(&app, path).await.unwrap_err();
        assert_eq!((fault.code, fault.status), ("guest_exception", 500), "{path}");
    }
    assert_eq!(get_text(&app, "/stray").await, "ok");
    assert_eq!(get_text(&app, "/").await, "5");
    let logs = world.logs.text();
    assert!(logs.contains("boom") && logs.contains("not an error"), "{logs}");
    assert!(logs.contains("must return a Response"), "{logs}");
    world.logs.wait_for("stray").await;
}

#[tokio::test]
async fn wait_until_outlives_the_answer() {
    let world = World::new();
    let app = world.app(
        r#"let done = "no"; export default { fetch(request, env, ctx) {
            if (request.url.endsWith("/ask")) return new Response(done);
            ctx.waitUntil(scheduler.wait(20).then(() => { done = "yes" }));
            return new Response("started");
        } }"#,
    );
    assert_eq!(get_text(&app, "/").await, "started");
    for _ in 0..100 {
        if get_text(&app, "/ask").await == "yes" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the promise given to waitUntil never ran");
}

#[tokio::test]
async fn apps_call_each_other() {
    let world = World::new();
    let _callee = world.load(
        AppSpec::new(
            r#"import { WorkerEntrypoint } from "cloudflare:workers";
            export class Admin extends WorkerEntrypoint {
                add(a, b) { return { sum: a + b, by: this.ctx.props.who, when: new Date(0) }; }
                fail() { throw new RangeError("too far"); }
            }
            export default { fetch: (request) => new Response("callee " + new URL(request.url).pathname) }"#,
        )
        .named("callee"),
    );
    let target = |entrypoint: Option<&str>| {
        Binding::Service(ServiceTarget {
            service: "callee".into(),
            entrypoint: entrypoint.map(Into::into),
            props: if entrypoint.is_some() {
                serde_json::json!({ "who": "caller" })
            } else {
                serde_json::Value::Null
            },
        })
    };
    let caller = world.load(
        AppSpec::new(
            r#"export default { async fetch(request, env) {
                const page = await (await env.CALLEE.fetch("http://x/page")).text();
                const sum = await env.ADMIN.add(2, 3);
                const error = await env.ADMIN.fail().catch((e) => e);
                return Response.json([page, sum.sum, sum.by, sum.when instanceof Date, error instanceof RangeError, error.message]);
            } }"#,
        )
        .named("caller")
        .bind("CALLEE", target(None))
        .bind("ADMIN", target(Some("Admin"))),
    );
    assert_eq!(get_text(&caller, "/").await, r#"["callee /page",5,"caller",true,true,"too far"]"#);
}

/// The fields that tell who the client is are there for an app that is asked from outside, whole
/// or one by one, and are not put among those that one app sends another.
#[tokio::test]
async fn an_app_is_told_who_its_client_is() {
    const SHOW: &str = r#"const show = (headers) =>
        [...headers].filter(([name]) => /^x-|^cf-/.test(name)).map((field) => field.join("=")).join(" ");"#;
    let world = World::new();
    let _callee = world.load(
        AppSpec::new(&format!(
            "{SHOW} export default {{ fetch: (request) => new Response(show(request.headers)) }}"
        ))
        .named("callee"),
    );
    let target = ServiceTarget {
        service: "callee".into(),
        entrypoint: None,
        props: serde_json::Value::Null,
    };
    let app = world.load(
        AppSpec::new(&format!(
            r#"{SHOW} export default {{ async fetch(request, env) {{
                const path = new URL(request.url).pathname;
                if (path === "/one") return new Response(request.headers.get("cf-connecting-ip"));
                if (path === "/clone") return new Response(show(request.clone().headers));
                if (path === "/on") return env.CALLEE.fetch(request);
                if (path === "/anew") return env.CALLEE.fetch("http://x/", {{ headers: {{ "x-real-ip": "mine" }} }});
                return new Response(show(request.headers));
            }} }}"#
        ))
        .named("caller")
        .bind("CALLEE", Binding::Service(target)),
    );
    let all = "cf-connecting-ip=203.0.113.9 x-forwarded-for=203.0.113.9 x-forwarded-proto=http \
               x-real-ip=203.0.113.9";
    assert_eq!(get_text(&app, "/").await, all);
    assert_eq!(get_text(&app, "/one").await, "203.0.113.9");
    assert_eq!(get_text(&app, "/clone").await, all);
    assert_eq!(get_text(&app, "/on").await, all);
    assert_eq!(get_text(&app, "/anew").await, "x-real-ip=mine");
}

#[tokio::test]
async fn there_is_no_ambient_authority() {
    let world = World::new();
    let app = world.app(
        r#"import fs from "node:fs"; import process from "node:process"; import os from "node:os";
        import child from "node:child_process"; import net from "node:net";
        const attempt = (f) => { try { return "GOT " + JSON.stringify(f()) } catch (e) { return "refused" } };
        export default { async fetch() {
            return Response.json({
                read: attempt(() => fs.readFileSync("/etc/passwd", "utf8")),
                write: attempt(() => fs.writeFileSync("/tmp/verge-must-not-exist", "x")),
                env: process.env.PATH ?? "absent", home: process.env.HOME ?? "absent",
                exit: attempt(() => process.exit(3)),
                kill: attempt(() => process.kill(process.pid, "SIGKILL")),
                spawn: attempt(() => child.spawnSync("id").status ?? (() => { throw 1 })()),
                host: attempt(() => os.hostname()),
                core: attempt(() => globalThis["De" + "no"].core.ops.op_print("x")), boot: typeof __bootstrap,
                sab: typeof SharedArrayBuffer, verge: typeof __verge, deno: typeof globalThis["De" + "no"],
                ext: await import("ext:" + "core/ops").then(() => "GOT", () => "refused"),
                data: await import("verge:" + "module-data").then(() => "GOT", () => "refused"),
                outside: await import("./../../etc/passwd").then(() => "GOT", () => "refused"),
            });
        } }"#,
    );
    let answer = get_text(&app, "/").await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    for (key, value) in answer.as_object().unwrap() {
        let value = value.as_str().unwrap();
        assert!(["refused", "absent", "undefined"].contains(&value), "{key}: {value}");
    }
    assert!(!std::path::Path::new("/tmp/verge-must-not-exist").exists());
}

#[tokio::test]
async fn a_body_brings_its_content_type() {
    let world = World::new();
    let app = world.app(
        r#"const answers = {
            "/text": () => new Response("a"),
            "/text-init": () => new Response("a", { status: 200 }),
            "/text-headers": () => new Response("a", { headers: { "x-a": "b" } }),
            "/own": () => new Response("a", { headers: { "content-type": "text/html" } }),
            "/set": () => { const r = new Response("a"); r.headers.set("content-type", "text/css"); return r },
            "/removed": () => { const r = new Response("a"); r.headers.delete("content-type"); return r },
            "/json": () => Response.json({ a: 1 }),
            "/json-init": () => Response.json({ a: 1 }, { status: 201 }),
            "/bytes": () => new Response(new Uint8Array([97])),
            "/params": () => new Response(new URLSearchParams({ a: "b" })),
            "/blob": () => new Response(new Blob(["a"], { type: "image/png" })),
            "/clone": () => new Response("a").clone(),
        };
        export default { fetch: (request) => answers[new URL(request.url).pathname]() };"#,
    );
    for (path, expected) in [
        ("/text", Some("text/plain;charset=UTF-8")),
        ("/text-init", Some("text/plain;charset=UTF-8")),
        ("/text-headers", Some("text/plain;charset=UTF-8")),
        ("/own", Some("text/html")),
        ("/set", Some("text/css")),
        ("/removed", None),
        ("/json", Some("application/json")),
        ("/json-init", Some("application/json")),
        ("/bytes", None),
        ("/params", Some("application/x-www-form-urlencoded;charset=UTF-8")),
        ("/blob", Some("image/png")),
        ("/clone", Some("text/plain;charset=UTF-8")),
    ] {
        let response = get(&app, path).await.expect("an answer");
        let sent = response.headers().get("content-type").map(|value| value.to_str().unwrap());
        assert_eq!(sent, expected, "{path}");
    }
}

#[tokio::test]
async fn logs_have_no_colours_and_stacks_no_engine() {
    let world = World::new();
    let app = world.app(
        r#"export default { fetch(request) {
            console.log({ a: [1, "b", true] });
            if (request.url.endsWith("/object")) throw { code: 7 };
            throw new TypeError("outer", { cause: new Error("inner", { cause: "deep" }) });
        } };"#,
    );
    let fault = get(&app, "/").await.expect_err("it throws");
    let detail = fault.detail.expect("a stack");
    assert!(
        detail.starts_with("TypeError: outer\n    at Object.fetch (index.js:4:19)"),
        "{detail}"
    );
    assert!(detail.contains("\nCaused by: Error: inner\n"), "{detail}");
    assert!(detail.ends_with("\nCaused by: deep"), "{detail}");
    assert!(!detail.contains("ext:"), "{detail}");
    let fault = get(&app, "/object").await.expect_err("it throws");
    assert_eq!(fault.detail.as_deref(), Some("Uncaught { code: 7 }"));
    let logs = world.logs.text();
    assert!(logs.starts_with("{ a: [ 1, \"b\", true ] }\n"), "{logs}");
    assert!(!logs.contains("ext:") && !logs.contains('\u{1b}'), "{logs}");
}

/// On a listener's loop a plain response is given the table that its request's headers were in.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_has_its_own_headers_and_none_of_its_request() {
    let world = World::new();
    let app = world.app(
        r#"export default { fetch(request) {
            const { pathname } = new URL(request.url);
            if (pathname === "/bytes") return new Response(new Uint8Array([111, 107]));
            if (pathname === "/set") return new Response("ok", { headers: { "x-own": "1" } });
            return new Response("ok", pathname === "/html" ? { headers: { "content-type": "text/html" } } : {});
        } }"#,
    );
    for (path, expected) in [
        ("/", vec![("content-type", "text/plain;charset=UTF-8")]),
        ("/html", vec![("content-type", "text/html")]),
        ("/set", vec![("content-type", "text/plain;charset=UTF-8"), ("x-own", "1")]),
        ("/bytes", vec![]),
    ] {
        let mut request = Request::get(format!("http://test.example{path}"));
        for n in 0..20 {
            request = request.header(format!("x-secret-{n}"), "a word");
        }
        let request = request.header("content-type", "a/b").body(Body::Empty).unwrap();
        let response = send(&app, request).await.unwrap();
        let mut headers: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        headers.sort_unstable();
        assert_eq!(headers, expected, "{path}");
        assert_eq!(text(response).await, "ok");
    }
}
