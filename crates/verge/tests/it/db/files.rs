//! Databases from files and into files.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use super::super::harness::{Dev, command, stderr, stdout, write};
use super::{code, db, db_with_input, fails, json, ok, rows, shop};

/// All that a database can have in it.
const CONTENT: &str = "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, a, b AS (id * 2));
    CREATE TABLE \"odd \"\"name\" (x REFERENCES p (id), \"y z\");
    CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
    CREATE INDEX pa ON p (a);
    CREATE VIEW v AS SELECT a FROM p;
    CREATE TRIGGER g AFTER INSERT ON w BEGIN INSERT INTO p (a) VALUES ('t; END'); END;
    CREATE VIRTUAL TABLE f USING fts5(body);
    INSERT INTO p (a) VALUES (NULL), (-9223372036854775807 - 1), (0.1), (1e300), (9e999), (1.0),
      ('it''s; \"q\" -- no'), (x'00ff'), (''), (x''), ('a' || char(0) || 'b'), ('line
break');
    INSERT INTO \"odd \"\"name\" VALUES (1, 'one');
    INSERT INTO w VALUES ('k', 1);
    INSERT INTO f VALUES ('the quick fox');
    DELETE FROM p WHERE id >= 12;";

#[test]
fn what_was_exported_imports_to_an_equal_database() {
    let dir = shop();
    let dir = dir.path();
    write(&dir.join("content.sql"), CONTENT);
    ok(dir, &["execute", "--file", "content.sql"]);
    ok(dir, &["migrations", "create", "DB", "one"]);
    ok(dir, &["migrations", "apply"]);
    for name in ["dump.sql", "copy.sqlite"] {
        ok(dir, &["export", "DB", name]);
        assert_eq!(code(dir, &["export", "DB", name]), "exists");
        ok(dir, &["export", "DB", name, "--force"]);
        let copy = format!("from-{}", &name[..4]);
        ok(dir, &["create", &copy]);
        ok(dir, &["import", &copy, name]);
        // As text, values with their types; as a file, whatever else there is.
        let again = format!("again-{copy}.sql");
        ok(dir, &["export", &copy, &again]);
        ok(dir, &["export", "DB", "now.sql", "--force"]);
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("read");
        assert_eq!(read(&again), read("now.sql"), "{name}");
        let found = json(dir, &["execute", &copy, "-c", "SELECT body FROM f('quick')"]);
        assert_eq!(found["results"][0]["rows"], json!([{ "body": "the quick fox" }]));
        ok(dir, &["execute", &copy, "-c", "INSERT INTO w VALUES ('l', 2)"]);
        let found = json(dir, &["execute", &copy, "-c", "SELECT max(id) AS id FROM p"]);
        assert_eq!(found["results"][0]["rows"], json!([{ "id": 14 }]), "the counter went along");
    }
    let left: Vec<_> =
        std::fs::read_dir(dir).expect("read").flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("unfinished")), "{left:?}");
    // To standard output, and nothing else there.
    let text = ok(dir, &["export", "DB", "-"]);
    assert!(text.starts_with("PRAGMA defer_foreign_keys=TRUE;\nCREATE TABLE p "), "{text}");
    assert_eq!(code(dir, &["export", "DB", "-"]), "usage");
    assert_eq!(code(dir, &["export", "DB", "no/such/folder.sql"]), "data");
}

