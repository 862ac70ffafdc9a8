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
    sql::in_transaction(&target, |conn| import::sql(conn, text.as_bytes(), &mut |_| Ok(())))
        .unwrap();
    assert_eq!(content(&target), content(&source));
    let copy = memory();
    sql::in_transaction(&copy, |conn| import::sqlite(conn, &source, &mut |_| Ok(()))).unwrap();
    assert_eq!(content(&copy), content(&source));
}

#[test]
fn a_dump_of_the_sqlite_shell_is_taken() {
    let text = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE c (p REFERENCES p (id));\n\
        INSERT INTO c VALUES(1);\nCREATE TABLE p (id INTEGER PRIMARY KEY);\nINSERT INTO p VALUES(1);\n\
        CREATE TRIGGER g AFTER INSERT ON p BEGIN INSERT INTO c VALUES (new.id); END;\nCOMMIT;\n";
    let conn = memory();
    sql::in_transaction(&conn, |conn| import::sql(conn, text.as_bytes(), &mut |_| Ok(()))).unwrap();
    assert_eq!(integer(&conn, "SELECT count(*) FROM c"), 1);
    run(&conn, "INSERT INTO p VALUES (2)");
    assert_eq!(integer(&conn, "SELECT count(*) FROM c"), 2);
    // A failure leaves nothing, and says where.
    let bad = "CREATE TABLE z (a);\nINSERT INTO z VALUES (1);\nINSERT INTO nope VALUES (1);";
    let error =
        sql::in_transaction(&conn, |conn| import::sql(conn, bad.as_bytes(), &mut |_| Ok(())))
            .unwrap_err();
    assert!(error.message.starts_with("line 3, column 1: no such table: nope"), "{error}");
    assert_eq!(integer(&conn, "SELECT count(*) FROM sqlite_master WHERE name = 'z'"), 0);
    let dangling = "INSERT INTO c VALUES (99)";
    let error =
        sql::in_transaction(&conn, |conn| import::sql(conn, dangling.as_bytes(), &mut |_| Ok(())))
            .unwrap_err();
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

fn take_csv(conn: &Connection, table: &str, text: &str) -> Result<u64, sql::SqlError> {
    sql::in_transaction(conn, |conn| {
        let columns = import::infer(text.as_bytes(), &mut |_| Ok(()))?;
        Ok(import::csv(conn, table, &columns, text.as_bytes(), &mut |_| Ok(()))?.rows)
    })
}

#[test]
fn csv_is_taken_with_quotes_and_nulls() {
    let conn = memory();
    let text = "\u{feff}id,\"na\"\"me\",note\r\n1,\"a,\nb\",\n2,\"\",x\n";
    assert_eq!(take_csv(&conn, "t", text).unwrap(), 2);
    let rows = run(&conn, "SELECT * FROM t").rows;
    assert_eq!(&*rows.columns[1], "na\"me");
    assert_eq!(rows.values[0], Value::Integer(1));
    assert_eq!(rows.values[1], Value::Text("a,\nb".into()));
    assert_eq!(rows.values[2], Value::Null);
    assert_eq!(rows.values[4], Value::Text(String::new()));
    for (bad, what) in
        [("a,b\n1\n", "line 2: 1 fields"), ("a\n\"x", "quote"), ("", "empty"), ("a,\n", "no name")]
    {
        let error = take_csv(&conn, "u", bad).unwrap_err();
        assert!(error.message.contains(what), "{error}");
    }
    assert_eq!(integer(&conn, "SELECT count(*) FROM sqlite_master WHERE name = 'u'"), 0);
    let error = take_csv(&conn, "_verge_u", "a\n1\n").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Refused);
}

#[test]
fn csv_columns_have_a_type_only_where_it_loses_nothing() {
    let conn = memory();
    let text = "int,real,zip,mixed,big,none\n-1,0.5,01234,1,9223372036854775808,\n\
                2,-3.25,1,x,1,\n,,,,,\n";
    take_csv(&conn, "t", text).unwrap();
    let types = "SELECT group_concat(typeof(a), ' ') FROM (SELECT int AS a FROM t UNION ALL \
                 SELECT real FROM t UNION ALL SELECT zip FROM t UNION ALL SELECT mixed FROM t \
                 UNION ALL SELECT big FROM t)";
    let found = run(&conn, types).rows.values.remove(0);
    let expected =
        "integer integer null real real null text text null text text null text text null";
    assert_eq!(found, Value::Text(expected.into()));
    let mut back = String::new();
    export::to_csv(&conn, "T", |line| {
        back.push_str(line);
        Ok(())
    })
    .unwrap();
    assert_eq!(back, text);
}

