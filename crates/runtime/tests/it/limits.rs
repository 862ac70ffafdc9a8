//! Each limit, tripped by a real app; the process and the other apps live on.

use verge_types::{Binding, Limit, ModuleKind, ServiceTarget};

use crate::harness::{AppSpec, World, get, get_text, text};

#[tokio::test]
async fn an_endless_loop_ends_that_request_and_nothing_else() {
    let world = World::new();
    let app = world.load(
        AppSpec::new(
            r#"let n = 0; export default { async fetch(request) {
                const { pathname } = new URL(request.url);
                if (pathname === "/loop") { for (;;) {} }
                if (pathname === "/late") { await scheduler.wait(5); for (;;) {} }
                if (pathname === "/microtasks") { for (;;) await null; }
                if (pathname === "/regexp") { return new Response(String(/^(a+)+$/.test("a".repeat(40) + "b"))); }
                if (pathname === "/slow") { await scheduler.wait(400); return new Response("slow but fine"); }
                return new Response("fine");
            } }"#,
        )
        .limit("cpu_time", "100ms"),
    );
    for path in ["/loop", "/late", "/microtasks", "/regexp"] {
        let (slow, fault) = tokio::join!(get_text(&app, "/slow"), async {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            get(&app, path).await.unwrap_err()
        });
        assert_eq!(fault.code, "cpu_limit", "{path}: {fault}");
        assert_eq!(slow, "slow but fine", "{path}");
        assert_eq!(get_text(&app, "/").await, "fine", "{path}");
    }
}

#[tokio::test]
async fn a_heap_bomb_never_takes_the_process_down() {
    let world = World::new();
    let app = world.load(
        AppSpec::new(
            r#"export default { async fetch(request) {
                const { pathname } = new URL(request.url);
                const hog = [];
                if (pathname === "/grow") { for (;;) hog.push(new Array(1000).fill({})); }
                if (pathname === "/string") { let s = "x".repeat(1 << 28); for (;;) hog.push((s + hog.length).split("")); }
                if (pathname === "/flat") { for (;;) hog.push("ab".repeat((1 << 28) - 20 - hog.length).replace("b", "c")); }
                if (pathname.startsWith("/json")) { const s = "[" + (pathname === "/json" ? "1," : "[],").repeat(pathname === "/json" ? 50_000_000 : 4_000_000) + "0]"; for (;;) hog.push(JSON.parse(s)); }
                if (pathname === "/fill") { for (;;) hog.push(new Array(1 << 25).fill(1.5)); }
                return new Response("fine");
            } }"#,
        )
        .limit("heap", "64MiB")
        .limit("cpu_time", "60s"),
    );
    for path in ["/grow", "/string", "/flat", "/json", "/json-nested", "/fill"] {
        let fault = get(&app, path).await.unwrap_err();
        assert!(["heap_limit", "guest_exception"].contains(&fault.code), "{path}: {fault}");
        assert_eq!(get_text(&app, "/").await, "fine", "{path}");
    }
}

#[tokio::test]
async fn typed_arrays_and_recursion_throw_where_they_are() {
    let world = World::new();
    let app = world.load(
        AppSpec::new(
            r#"export default { async fetch(request) {
                const { pathname } = new URL(request.url);
                try {
                    if (pathname === "/arrays") { const hog = []; for (;;) hog.push(new Uint8Array(1 << 20)); }
                    if (pathname === "/huge") return new Response(String(new Uint8Array(2 ** 33).length));
                    if (pathname === "/wasm") { const m = new WebAssembly.Memory({ initial: 65536 }); return new Response(String(m.buffer.byteLength)); }
                    if (pathname === "/deep") { const f = () => f() + 1; return new Response(String(f())); }
                    if (pathname === "/deepjson") { JSON.parse("[".repeat(10_000_000)); }
                    if (pathname === "/deepclone") { let o = {}; for (let i = 0; i < 200_000; i++) o = { o }; structuredClone(o); }
                } catch (e) { return new Response(e.constructor.name); }
                return new Response("fine");
            } }"#,
        )
        .limit("external_memory", "16MiB")
        .limit("cpu_time", "20s"),
    );
    for path in ["/arrays", "/huge", "/wasm", "/deep", "/deepclone"] {
        let answer = get(&app, path).await.unwrap_or_else(|fault| panic!("{path}: {fault}"));
        assert_eq!(text(answer).await, "RangeError", "{path}");
    }
    // Ten million nested arrays: either the parser's own end or the heap's.
    match get(&app, "/deepjson").await {
        Ok(response) => assert_eq!(text(response).await, "SyntaxError"),
        Err(fault) => assert_eq!(fault.code, "heap_limit"),
    }
    assert_eq!(get_text(&app, "/").await, "fine");
}

#[tokio::test]
async fn top_level_code_has_its_own_limit() {
    let world = World::new();
    let app = world.load(
        AppSpec::new("for (;;) {} export default { fetch() {} }").limit("startup_time", "50ms"),
    );
    assert_eq!(get(&app, "/").await.unwrap_err().code, "startup_limit");
    let app = world.app("export default { fetch() {} } ; throw new Error('at the top')");
    let fault = get(&app, "/").await.unwrap_err();
    assert_eq!(fault.code, "startup_failed");
    assert!(world.logs.text().contains("at the top"));
}