#[test]
fn csv_goes_out_and_in() {
    let dir = shop();
    let dir = dir.path();
    let text = "id,name,zip,score\n1,Ada,01234,0.5\n2,\"Ü, \"\"x\"\"\",9,\n3,,,-3.25\n4,\"\",\"a\nb\",1.0\n";
    write(&dir.join("people.csv"), text);
    let done = json(dir, &["import", "DB", "people.csv"]);
    assert_eq!((&done["rows"], &done["table"]), (&json!(4), &json!("people")));
    assert_eq!(
        rows(
            dir,
            "SELECT typeof(id) AS i, typeof(zip) AS z, typeof(score) AS s FROM people LIMIT 1"
        ),
        json!([{ "i": "integer", "z": "text", "s": "real" }])
    );
    assert_eq!(ok(dir, &["export", "DB", "-", "--table", "people"]), text);
    // Once more adds, with --replace it does not.
    ok(dir, &["import", "DB", "people.csv"]);
    assert_eq!(rows(dir, "SELECT count(*) AS n FROM people"), json!([{ "n": 8 }]));
    ok(dir, &["import", "DB", "people.csv", "--replace"]);
    assert_eq!(rows(dir, "SELECT count(*) AS n FROM people"), json!([{ "n": 4 }]));
    // A line that does not fit leaves nothing of the others.
    write(&dir.join("bad.csv"), "id,name\n5,x\n6\n");
    let error = fails(dir, &["import", "DB", "bad.csv", "--table", "people"]);
    assert!(
        error.contains("1 fields, but the header has 2") && error.contains("bad.csv:3:1"),
        "{error}"
    );
    assert_eq!(rows(dir, "SELECT count(*) AS n FROM people"), json!([{ "n": 4 }]));
    let piped = db_with_input(dir, &["import", "DB", "-", "--table", "more"], "a\n1\n2\n");
    assert!(piped.status.success(), "{}", stderr(&piped));
    assert_eq!(rows(dir, "SELECT sum(a) AS n FROM more"), json!([{ "n": 3 }]));
    assert_eq!(code(dir, &["export", "DB", "x.csv"]), "usage");
    let error = fails(dir, &["export", "DB", "x.csv", "--table", "nope"]);
    assert!(error.contains("there is no table `nope`"), "{error}");
    assert!(!dir.join("x.csv").exists());
}

#[test]
fn dumps_of_other_tools_are_taken() {
    let dir = shop();
    let dir = dir.path();
    // As sqlite3's .dump writes it: a table before the one it refers to, inside a transaction.
    let sqlite = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n\
        CREATE TABLE c (p REFERENCES p (id));\nINSERT INTO c VALUES(1);\n\
        CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT);\nINSERT INTO p VALUES(1);\n\
        DELETE FROM sqlite_sequence;\nINSERT INTO sqlite_sequence VALUES('p',7);\n\
        CREATE TRIGGER g AFTER INSERT ON p BEGIN INSERT INTO c VALUES (new.id); END;\nCOMMIT;\n";
    let piped = db_with_input(dir, &["import", "DB", "-"], sqlite);
    assert!(piped.status.success(), "{}", stderr(&piped));
    ok(dir, &["execute", "-c", "INSERT INTO p DEFAULT VALUES"]);
    assert_eq!(rows(dir, "SELECT max(p) AS p FROM c"), json!([{ "p": 8 }]));
    // As `wrangler d1 export` writes it, with the records of its migrations.
    let d1 = "PRAGMA defer_foreign_keys=TRUE;\nCREATE TABLE d1_migrations(\n\t\tid         INTEGER PRIMARY KEY AUTOINCREMENT,\n\t\tname       TEXT UNIQUE,\n\t\tapplied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL\n);\nINSERT INTO \"d1_migrations\" (\"id\",\"name\",\"applied_at\") VALUES(1,'0001_users.sql','2025-01-02 03:04:05');\nCREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);\nINSERT INTO \"users\" (\"id\",\"name\") VALUES(1,'Ada');\nDELETE FROM sqlite_sequence;\nINSERT INTO \"sqlite_sequence\" (\"name\",\"seq\") VALUES('d1_migrations',1);\nCREATE INDEX un ON users (name);\n";
    write(&dir.join("d1.sql"), d1);
    write(
        &dir.join("migrations/0001_users.sql"),
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);",
    );
    write(&dir.join("migrations/0002_age.sql"), "ALTER TABLE users ADD age INTEGER;");
    ok(dir, &["import", "DB", "d1.sql", "--replace"]);
    let applied = json(dir, &["migrations", "apply"]);
    assert_eq!(applied["applied"], json!(["0002_age.sql"]), "it goes on where wrangler was");
    assert_eq!(rows(dir, "SELECT * FROM users"), json!([{ "id": 1, "name": "Ada", "age": null }]));
}

