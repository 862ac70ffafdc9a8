//! Migrations, imports, exports.

use verge_dataset::rusqlite::Connection;
use verge_services::sql::{self, ErrorKind, Value, export, import, migrate};

use crate::support::{integer, memory, run};

fn filled() -> Connection {
    let conn = memory();
    conn.execute_batch(
        "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, a, b AS (id * 2));
         CREATE TABLE \"odd \"\"name\" (x REFERENCES p (id), \"y z\");
         CREATE TABLE w (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
         CREATE INDEX pa ON p (a); CREATE VIEW v AS SELECT a FROM p;
         CREATE TRIGGER g AFTER INSERT ON w BEGIN INSERT INTO p (a) VALUES ('t'); END;
         CREATE VIRTUAL TABLE f USING fts5(body);
         CREATE TABLE _verge_x (a); INSERT INTO _verge_x VALUES (1);
         INSERT INTO p (a) VALUES (NULL), (-9223372036854775807 - 1), (0.1), (1e300), (9e999),
           ('it''s; \"q\"'), (x'00ff'), (''), (x''), (CAST(x'6100ff' AS TEXT)), ('a' || char(0));
         INSERT INTO \"odd \"\"name\" VALUES (1, 'one'); INSERT INTO w VALUES ('k', 1);
         INSERT INTO f VALUES ('the quick fox'); DELETE FROM p WHERE id = 12;",
    )
    .unwrap();
    conn
}

fn content(conn: &Connection) -> Vec<Value> {
    let mut values = run(conn, "SELECT id, typeof(a), hex(a), a, b FROM p ORDER BY id").rows.values;
    values.extend(run(conn, "SELECT * FROM \"odd \"\"name\"").rows.values);
    values.extend(run(conn, "SELECT * FROM w").rows.values);
    values.extend(run(conn, "SELECT name, seq FROM sqlite_sequence").rows.values);
    values.extend(run(conn, "SELECT * FROM f('quick')").rows.values);
    let schema = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '\\_verge%' ESCAPE '\\' \
                  AND name NOT LIKE 'sqlite%' ORDER BY name";
    values.extend(run(conn, schema).rows.values);
    values
}

#[test]
fn a_dump_makes_the_same_database_again() {
    let source = filled();
    let text = export::to_sql(&source).unwrap();
    assert!(!text.contains("_verge_x"));
    let target = memory();
    sql::in_transaction(&target, |conn| import::sql(conn, &text)).unwrap();
    assert_eq!(content(&target), content(&source));
    let copy = memory();
    sql::in_transaction(&copy, |conn| import::sqlite(conn, &source)).unwrap();
    assert_eq!(content(&copy), content(&source));
}

#[test]
fn a_dump_of_the_sqlite_shell_is_taken() {
    let text = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE c (p REFERENCES p (id));\n\
        INSERT INTO c VALUES(1);\nCREATE TABLE p (id INTEGER PRIMARY KEY);\nINSERT INTO p VALUES(1);\n\
        CREATE TRIGGER g AFTER INSERT ON p BEGIN INSERT INTO c VALUES (new.id); END;\nCOMMIT;\n";
    let conn = memory();
    sql::in_transaction(&conn, |conn| import::sql(conn, text)).unwrap();
    assert_eq!(integer(&conn, "SELECT count(*) FROM c"), 1);
    run(&conn, "INSERT INTO p VALUES (2)");
    assert_eq!(integer(&conn, "SELECT count(*) FROM c"), 2);
    // A failure leaves nothing, and says where.
    let bad = "CREATE TABLE z (a);\nINSERT INTO z VALUES (1);\nINSERT INTO nope VALUES (1);";
    let error = sql::in_transaction(&conn, |conn| import::sql(conn, bad)).unwrap_err();
    assert!(error.message.starts_with("Error in line 3: INSERT INTO nope"), "{error}");
    assert_eq!(integer(&conn, "SELECT count(*) FROM sqlite_master WHERE name = 'z'"), 0);
    let dangling = "INSERT INTO c VALUES (99)";
    let error = sql::in_transaction(&conn, |conn| import::sql(conn, dangling)).unwrap_err();
    assert!(error.message.contains("FOREIGN KEY constraint failed in table c"), "{error}");
    assert_eq!(integer(&conn, "SELECT count(*) FROM c WHERE p = 99"), 0);
    assert_eq!(integer(&conn, "PRAGMA foreign_keys"), 1);
}

#[test]
fn serialized_bytes_are_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let conn = Connection::open(folder.path().join("a")).unwrap();
    conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (a); INSERT INTO t VALUES (7);")
        .unwrap();
    let bytes = export::serialize(&conn, 1 << 20).unwrap();
    std::fs::write(folder.path().join("b"), bytes).unwrap();
    let copy = Connection::open(folder.path().join("b")).unwrap();
    assert_eq!(integer(&copy, "SELECT a FROM t"), 7);
    let error = export::serialize(&conn, 4096).unwrap_err();
    assert!(error.to_string().starts_with("D1_DUMP_ERROR: "), "{error}");
}

#[test]
fn csv_is_taken_with_quotes_and_nulls() {
    let conn = memory();
    let text = "\u{feff}id,\"na\"\"me\",note\r\n1,\"a,\nb\",\n2,\"\",x\n";
    assert_eq!(sql::in_transaction(&conn, |c| import::csv(c, "t", text)).unwrap(), 2);
    let rows = run(&conn, "SELECT * FROM t").rows;
    assert_eq!(&*rows.columns[1], "na\"me");
    assert_eq!(rows.values[1], Value::Text("a,\nb".into()));
    assert_eq!(rows.values[2], Value::Null);
    assert_eq!(rows.values[4], Value::Text(String::new()));
    for (bad, what) in [("a,b\n1\n", "line 2 has 1 fields"), ("a\n\"x", "quote"), ("", "empty")] {
        let error = sql::in_transaction(&conn, |c| import::csv(c, "u", bad)).unwrap_err();
        assert!(error.message.contains(what), "{error}");
    }
    assert_eq!(integer(&conn, "SELECT count(*) FROM sqlite_master WHERE name = 'u'"), 0);
    let error = sql::in_transaction(&conn, |c| import::csv(c, "_verge_u", "a\n1\n")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
}

#[test]
fn a_migration_runs_once_or_not_at_all() {
    let conn = memory();
    let migration =
        |name: &str, sql: &str| migrate::Migration { name: name.to_owned(), sql: sql.to_owned() };
    let apply = |m: &migrate::Migration| sql::in_transaction(&conn, |conn| migrate::apply(conn, m));
    assert!(migrate::applied(&conn).unwrap().is_empty());
    let first = migration("0001_init.sql", "CREATE TABLE t (a);\nINSERT INTO t VALUES (1);");
    assert!(apply(&first).unwrap());
    assert!(!apply(&first).unwrap());
    assert_eq!(integer(&conn, "SELECT count(*) FROM t"), 1);
    let bad = migration("0002_bad.sql", "ALTER TABLE t ADD b;\nUPDATE t SET nope = 1;");
    let error = apply(&bad).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Migration);
    assert!(error.message.contains("0002_bad.sql") && error.message.contains("line 2"), "{error}");
    assert_eq!(run(&conn, "SELECT * FROM t").rows.columns.len(), 1);
    assert!(apply(&migration("0003_empty.sql", "-- nothing yet\n")).unwrap());
    assert_eq!(migrate::applied(&conn).unwrap(), ["0001_init.sql", "0003_empty.sql"]);
}
