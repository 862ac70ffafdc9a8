//! What it prints, and whoever reads that.

use super::harness::{Dev, project};

/// More than a pipe holds and than may wait.
const REQUESTS: usize = 120;
const LOUD: &str = "export default { fetch() { for (let n = 0; n < 100; n++) console.log(n); return new Response('done'); } };";

#[tokio::test]
async fn a_reader_that_stopped_stops_no_request() {
    let dir = project(&[("index.js", LOUD)]);
    let mut dev = Dev::start(&[dir.path()]);
    dev.read(false);
    for _ in 0..REQUESTS {
        assert_eq!(dev.get("/").await.body, "done");
    }
    dev.read(true);
    let left_out = dev.event("left_out", 0)["lines"].as_u64().expect("a number");
    assert!(left_out > 0);
    dev.signal(libc::SIGINT);
    assert_eq!(dev.wait().code(), Some(0));
    dev.event("stopped", 0);
}
