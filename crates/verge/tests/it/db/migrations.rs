//! Migrations: numbered files that run once.

use serde_json::json;

use super::super::harness::{Dev, write};
use super::{code, fails, json, ok, rows, shop};

#[test]
fn migrations_run_once_in_order_and_are_recorded_as_wrangler_does() {
    let dir = shop();
    let dir = dir.path();
    assert!(ok(dir, &["migrations", "list"]).contains("no migrations in migrations"));
    assert_eq!(code(dir, &["migrations", "apply"]), "migrations");
    let path = ok(dir, &["migrations", "create", "DB", "add users"]);
    assert!(path.starts_with("migrations/0001_add_users.sql\n"), "{path}");
    ok(dir, &["migrations", "create", "DB", "seed"]);
    let file = |name: &str| dir.join("migrations").join(name);
    write(&file("0001_add_users.sql"), "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);");
    write(
        &file("0002_seed.sql"),
        "INSERT INTO users (name) VALUES ('Ada');\nINSERT INTO users (name) VALUES ('Bob');",
    );
    let listed = json(dir, &["migrations", "list"]);
    assert_eq!(listed["pending"], json!(["0001_add_users.sql", "0002_seed.sql"]));
    assert!(!dir.join(".verge").exists(), "a look makes nothing");
    let text = ok(dir, &["migrations", "apply"]);
    assert_eq!(text, "applied 0001_add_users.sql\napplied 0002_seed.sql\n");
    assert!(ok(dir, &["migrations", "apply"]).contains("nothing to do: 2 migrations ran already"));
    assert_eq!(rows(dir, "SELECT count(*) AS n FROM users"), json!([{ "n": 2 }]));
    let shape = "SELECT sql FROM sqlite_schema WHERE name = 'd1_migrations'";
    let shape = rows(dir, shape)[0]["sql"].as_str().expect("text").to_lowercase();
    for column in [
        "id integer primary key autoincrement",
        "name text unique",
        "applied_at timestamp default current_timestamp not null",
    ] {
        assert!(shape.contains(column), "{shape}");
    }
    assert_eq!(
        rows(dir, "SELECT id, name FROM d1_migrations ORDER BY id"),
        json!([{ "id": 1, "name": "0001_add_users.sql" }, { "id": 2, "name": "0002_seed.sql" }])
    );
    // What wrangler recorded is not run again.
    write(&file("0003_by_wrangler.sql"), "CREATE TABLE users (id)");
    ok(dir, &["execute", "-c", "INSERT INTO d1_migrations (name) VALUES ('0003_by_wrangler.sql')"]);
    assert!(ok(dir, &["migrations", "apply"]).contains("nothing to do"));
    // A file that is not what it was.
    write(&file("0002_seed.sql"), "INSERT INTO users (name) VALUES ('Eve');");
    let warned = json(dir, &["migrations", "list"])["warnings"].to_string();
    assert!(warned.contains("0002_seed.sql was changed after it ran"), "{warned}");
}

#[test]
fn a_failing_migration_changes_nothing_and_says_where() {
    let dir = shop();
    let dir = dir.path();
    let file = |name: &str| dir.join("migrations").join(name);
    write(&file("0001_one.sql"), "CREATE TABLE one (a);");
    write(
        &file("0002_two.sql"),
        "-- the second\nALTER TABLE one ADD b;\nINSERT INTO one (a, b) VALUES (1, 2);\nINSERT INTO nowhere\n  VALUES (1);\n",
    );
    write(&file("0010_three.sql"), "CREATE TABLE three (a);");
    let error = fails(dir, &["migrations", "apply"]);
    assert!(
        error.contains("0002_two.sql failed and changed nothing; 1 migration after it did not run"),
        "{error}"
    );
    assert!(error.contains("no such table: nowhere"), "{error}");
    assert!(error.contains("migrations/0002_two.sql:4:1"), "{error}");
    assert!(error.contains("INSERT INTO nowhere"), "{error}");
    let columns = rows(dir, "SELECT count(*) AS n FROM pragma_table_info('one')");
    assert_eq!(columns, json!([{ "n": 1 }]), "the first ran, of the second nothing is left");
    assert_eq!(
        json(dir, &["migrations", "list"])["pending"],
        json!(["0002_two.sql", "0010_three.sql"])
    );
    write(&file("0002_two.sql"), "ALTER TABLE one ADD b;");
    assert_eq!(
        json(dir, &["migrations", "apply"])["applied"],
        json!(["0002_two.sql", "0010_three.sql"])
    );
    write(&file("notes.sql"), "");
    assert!(fails(dir, &["migrations", "apply"]).contains("notes.sql has no number"));
}

#[test]
fn the_folder_and_the_table_of_the_configuration_are_used() {
    let dir = shop();
    let dir = dir.path();
    write(
        &dir.join("verge.jsonc"),
        r#"{ "main": "index.js", "d1_databases": [{ "binding": "DB", "database_name": "shop",
            "migrations_dir": "db/steps", "migrations_table": "done" }] }"#,
    );
    write(&dir.join("db/steps/1_a.sql"), "CREATE TABLE a (b);");
    assert_eq!(json(dir, &["migrations", "apply"])["applied"], json!(["1_a.sql"]));
    assert_eq!(rows(dir, "SELECT name FROM done"), json!([{ "name": "1_a.sql" }]));
    assert_eq!(code(dir, &["migrations", "list", "other"]), "no_database");
}

#[tokio::test]
async fn dev_tells_of_pending_migrations_and_takes_them_while_it_runs() {
    let dir = shop();
    let root = dir.path();
    write(&root.join("migrations/0001_t.sql"), "CREATE TABLE t (a); INSERT INTO t VALUES (7);");
    let mut dev = Dev::start(&[root]);
    let warning = dev.event("warning", 0);
    let text = warning["message"].as_str().expect("text");
    assert!(text.contains("1 migration of shop did not run yet"), "{text}");
    assert!(text.contains("`verge db migrations apply shop`"), "{text}");
    assert_eq!(dev.get("/").await.status, 500, "there is no table");
    ok(root, &["migrations", "apply"]);
    assert_eq!(dev.get("/").await.json(), json!([{ "a": 7 }]));
    dev.signal(libc::SIGTERM);
    assert!(dev.wait().success());
    let dev = Dev::start(&[root]);
    assert_eq!(dev.count("warning"), 0, "{:?}", dev.all());
}
