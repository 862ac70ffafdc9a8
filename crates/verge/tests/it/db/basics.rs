//! Databases by hand: made, listed, asked, brought back, branched, removed.

use serde_json::json;

use super::super::harness::{stderr, stdout, verge, write};
use super::{code, db, fails, json, ok, rows, shop};

#[test]
fn a_database_is_made_by_its_first_use_and_asked() {
    let dir = shop();
    let dir = dir.path();
    let listed = json(dir, &["list"]);
    assert_eq!(listed["databases"][0]["name"], "shop");
    assert_eq!(listed["databases"][0]["exists"], false);
    assert_eq!(code(dir, &["info", "DB"]), "no_database", "a look makes nothing");
    assert!(!dir.join(".verge").exists());

    let made = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, data BLOB);
        INSERT INTO t VALUES (1, 'Ada', x'00ff'), (2, 'Ünal, \"U\"', NULL)";
    let done = json(dir, &["execute", "DB", "--command", made]);
    assert_eq!(done["results"][1]["changes"], 2);
    assert!(done["bookmark"].is_string());
    let all = "SELECT * FROM t ORDER BY id";
    assert_eq!(
        rows(dir, all),
        json!([
            { "id": 1, "name": "Ada", "data": { "blob": "00ff" } },
            { "id": 2, "name": "Ünal, \"U\"", "data": null },
        ])
    );
    // By name, by binding in any way, and without a name where there is one only.
    let text = ok(dir, &["execute", "shop", "-c", all]);
    assert!(text.starts_with("id  name       data\n--  ---------  -------\n"), "{text}");
    assert!(text.contains(" 1  Ada        x'00ff'\n"), "{text}");
    assert!(text.contains("2 rows ("), "{text}");
    assert_eq!(
        ok(dir, &["execute", "-c", all, "--csv"]),
        "id,name,data\n1,Ada,00ff\n2,\"Ünal, \"\"U\"\"\",\n"
    );
    let info = json(dir, &["info"]);
    assert_eq!(info["tables"], json!([{ "name": "t", "rows": 2 }]));
    assert_eq!((&info["primary"], &info["health"]), (&json!("dev"), &json!("sound")));
    let text = ok(dir, &["list"]);
    assert!(text.starts_with("NAME  BINDING  SIZE\nshop  DB       8.2 kB\n"), "{text}");
    assert!(ok(dir, &["info"]).contains("t (2 rows)"));
}

#[test]
fn a_failing_script_changes_nothing_and_shows_its_place() {
    let dir = shop();
    let dir = dir.path();
    ok(dir, &["execute", "-c", "CREATE TABLE t (id INTEGER PRIMARY KEY)"]);
    write(
        &dir.join("seed.sql"),
        "INSERT INTO t VALUES (1);\n\nINSERT INTO t VALUES (2);\n  SELECT nope FROM t;\n",
    );
    let error = fails(dir, &["execute", "DB", "--file", "seed.sql"]);
    assert!(error.contains("no such column: nope"), "{error}");
    assert!(error.contains("seed.sql:4:10"), "{error}");
    assert!(error.contains("   4 |   SELECT nope FROM t;\n     |          ^"), "{error}");
    assert_eq!(rows(dir, "SELECT count(*) AS n FROM t"), json!([{ "n": 0 }]));
    let error = fails(dir, &["execute", "DB", "--command", "SELCT 1"]);
    assert!(error.contains("syntax error") && error.contains("^"), "{error}");
    assert_eq!(code(dir, &["execute", "DB", "--command", "SELCT 1"]), "sql");
    let error = fails(dir, &["execute", "DB", "--command", "BEGIN; SELECT 1; COMMIT"]);
    assert!(error.contains("one transaction already"), "{error}");
    let big = format!("SELECT '{}'", "x".repeat(9 << 20));
    write(&dir.join("big.sql"), &big);
    assert!(fails(dir, &["execute", "DB", "--file", "big.sql"]).contains("verge db import"));
    assert_eq!(code(dir, &["execute", "DB", "--file", "none.sql"]), "io");
}

#[test]
fn a_wrong_name_is_told_from_a_wrong_command_line() {
    let dir = shop();
    let dir = dir.path();
    ok(dir, &["create", "shop"]);
    assert_eq!(code(dir, &["create", "shop"]), "exists");
    let error = fails(dir, &["execute", "shpo", "-c", "SELECT 1"]);
    assert!(error.contains("there is no database `shpo`"), "{error}");
    assert!(error.contains("did you mean `shop`"), "{error}");
    assert_eq!(code(dir, &["execute", "a/b", "-c", "SELECT 1"]), "usage");
    assert_eq!(code(dir, &["execute", "DB", "-c", "SELECT 1", "--pop", "fra"]), "no_pop");
    assert_eq!(db(dir, &["execute", "DB"]).status.code(), Some(2));
    assert_eq!(db(dir, &["frobnicate"]).status.code(), Some(2));
    // A data folder needs no project.
    let data = dir.join(".verge/data");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let at = data.to_str().expect("text");
    assert_eq!(json(elsewhere.path(), &["list", "--data", at])["databases"][0]["name"], "shop");
}