#[tokio::test]
async fn subrequests_and_bodies_are_counted() {
    let world = World::new();
    let app = world.load(
        AppSpec::new(
            r#"export default { async fetch(request) {
                const { pathname } = new URL(request.url);
                if (pathname === "/sub") { for (let i = 0; i < 4; i++) { await fetch("http://127.0.0.1:1/").catch((e) => { if (e.name === "LimitError") throw e; }); } }
                if (pathname === "/body") return new Response("x".repeat(2000));
                return new Response("fine");
            } }"#,
        )
        .limit("subrequests", "3")
        .limit("response_body", "1000"),
    );
    assert_eq!(get(&app, "/sub").await.unwrap_err().code, "subrequest_limit");
    assert_eq!(get(&app, "/body").await.unwrap_err().code, "response_body_limit");
    assert_eq!(get_text(&app, "/").await, "fine");
}

#[tokio::test]
async fn code_that_the_compiler_has_optimized_is_still_interrupted() {
    // (module (func (export "f") (loop (br 0))))
    let wasm: &[u8] = &[
        0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 7, 5, 1, 1, 102, 0, 0, 10, 9,
        1, 7, 0, 3, 64, 12, 0, 11, 11,
    ];
    let world = World::new();
    let app = world.load(
        AppSpec::new(
            r#"import endless from "./endless.wasm";
            const a = [1, 2, 3], b = { x: 0 };
            const loops = {
                fill: () => { for (;;) new Array(1000).fill({}); },
                fill_kept: () => { for (;;) b.a = new Array(10).fill(b); },
                short_inner: () => { for (;;) for (let i = 0; i < 3; i++) b.x += i; },
                two_inner: () => { for (;;) { for (let i = 0; i < 2; i++) b.x++; for (let i = 0; i < 4; i++) b.x--; } },
                map: () => { for (;;) a.map((x) => x + 1).forEach((x) => b.x += x); },
                sort: () => { for (;;) a.sort(); },
                join: () => { for (;;) a.join(",").split(","); },
                of: () => { for (;;) for (const x of a) b.x += x; },
                spread: () => { for (;;) Math.max(...a, ...a); },
                try: () => { for (;;) try { throw b; } catch { b.x++; } finally { b.x++; } },
                finally: () => { for (;;) try { for (;;); } finally { continue; } },
                generator: () => { const g = (function* () { for (;;) yield 1; })(); for (const x of g) b.x += x; },
                regexp: () => { for (;;) /(a|b)*c/.test("ababab"); },
                typed: () => { const t = new Float64Array(64); for (;;) t.fill(b.x).reverse(); },
                call: () => { const f = () => b.x++; for (;;) { f(); f(); } },
                mutual: () => { for (;;) JSON.stringify(JSON.parse('{"a":[1,2]}')); },
                math: () => { for (;;) b.x = Math.sin(b.x) + Math.random(); },
                wasm: () => new WebAssembly.Instance(endless).exports.f(),
            };
            export default { fetch(request) {
                const name = new URL(request.url).pathname.slice(1);
                if (name === "") return Response.json(Object.keys(loops));
                loops[name]();
            } }"#,
        )
        .module("endless.wasm", ModuleKind::Wasm, wasm)
        .limit("cpu_time", "150ms"),
    );
    let names: Vec<String> = serde_json::from_str(&get_text(&app, "/").await).unwrap();
    for name in names {
        let fault = get(&app, &format!("/{name}")).await.unwrap_err();
        assert_eq!(fault.code, "cpu_limit", "{name}: {fault}");
    }
}

#[tokio::test]
async fn webassembly_memories_count_together() {
    let world = World::new();
    let app = world.load(
        AppSpec::new(
            r#"const hog = []; export default { fetch(request) {
                if (new URL(request.url).pathname === "/fine") return new Response("fine");
                for (;;) {
                    const memory = new WebAssembly.Memory({ initial: 1000 });
                    new Uint8Array(memory.buffer).fill(1);
                    hog.push(memory);
                }
            } }"#,
        )
        .limit("external_memory", "16MiB")
        .limit("cpu_time", "20s"),
    );
    assert_eq!(get(&app, "/").await.unwrap_err().code, "external_memory_limit");
    assert_eq!(get_text(&app, "/fine").await, "fine");
}

/// An isolate that V8 gives up on keeps its thread for good: answers of the app it called first
/// must not pass there.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_outlives_the_app_that_called_it_first() {
    let world = World::new();
    let callee = world.load(
        AppSpec::new(r#"export default { fetch: () => new Response("here") }"#).named("callee"),
    );
    let caller = world.load(
        AppSpec::new(
            r#"
            const hog = [];
            export default { async fetch(request, env) {
                const answer = await env.CALLEE.fetch(request);
                if (request.url.endsWith("/bomb")) for (;;) hog.push(new Array(1 << 25).fill(1.5));
                return answer;
            } };"#,
        )
        .named("caller")
        .limit("heap", "32MiB")
        .bind(
            "CALLEE",
            Binding::Service(ServiceTarget {
                service: "callee".into(),
                entrypoint: None,
                props: serde_json::Value::Null,
            }),
        ),
    );
    assert_eq!(get_text(&caller, "/").await, "here");
    let fault = get(&caller, "/bomb").await.expect_err("the heap is full");
    assert_eq!(fault.code, Limit::Heap.spec().code);
    assert_eq!(get_text(&callee, "/").await, "here");
    assert_eq!(callee.isolates(), 1, "the same isolate");
}

/// Many requests of one turn of the event loop go as one parcel, and each gets its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_turn_get_their_own_answers() {
    let world = World::new();
    let app = world.app(
        r#"export default { fetch: (request) => new Response(new URL(request.url).pathname) }"#,
    );
    app.warm().await.expect("it starts");
    let asked = (0..200).map(|n| {
        let app = app.clone();
        tokio::spawn(async move { (n, get_text(&app, &format!("/{n}")).await) })
    });
    for answer in asked.collect::<Vec<_>>() {
        let (n, text) = answer.await.expect("an answer");
        assert_eq!(text, format!("/{n}"));
    }
}
