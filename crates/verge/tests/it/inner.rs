//! `/__verge/…` and what `verge dev` adds in development.

use super::harness::{Dev, example, project};

#[tokio::test]
async fn metrics_are_for_this_machine() {
    let dev = Dev::start(&[&example("worker")]);
    dev.get("/").await;
    let metrics = dev.get("/__verge/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.body.contains("verge_requests_total{app=\"worker\""), "{}", metrics.body);
    let foreign = dev.get_as("/__verge/metrics", &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(foreign.status, 403);
    assert_eq!(dev.get("/__verge/nothing").await.status, 404);
}

#[tokio::test]
async fn scheduled_runs_by_hand() {
    let dev = Dev::start(&[&example("worker")]);
    let ran = dev.get("/__verge/scheduled?cron=0+12+*+*+1&time=0").await;
    assert_eq!(ran.status, 200, "{ran:?}");
    let log = dev.event("log", 0);
    assert_eq!(log["message"], "0 12 * * 1 at 1970-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn a_scheduled_handler_that_throws_says_so() {
    let dir = project(&[(
        "index.js",
        "export default { fetch: () => new Response(''), scheduled() { throw new Error('late') } };",
    )]);
    let dev = Dev::start(&[dir.path()]);
    let ran = dev.get("/__verge/scheduled").await;
    assert_eq!(ran.status, 500, "{ran:?}");
    assert!(ran.body.contains("late"), "{ran:?}");
}

#[tokio::test]
async fn an_exception_shows_its_place_in_the_users_file() {
    let load = "interface Env { A: string }\n\nexport function load(id: number): string {\n  throw new Error(`no record ${id}`);\n}\n";
    let index = "import { load } from './lib/load.ts';\nexport default { fetch: (): Response => new Response(load(7)) };\n";
    let dir = project(&[("src/lib/load.ts", load), ("src/index.ts", index)]);
    let dev = Dev::start(&[dir.path()]);
    let page = dev.visit("/").await;
    assert_eq!((page.status, page.header("x-verge-error")), (500, "guest_exception"));
    assert!(page.body.contains("no record 7"), "{}", page.body);
    // Files in folders are named from the project's root, once.
    for place in ["(src/lib/load.ts:4:9)", "(src/index.ts:2:"] {
        assert!(page.body.contains(place), "{place} is missing in {}", page.body);
    }
    assert!(page.body.contains("interface Env"), "the lines around it: {}", page.body);
    let text = dev.get("/").await;
    assert!(text.header("content-type").starts_with("text/plain"), "{text:?}");
    assert!(text.body.contains("(src/lib/load.ts:4:9)"), "{}", text.body);
    let json = dev.get_as("/", &[("accept", "application/json")]).await;
    assert_eq!(json.json()["error"]["code"], "guest_exception");
}

#[tokio::test]
async fn a_tripped_limit_is_named_on_the_page() {
    let dir = project(&[("index.ts", "export default { fetch() { for (;;); } };")]);
    let dev = Dev::start(&[dir.path()]);
    let page = dev.visit("/").await;
    assert_eq!((page.status, page.header("x-verge-error")), (503, "cpu_limit"), "{}", page.body);
    assert!(page.body.contains("limits.cpu_time is 500 ms"), "{}", page.body);
}

#[tokio::test]
async fn live_reload_is_added_to_pages_when_asked_for() {
    let site = example("static");
    let dev = Dev::with(&[&site], &["--port", "0", "--live"]);
    assert!(dev.get("/").await.body.contains("/__verge/events?seen="));
    assert!(!dev.get("/style.css").await.body.contains("/__verge/events"));
    let plain = Dev::start(&[&site]);
    assert!(!plain.get("/").await.body.contains("/__verge/events"));
}