#[test]
fn an_older_state_comes_back_and_can_be_undone() {
    let dir = shop();
    let dir = dir.path();
    ok(dir, &["execute", "-c", "CREATE TABLE t (a); INSERT INTO t VALUES ('kept')"]);
    let before = json(dir, &["info"])["bookmark"].as_str().expect("text").to_owned();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    ok(dir, &["execute", "-c", "DELETE FROM t"]);
    // Nobody is there to be asked.
    let error = fails(dir, &["restore", "DB", "--bookmark", &before]);
    assert!(error.contains("undo 1 later commit") && error.contains("--yes"), "{error}");
    assert_eq!(rows(dir, "SELECT a FROM t"), json!([]));
    let restored = json(dir, &["restore", "DB", "--at", "1s ago", "--yes"]);
    assert_eq!(restored["restored"]["bookmark"], before);
    assert_eq!(rows(dir, "SELECT a FROM t"), json!([{ "a": "kept" }]));
    let undo = restored["before"].as_str().expect("text");
    let text = ok(dir, &["restore", "DB", "--bookmark", undo, "--yes"]);
    assert!(text.contains("to undo this:\nverge db restore shop --bookmark "), "{text}");
    assert_eq!(rows(dir, "SELECT a FROM t"), json!([]));
    let now = json(dir, &["info"])["bookmark"].as_str().expect("text").to_owned();
    assert!(ok(dir, &["restore", "DB", "--bookmark", &now]).contains("nothing to do"));
    // States that are none.
    assert_eq!(code(dir, &["restore", "DB", "--at", "soon", "--yes"]), "usage");
    assert_eq!(code(dir, &["restore", "DB", "--yes"]), "usage");
    let tag = &now[now.len() - 8..];
    let future = format!("00000001-00000000000000ff-{tag}");
    let error = fails(dir, &["restore", "DB", "--bookmark", &future, "--yes"]);
    assert!(error.contains("does not remember that state"), "{error}");

    // A branch of before, and of now.
    ok(dir, &["branch", "DB", "old", "--bookmark", &before]);
    let old = json(dir, &["execute", "old", "-c", "SELECT a FROM t"]);
    assert_eq!(old["results"][0]["rows"], json!([{ "a": "kept" }]));
    ok(dir, &["branch", "DB", "now"]);
    ok(dir, &["execute", "now", "-c", "INSERT INTO t VALUES ('there')"]);
    assert_eq!(rows(dir, "SELECT a FROM t"), json!([]), "branches go their own ways");
    assert_eq!(code(dir, &["branch", "DB", "old"]), "exists");
}

#[test]
fn a_deleted_database_is_gone_and_its_name_is_free() {
    let dir = shop();
    let dir = dir.path();
    ok(dir, &["execute", "-c", "CREATE TABLE t (a)"]);
    let error = fails(dir, &["delete", "DB"]);
    assert!(error.contains("--yes"), "{error}");
    ok(dir, &["delete", "DB", "--yes"]);
    assert_eq!(json(dir, &["list"])["databases"][0]["exists"], false);
    assert_eq!(code(dir, &["delete", "DB", "--yes"]), "no_database");
    assert_eq!(rows(dir, "SELECT count(*) AS n FROM sqlite_schema"), json!([{ "n": 0 }]));
}

#[test]
fn a_damaged_file_does_not_verify() {
    let dir = shop();
    let dir = dir.path();
    ok(dir, &["execute", "-c", "CREATE TABLE t (a); INSERT INTO t VALUES (hex(zeroblob(20000)))"]);
    let verified = json(dir, &["verify"]);
    assert_eq!(verified["ok"], true);
    assert!(ok(dir, &["verify"]).contains("hold"));
    let file = find(&dir.join(".verge/data"), "db").expect("the database file");
    let mut bytes = std::fs::read(&file).expect("read");
    let at = bytes.len() - 2000;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let output = db(dir, &["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one object");
    assert_eq!(value["ok"], false);
    let output = db(dir, &["verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("do not hold"), "{}", stderr(&output));
}

fn find(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_file() && path.file_name().is_some_and(|found| found == name) {
            return Some(path);
        }
        if let Some(found) = path.is_dir().then(|| find(&path, name)).flatten() {
            return Some(found);
        }
    }
    None
}

#[test]
fn help_of_each_command_teaches_with_examples() {
    let commands = [
        &["create"][..],
        &["list"],
        &["info"],
        &["shell"],
        &["execute"],
        &["migrations", "create"],
        &["migrations", "list"],
        &["migrations", "apply"],
        &["import"],
        &["export"],
        &["branch"],
        &["restore"],
        &["lag"],
        &["move-primary"],
        &["verify"],
        &["delete"],
    ];
    for words in commands {
        let arguments: Vec<&str> = ["db"].iter().chain(words).copied().chain(["--help"]).collect();
        let output = verge(&arguments);
        assert!(output.status.success(), "{arguments:?}");
        assert!(stdout(&output).contains("Examples:"), "{}", stdout(&output));
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&verge(&["completion", shell]));
        assert!(script.contains("move-primary") && script.contains("bookmark"), "{shell}");
    }
}
