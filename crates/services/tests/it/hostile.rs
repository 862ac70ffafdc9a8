//! What must be refused, what must pass, and what random text must not do.

use proptest::prelude::*;
use rusqlite::Connection;
use verge_services::sql::{self, Discard, ErrorKind, Rules};

use crate::support::{integer, memory};

/// A database with the platform's own tables in it and some of an app's.
fn database() -> Connection {
    let conn = memory();
    conn.execute_batch(
        "CREATE TABLE _verge_secret (k, v); INSERT INTO _verge_secret VALUES ('a', 'secret');
         CREATE TABLE _cf_KV (k, v); INSERT INTO _cf_KV VALUES ('a', 'secret');
         CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b);
         INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 3);
         CREATE TABLE u (id INTEGER PRIMARY KEY AUTOINCREMENT, t_id REFERENCES t (id));
         CREATE INDEX ta ON t (a); CREATE VIEW v AS SELECT a FROM t;",
    )
    .unwrap();
    conn
}

/// One a line. Each is refused on a fresh database.
const REFUSED: &str = include_str!("hostile.sql");
/// One a line; run in this order on one database, each passes.
const GOOD: &str = include_str!("good.sql");

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("-- #"))
}

fn attempt(conn: &Connection, statement: &str) -> Result<(), sql::SqlError> {
    let rules = Rules::default();
    sql::run(conn, &rules, statement, &(), &mut Discard).map(|_| ())
}

#[test]
fn hostile_statements_are_refused() {
    let mut count = 0;
    for statement in lines(REFUSED) {
        let conn = database();
        let before = integer(&conn, "SELECT count(*) FROM sqlite_master");
        let as_one = attempt(&conn, statement);
        let error = as_one.expect_err(statement);
        assert!(
            matches!(error.kind, ErrorKind::Refused | ErrorKind::Sqlite),
            "{statement}: {error}"
        );
        // The same inside of a transaction, and as a script.
        let script = sql::in_transaction(&conn, |conn| {
            sql::exec(conn, &Rules::default(), statement).map(|_| ())
        });
        script.expect_err(statement);
        assert_eq!(integer(&conn, "SELECT count(*) FROM sqlite_master"), before, "{statement}");
        let secrets: i64 = conn
            .query_row(
                "SELECT (SELECT count(*) FROM _verge_secret WHERE v = 'secret')
                      + (SELECT count(*) FROM _cf_KV WHERE v = 'secret')",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(secrets, 2, "{statement}");
        count += 1;
    }
    assert!(count >= 100, "{count}");
}

#[test]
fn good_statements_pass() {
    let conn = database();
    let mut count = 0;
    for statement in lines(GOOD) {
        attempt(&conn, statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        count += 1;
    }
    assert!(count >= 100, "{count}");
}

#[test]
fn limits_hold() {
    let conn = database();
    let many = |n: usize, item: &str, between: &str| vec![item; n].join(between);
    let columns: Vec<_> = (0..300).map(|i| format!("c{i}")).collect();
    for statement in [
        format!("SELECT '{}'", "x".repeat(200_000)),
        format!("CREATE TABLE wide ({})", columns.join(",")),
        format!("SELECT {}1", "1+".repeat(200)),
        format!("SELECT {}1{}", "(".repeat(2000), ")".repeat(2000)),
        many(100, "SELECT 1", " UNION ALL "),
        format!("SELECT a LIKE '{}' FROM t", "%x".repeat(400)),
        "SELECT ?5000".to_owned(),
        "SELECT hex(zeroblob(3000000))".to_owned(),
        "SELECT randomblob(1000000000)".to_owned(),
        "SELECT printf('%.1000000000c', 'x')".to_owned(),
        format!("SELECT json_array({})", many(200, "1", ",")),
        format!("SELECT CASE {} END FROM t", "WHEN abs(a) THEN hex(b) ".repeat(3500)),
    ] {
        let error =
            attempt(&conn, &statement).expect_err(statement.get(..40).unwrap_or(&statement));
        assert_eq!(error.kind, ErrorKind::Sqlite, "{error}");
    }
    attempt(
        &conn,
        "CREATE TRIGGER deep AFTER INSERT ON u BEGIN INSERT INTO u (t_id) VALUES (1); END",
    )
    .unwrap();
    let deep = "PRAGMA recursive_triggers = on; INSERT INTO u (t_id) VALUES (1)";
    let error = sql::in_transaction(&conn, |conn| sql::exec(conn, &Rules::default(), deep));
    assert!(error.unwrap_err().message.contains("too many levels of trigger recursion"));
}

#[test]
fn the_platform_is_not_under_the_rules() {
    let conn = database();
    attempt(&conn, "SELECT * FROM t").unwrap();
    conn.execute_batch(
        "BEGIN; INSERT INTO _verge_secret VALUES (1, 2); COMMIT; PRAGMA journal_mode;
         CREATE TABLE _verge_more (a)",
    )
    .unwrap();
    attempt(&conn, "SELECT * FROM _verge_more").unwrap_err();
}

/// Pieces that hostile text is made of.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("_verge_secret".to_owned()),
        Just("\"_CF_KV\"".to_owned()),
        Just("[_verge_secret]".to_owned()),
        Just("ATTACH".to_owned()),
        Just("'x.db' AS y".to_owned()),
        Just("VACUUM INTO".to_owned()),
        Just("PRAGMA writable_schema=1".to_owned()),
        Just("UPDATE sqlite_master SET sql=''".to_owned()),
        Just("ALTER TABLE t RENAME TO".to_owned()),
        Just("INSERT INTO".to_owned()),
        Just("DELETE FROM".to_owned()),
        Just("DROP TABLE".to_owned()),
        Just("SELECT * FROM".to_owned()),
        Just("WITH x AS (".to_owned()),
        Just(")".to_owned()),
        Just("VALUES (1, 2)".to_owned()),
        Just("CREATE TRIGGER g AFTER INSERT ON t BEGIN".to_owned()),
        Just("; END".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just("--\n".to_owned()),
        Just(";".to_owned()),
        Just("COMMIT".to_owned()),
        Just("ROLLBACK".to_owned()),
        Just("EXPLAIN".to_owned()),
        Just("CREATE VIEW w AS".to_owned()),
        Just("CREATE TABLE".to_owned()),
        Just("AS".to_owned()),
        Just("t".to_owned()),
        "[ -~é]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever the text: no panic, the platform's tables stay as they are, the transaction is
    /// still ours, and the next statement works.
    #[test]
    fn any_text_leaves_the_platforms_tables_alone(
        parts in prop::collection::vec(fragment(), 1..10)
    ) {
        let conn = database();
        let text = parts.join(" ");
        let _ = attempt(&conn, &text);
        prop_assert!(conn.is_autocommit(), "{text}");
        let _ = sql::in_transaction(&conn, |conn| sql::exec(conn, &Rules::default(), &text));
        prop_assert!(conn.is_autocommit(), "{text}");
        let count: i64 = conn.query_row(
            "SELECT (SELECT count(*) FROM _verge_secret) + (SELECT count(*) FROM _cf_KV)
               + (SELECT count(*) FROM sqlite_master WHERE name LIKE '\\__%\\_%' ESCAPE '\\')",
            [],
            |row| row.get(0),
        ).unwrap();
        prop_assert_eq!(count, 4, "{}", text);
        prop_assert_eq!(integer(&conn, "SELECT 1"), 1);
    }
}
