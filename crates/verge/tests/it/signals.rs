//! How it ends.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::harness::{Dev, project};

const SLOW: &str = "export default { async fetch(request) { if (request.url.endsWith('/slow')) await scheduler.wait(700); return new Response('done'); } };";

#[tokio::test]
async fn ctrl_c_finishes_running_requests_and_exits_with_0() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let dir = project(&[("index.js", SLOW)]);
        let mut dev = Dev::start(&[dir.path()]);
        let (answer, ()) = tokio::join!(dev.get("/slow"), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            dev.signal(signal);
        });
        assert_eq!(answer.body, "done");
        assert_eq!(dev.wait().code(), Some(0));
        dev.event("stopped", 0);
    }
}

#[tokio::test]
async fn a_second_ctrl_c_does_not_wait() {
    let endless = "export default { async fetch() { await scheduler.wait(20000); return new Response(''); } };";
    let dir = project(&[("index.js", endless)]);
    let mut dev = Dev::start(&[dir.path()]);
    // Kept open: a client that went away would end the request.
    let mut client = tokio::net::TcpStream::connect(("127.0.0.1", dev.port)).await.expect("open");
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    dev.signal(libc::SIGINT);
    tokio::time::sleep(Duration::from_millis(200)).await;
    dev.signal(libc::SIGINT);
    assert_eq!(dev.wait().code(), Some(130));
}

#[tokio::test]
async fn a_build_that_runs_is_ended_and_leaves_nothing() {
    let config = r#"{ "name": "app", "main": "index.js", "build": { "command": "test -f slow && echo $$ > pid && exec sleep 60 || true" } }"#;
    let dir = project(&[("wrangler.jsonc", config), ("index.js", SLOW)]);
    let mut dev = Dev::start(&[dir.path()]);
    std::fs::write(dir.path().join("slow"), "").expect("written");
    std::fs::write(dir.path().join("index.js"), format!("{SLOW}\n")).expect("written");
    let pid_file = dir.path().join("pid");
    let pid = loop {
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        if let Ok(pid) = text.trim().parse::<i32>() {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    dev.signal(libc::SIGINT);
    assert_eq!(dev.wait().code(), Some(0));
    // SAFETY: signal 0 only asks whether the process exists.
    assert_eq!(unsafe { libc::kill(pid, 0) }, -1, "the build command outlived verge");
}
