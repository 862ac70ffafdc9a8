//! Databases at several points of presence: while `verge dev` runs, and after it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::super::harness::{Dev, command, stdout, write};
use super::{code, db, fails, json, ok, shop};

fn start(dir: &Path) -> Dev {
    Dev::with(
        &[dir],
        &[
            "--port",
            "0",
            "--pops",
            "iad,fra,nrt",
            "--rtt",
            "iad-fra=20ms,iad-nrt=40ms,fra-nrt=30ms",
        ],
    )
}

fn stop(mut dev: Dev) {
    dev.signal(libc::SIGTERM);
    assert!(dev.wait().success());
}

/// Rows as one point of presence has them.
fn at(dir: &Path, pop: &str, sql: &str) -> Value {
    let all = json(dir, &["execute", "DB", "--pop", pop, "-c", sql]);
    all["results"][0]["rows"].clone()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..120 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    panic!("never: {what}");
}

#[test]
fn a_running_fleet_is_asked_moved_compared_and_brought_back() {
    let dir = shop();
    let root = dir.path();
    let dev = start(root);
    ok(root, &["execute", "-c", "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)"]);
    let sum = "SELECT sum(a) AS n FROM t";
    for pop in ["iad", "fra", "nrt"] {
        until("each has it", || at(root, pop, sum) == json!([{ "n": 3 }]));
    }
    // A write at a replica goes to the primary.
    let written = json(root, &["execute", "DB", "--pop", "nrt", "-c", "INSERT INTO t VALUES (4)"]);
    assert_eq!(
        (&written["served_by"], &written["served_by_primary"]),
        (&json!("iad"), &json!(true))
    );
    let listed = json(root, &["list"]);
    assert_eq!(listed["databases"][0]["pops"], json!(["fra", "iad", "nrt"]));
    assert_eq!(listed["databases"][0]["primary"], "iad");

    until("nobody is behind", || {
        let lag = json(root, &["lag"]);
        let copies = lag["copies"].as_array().expect("a list");
        copies.len() == 3 && copies.iter().all(|copy| copy["behind"] == 0)
    });
    let text = ok(root, &["lag"]);
    assert!(text.starts_with("POP  ROLE     POSITION"), "{text}");
    assert!(text.contains("iad  primary") && text.contains("fra  replica"), "{text}");

    watches(root);

    let moved = json(root, &["move-primary", "DB", "fra"]);
    assert_eq!((&moved["from"], &moved["primary"]), (&json!("iad"), &json!("fra")));
    let paused = moved["writes_paused_ms"].as_f64().expect("a number");
    assert!(paused > 0.0 && paused < 10_000.0, "{moved}");
    assert!(ok(root, &["move-primary", "DB", "fra"]).contains("nothing to do"));
    assert_eq!(code(root, &["move-primary", "DB", "gru"]), "no_pop");
    ok(root, &["execute", "-c", "INSERT INTO t VALUES (8)"]);

    let verified = json(root, &["verify"]);
    assert_eq!(verified["ok"], true);
    let copies = verified["copies"].as_array().expect("a list");
    assert_eq!(copies.len(), 3);
    assert!(copies.iter().all(|copy| copy["copies_agree"] == true), "{verified}");

    // What must run at the primary finds it.
    write(&root.join("more.csv"), "a\n100\n");
    ok(root, &["import", "DB", "more.csv", "--table", "t", "--pop", "nrt"]);
    write(&root.join("migrations/0001_b.sql"), "CREATE TABLE b (c);");
    ok(root, &["migrations", "apply", "--pop", "iad"]);
    until("nrt has both", || {
        at(
            root,
            "nrt",
            "SELECT (SELECT sum(a) FROM t) AS n, count(*) AS b FROM sqlite_schema WHERE name = 'b'",
        ) == json!([{ "n": 115, "b": 1 }])
    });
    let before = json(root, &["info"])["bookmark"].as_str().expect("text").to_owned();
    ok(root, &["execute", "-c", "DELETE FROM t"]);
    ok(root, &["restore", "DB", "--bookmark", &before, "--yes"]);
    until("nrt is back", || at(root, "nrt", sum) == json!([{ "n": 115 }]));

    ok(root, &["branch", "DB", "preview"]);
    ok(root, &["execute", "preview", "-c", "DELETE FROM t"]);
    assert_eq!(at(root, "fra", sum), json!([{ "n": 115 }]));
    let deleted = json(root, &["delete", "preview", "--yes"]);
    assert_eq!(deleted["nodes"], json!(["fra-1", "iad-1", "nrt-1"]));
    assert_eq!(json(root, &["list"])["databases"].as_array().map(Vec::len), Some(1));
    // Its name is free, at another point of presence too.
    ok(root, &["create", "preview", "--pop", "nrt"]);
    assert_eq!(json(root, &["info", "preview"])["primary"], "nrt");
    ok(root, &["execute", "preview", "-c", "CREATE TABLE x (y)"]);
    assert_eq!(code(root, &["info", "--pop", "gru"]), "no_pop");
    stop(dev);
}