#[test]
fn pages_are_a_file_that_sqlite_opens() {
    let folder = tempfile::tempdir().unwrap();
    let conn = Connection::open(folder.path().join("a")).unwrap();
    conn.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t (a); INSERT INTO t VALUES (7);")
        .unwrap();
    let mut bytes = Vec::new();
    conn.execute_batch("BEGIN").unwrap();
    export::pages(&conn, |page| {
        bytes.extend_from_slice(page);
        Ok(())
    })
    .unwrap();
    conn.execute_batch("COMMIT").unwrap();
    assert_eq!(bytes, export::serialize(&conn, 1 << 20).unwrap());
    std::fs::write(folder.path().join("b"), bytes).unwrap();
    let copy = Connection::open(folder.path().join("b")).unwrap();
    assert_eq!(integer(&copy, "SELECT a FROM t"), 7);
}

#[test]
fn clearing_leaves_nothing_of_an_apps() {
    let conn = filled();
    assert!(!import::is_empty(&conn).unwrap());
    sql::in_transaction(&conn, import::clear).unwrap();
    assert!(import::is_empty(&conn).unwrap());
    assert_eq!(integer(&conn, "SELECT count(*) FROM sqlite_sequence"), 0);
    conn.query_row("SELECT count(*) FROM _verge_x", [], |_| Ok(())).unwrap();
}

#[test]
fn an_import_can_be_ended_and_leaves_nothing() {
    let conn = memory();
    let text = "CREATE TABLE t (a); INSERT INTO t VALUES (1);";
    let mut end = |at: u64| {
        if at > 20 { Err(sql::SqlError::new(ErrorKind::Migration, "ended")) } else { Ok(()) }
    };
    let ended = sql::in_transaction(&conn, |conn| import::sql(conn, text.as_bytes(), &mut end));
    assert_eq!(ended.unwrap_err().message, "ended");
    assert!(import::is_empty(&conn).unwrap());
}

#[test]
fn a_script_gives_what_each_statement_gave() {
    let conn = memory();
    let rules = sql::Rules::default();
    let text = "CREATE TABLE t (a);\nINSERT INTO t VALUES (1), (2); SELECT a FROM t;";
    assert!(sql::script(&conn, &rules, text, true).unwrap().is_none());
    let all = sql::script(&conn, &rules, text, false).unwrap().unwrap();
    assert_eq!((all.len(), all[1].stats.changes, all[2].rows.len()), (3, 2, 2));
    let read = sql::script(&conn, &rules, "SELECT 1; SELECT a FROM t", true).unwrap().unwrap();
    assert_eq!(read[1].rows.len(), 2);
    let error = sql::script(&conn, &rules, "SELECT 1;\n SELECT b FROM t", true).unwrap_err();
    assert_eq!(error.message, "line 2, column 9: no such column: b: SQLITE_ERROR");
}

#[test]
fn a_migration_runs_once_or_not_at_all() {
    let conn = memory();
    let migration =
        |name: &str, sql: &str| migrate::Migration { name: name.to_owned(), sql: sql.to_owned() };
    let apply = |m: &migrate::Migration| {
        sql::in_transaction(&conn, |conn| migrate::apply(conn, "d1_migrations", m))
    };
    assert!(migrate::applied(&conn, "d1_migrations").unwrap().is_empty());
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
    let recorded = migrate::applied(&conn, "d1_migrations").unwrap();
    let names: Vec<_> = recorded.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["0001_init.sql", "0003_empty.sql"]);
    assert_eq!(recorded[0].checksum, Some(migrate::checksum(&first.sql)));
    assert!(recorded[0].applied_at.starts_with("20"), "{recorded:?}");
    // The table is wrangler's own, whose records have no checksum.
    run(&conn, "INSERT INTO d1_migrations (name) VALUES ('0004_by_wrangler.sql')");
    assert_eq!(migrate::applied(&conn, "d1_migrations").unwrap()[2].checksum, None);
    assert!(!apply(&migration("0004_by_wrangler.sql", "CREATE TABLE t (a)")).unwrap());
}
