//! Isolates with Node's modules and isolates without them start from snapshots of their own.

use std::sync::Arc;

use verge_runtime::App;

use super::harness::{AppSpec, World, get_text};

const WEB: &str = r#"
    const digest = async (text) => {
      const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
      return [...new Uint8Array(hash).slice(0, 2)].join(".");
    };
    export default {
      async fetch(request) {
        const { pathname } = new URL(request.url);
        const zipped = new Blob(["a"]).stream().pipeThrough(new CompressionStream("gzip"));
        const plain = await new Response(zipped.pipeThrough(new DecompressionStream("gzip"))).text();
        const form = new FormData();
        form.set("b", structuredClone(new Map([["c", plain]])).get("c"));
        const pattern = new URLPattern({ pathname: "/:name" }).exec({ pathname }).pathname.groups.name;
        return new Response([form.get("b"), pattern, await digest("x")].join(" "));
      },
    };
"#;

const NODE: &str = r#"
    import { createHash } from "node:crypto";
    import { AsyncLocalStorage } from "async_hooks";
    const storage = new AsyncLocalStorage();
    export default {
      fetch: () => storage.run("s", async () => {
        const { join } = await import("node:path");
        const hash = [...createHash("sha256").update("x").digest().subarray(0, 2)].join(".");
        return new Response([join("a", "..", "b"), storage.getStore(), hash].join(" "));
      }),
    };
"#;

async fn asks(app: &Arc<App>, expected: &str) {
    assert_eq!(get_text(app, "/name").await, expected);
}

/// Both kinds by turns in one process, new isolates each time, so that code caches are made
/// and used as well.
async fn live_together(node_first: bool) {
    let world = World::new();
    let web = world.load(AppSpec::new(WEB).named("web"));
    let node = world.load(AppSpec::new(NODE).named("node"));
    if node_first {
        asks(&node, "b s 45.113").await;
    }
    for _ in 0..4 {
        asks(&web, "a name 45.113").await;
        asks(&node, "b s 45.113").await;
        web.retire();
        node.retire();
    }
    assert_eq!(world.logs.text(), "");
}

#[tokio::test]
async fn both_surfaces_live_in_one_process() {
    live_together(false).await;
}

#[tokio::test]
async fn both_surfaces_live_in_one_process_whichever_comes_first() {
    live_together(true).await;
}

#[tokio::test]
async fn an_app_of_the_web_is_the_same_in_an_isolate_of_the_pool() {
    let world = World::with(|config| config.warm = 1);
    let app = world.app(WEB);
    for _ in 0..4 {
        asks(&app, "a name 45.113").await;
        app.retire();
    }
    assert_eq!(world.logs.text(), "");
}

#[tokio::test]
async fn an_import_by_a_computed_name_works() {
    let world = World::new();
    let app = world.app(
        r#"export default { async fetch(request) {
            const name = new URL(request.url).pathname.slice(1);
            const { sep } = await import("node:" + name);
            return new Response(sep);
        } }"#,
    );
    assert_eq!(get_text(&app, "/path").await, "/");
}

/// Whether there is a pool or not: an import that no look at the sources can find says so.
#[tokio::test]
async fn an_import_that_nobody_could_see_says_how_to_write_it() {
    for warm in [0, 1] {
        let world = World::with(|config| config.warm = warm);
        let app = world.app(
            r#"export default { async fetch() {
                const hidden = new Function("return im" + "port('node:path')");
                return new Response(await hidden().catch((error) => error.message));
            } }"#,
        );
        let told = get_text(&app, "/").await;
        assert!(told.contains("import(\"node:path\")"), "{told}");
    }
}