/// `lag --watch` goes on until it is ended.
fn watches(root: &Path) {
    let mut watch = command()
        .current_dir(root)
        .args(["db", "lag", "--watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("verge runs");
    let out = BufReader::new(watch.stdout.take().expect("piped"));
    for line in out.lines().take(2) {
        let value: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        assert_eq!(value["copies"].as_array().map(Vec::len), Some(3), "{value}");
    }
    watch.kill().expect("ended");
    watch.wait().expect("waited");
}

#[test]
fn a_fleet_at_rest_is_opened_together_and_no_replica_becomes_a_second_primary() {
    let dir = shop();
    let root = dir.path();
    let dev = start(root);
    ok(root, &["execute", "-c", "CREATE TABLE t (a); INSERT INTO t VALUES (1)"]);
    for pop in ["fra", "nrt"] {
        until("each has it", || at(root, pop, "SELECT a FROM t") == json!([{ "a": 1 }]));
    }
    stop(dev);
    // Through a replica's point of presence: written by the primary all the same.
    let written = json(root, &["execute", "DB", "--pop", "nrt", "-c", "INSERT INTO t VALUES (2)"]);
    assert_eq!(
        (&written["served_by"], &written["served_by_primary"]),
        (&json!("iad"), &json!(true))
    );
    let info = json(root, &["info"]);
    assert_eq!(info["primary"], "iad");
    assert_eq!(info["set_aside"], 0);
    let verified = json(root, &["verify"]);
    assert_eq!(verified["ok"], true, "{verified}");
    assert_eq!(code(root, &["info", "--pop", "gru"]), "no_pop");
    // A single place's data beside it is told apart.
    ok(root, &["create", "shop", "--pop", "dev"]);
    let error = fails(root, &["info"]);
    assert!(error.contains("say which one with --pop: dev, fra, iad, nrt"), "{error}");
    assert_eq!(json(root, &["info", "--pop", "iad"])["tables"][0]["rows"], 2);

    let dev = start(root);
    for pop in ["iad", "fra", "nrt"] {
        until("all go on from there", || {
            at(root, pop, "SELECT sum(a) AS n FROM t") == json!([{ "n": 3 }])
        });
    }
    stop(dev);
}

#[test]
fn a_shell_lets_other_commands_in() {
    let dir = shop();
    let root = dir.path();
    ok(root, &["execute", "-c", "CREATE TABLE t (a)"]);
    let mut shell = command()
        .current_dir(root)
        .args(["db", "shell"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("verge runs");
    let mut input = shell.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, b"INSERT INTO t VALUES (1);\n").expect("written");
    until("the shell's row is seen", || {
        let output = db(root, &["execute", "-c", "SELECT count(*) AS n FROM t", "--csv"]);
        stdout(&output) == "n\n1\n"
    });
    drop(input);
    assert!(shell.wait().expect("waited").success());
}