#[test]
fn an_import_that_fails_leaves_nothing() {
    let dir = shop();
    let dir = dir.path();
    ok(dir, &["execute", "-c", "CREATE TABLE mine (a); INSERT INTO mine VALUES (1)"]);
    let before = json(dir, &["info"])["bookmark"].clone();
    write(
        &dir.join("bad.sql"),
        "CREATE TABLE z (a);\nINSERT INTO z VALUES (1);\n\nINSERT INTO z\n  VALUES (1, 2);\n",
    );
    for flags in [&["import", "DB", "bad.sql"][..], &["import", "DB", "bad.sql", "--replace"]] {
        let error = fails(dir, flags);
        assert!(error.contains("bad.sql was not imported; nothing was changed"), "{error}");
        assert!(
            error.contains("bad.sql:4:1") && error.contains("2 values for 1 columns")
                || error.contains("bad.sql:4:"),
            "{error}"
        );
    }
    write(
        &dir.join("dangling.sql"),
        "CREATE TABLE p (id INTEGER PRIMARY KEY);\nCREATE TABLE c (p REFERENCES p (id));\nINSERT INTO c VALUES (9);\n",
    );
    let error = fails(dir, &["import", "DB", "dangling.sql"]);
    assert!(error.contains("FOREIGN KEY constraint failed in table c"), "{error}");
    write(&dir.join("open.sql"), "CREATE TABLE z (a);\nINSERT INTO z VALUES ('never closed;\n");
    assert!(fails(dir, &["import", "DB", "open.sql"]).contains("unrecognized token"));
    write(&dir.join("empty.sql"), "-- nothing\n");
    assert!(fails(dir, &["import", "DB", "empty.sql"]).contains("no SQL statement"));
    write(&dir.join("fake.sqlite"), "not a database");
    assert!(fails(dir, &["import", "DB", "fake.sqlite"]).contains("no SQLite file"));
    // A SQLite file goes into an empty database, or in place of what is there.
    ok(dir, &["export", "DB", "mine.sqlite"]);
    assert_eq!(code(dir, &["import", "DB", "mine.sqlite"]), "not_empty");
    assert!(fails(dir, &["import", "DB", "mine.sqlite"]).contains("--replace"));
    assert_eq!(json(dir, &["info"])["bookmark"], before, "nothing was written by all of these");
    ok(dir, &["execute", "-c", "CREATE TABLE other (a); DELETE FROM mine"]);
    ok(dir, &["import", "DB", "mine.sqlite", "--replace"]);
    assert_eq!(json(dir, &["info"])["tables"], json!([{ "name": "mine", "rows": 1 }]));
    assert_eq!(code(dir, &["import", "nowhere", "bad.sql"]), "no_database");
}

/// Much more than is imported in a second.
fn write_large(path: &Path) {
    let mut file = BufWriter::new(File::create(path).expect("made"));
    writeln!(file, "CREATE TABLE t (a, b);").expect("written");
    for n in 0..400_000 {
        let row = format!("INSERT INTO t VALUES ({n}, 'some text that makes it longer');");
        writeln!(file, "{row}").expect("written");
    }
    file.flush().expect("flushed");
}

/// Begins an import and ends it on its way.
fn interrupt(dir: &Path, signal: i32) {
    let child = command()
        .current_dir(dir)
        .args(["db", "import", "DB", "large.sql"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("verge runs");
    std::thread::sleep(Duration::from_millis(400));
    let pid = i32::try_from(child.id()).expect("a pid");
    // SAFETY: only sends a signal to a child of ours that was not waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    let output = child.wait_with_output().expect("it ends");
    assert!(!output.status.success(), "{}", stdout(&output));
}

#[test]
fn an_interrupted_import_leaves_nothing() {
    let dir = shop();
    let dir = dir.path();
    write_large(&dir.join("large.sql"));
    ok(dir, &["create", "DB"]);
    let before = json(dir, &["info"])["bookmark"].clone();
    interrupt(dir, libc::SIGINT);
    assert_eq!(json(dir, &["info"])["bookmark"], before);
    interrupt(dir, libc::SIGKILL);
    assert_eq!(json(dir, &["info"])["bookmark"], before);
    assert!(db(dir, &["verify"]).status.success());
    // And whole, it goes in.
    let done = json(dir, &["import", "DB", "large.sql"]);
    assert_eq!(done["rows"], 400_000);
}

#[test]
fn an_import_into_a_running_node_ends_with_its_caller() {
    let dir = shop();
    let root = dir.path();
    write_large(&root.join("large.sql"));
    let _dev = Dev::start(&[root]);
    interrupt(root, libc::SIGKILL);
    // Waits for its turn behind the import.
    ok(root, &["execute", "-c", "CREATE TABLE after (a)"]);
    assert_eq!(json(root, &["info"])["tables"], json!([{ "name": "after", "rows": 0 }]));
}
