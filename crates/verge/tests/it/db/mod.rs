//! `verge db`, with the real binary and real files.

mod basics;
mod files;
mod migrations;
mod pops;
mod shell;

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use super::harness::{command, project, stderr, stdout};

const CONFIG: &str = r#"{
    "main": "index.js",
    "d1_databases": [{ "binding": "DB", "database_name": "shop" }]
}"#;
const APP: &str = "export default { async fetch(request, { DB }) {
    return Response.json((await DB.prepare('SELECT * FROM t').all()).results);
} };";

/// A project with one database, `shop`, bound as `DB`.
fn shop() -> tempfile::TempDir {
    project(&[("verge.jsonc", CONFIG), ("index.js", APP)])
}

fn db(dir: &Path, arguments: &[&str]) -> Output {
    command().current_dir(dir).arg("db").args(arguments).output().expect("verge runs")
}

fn db_with_input(dir: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = command()
        .current_dir(dir)
        .arg("db")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("verge runs");
    // It may end before it has read all.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// Standard output of a command that must work.
#[track_caller]
fn ok(dir: &Path, arguments: &[&str]) -> String {
    let output = db(dir, arguments);
    assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

#[track_caller]
fn json(dir: &Path, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&ok(dir, &arguments)).expect("one JSON object")
}

/// Standard error of a command that must fail with exit code 1.
#[track_caller]
fn fails(dir: &Path, arguments: &[&str]) -> String {
    let output = db(dir, arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", stdout(&output));
    stderr(&output)
}

/// The code of a failure, as scripts see it.
#[track_caller]
fn code(dir: &Path, arguments: &[&str]) -> String {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    let output = db(dir, &arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    let value: Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
    value["error"]["code"].as_str().expect("a code").to_owned()
}

/// The rows of one statement.
#[track_caller]
fn rows(dir: &Path, sql: &str) -> Value {
    json(dir, &["execute", "DB", "--command", sql])["results"][0]["rows"].clone()
}
