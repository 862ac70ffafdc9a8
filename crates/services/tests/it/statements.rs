//! D1's statements: values, parameters, results, errors.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;

use verge_services::sql::{
    self, Columns, Cursor, ErrorKind, Policy, Query, RowSink, Rows, Rules, Value, ValueRef,
};

use crate::support::{fails, integer, memory, query, run};

#[test]
fn values_go_in_and_out_unchanged() {
    let conn = memory();
    let values = vec![
        Value::Null,
        Value::Integer(i64::MIN),
        Value::Real(1.5),
        Value::Text("a\0é".into()),
        Value::Blob(vec![0, 255]),
        Value::Blob(vec![]),
        Value::Text(String::new()),
    ];
    let outcome = query(&conn, "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7", values.clone()).unwrap();
    assert_eq!(outcome.rows.values, values);
    let types = query(
        &conn,
        "SELECT typeof(?), typeof(?), typeof(?), typeof(?), typeof(?), typeof(?), typeof(?)",
        values,
    );
    let names: Vec<_> = types.unwrap().rows.values.iter().map(|v| format!("{v:?}")).collect();
    assert_eq!(
        names.join(" ").replace("Text", ""),
        "(\"null\") (\"integer\") (\"real\") (\"text\") (\"blob\") (\"blob\") (\"text\")"
    );
}

#[test]
fn text_that_is_no_utf8_is_read_with_replacement_characters() {
    let outcome = run(&memory(), "SELECT CAST(x'61ff62' AS TEXT)");
    assert_eq!(outcome.rows.values, [Value::Text("a\u{fffd}b".into())]);
}

#[test]
fn parameters_are_counted_as_d1_does() {
    let conn = memory();
    for (sql, given, good) in [
        ("SELECT ?", 1, true),
        ("SELECT ?", 0, false),
        ("SELECT ?", 2, false),
        ("SELECT ?2", 2, true),
        ("SELECT ?2", 1, false),
        ("SELECT ?1, ?1", 1, true),
        ("SELECT ?1, ?", 2, true),
        ("SELECT '?'", 1, false),
    ] {
        let result = query(&conn, sql, vec![Value::Integer(1); given]);
        assert_eq!(result.is_ok(), good, "{sql} with {given}");
        if let Err(error) = result {
            assert_eq!(
                error.to_string(),
                "D1_ERROR: Wrong number of parameter bindings for SQL query."
            );
        }
    }
}

#[test]
fn errors_read_as_d1s_do() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT UNIQUE NOT NULL)");
    run(&conn, "INSERT INTO t VALUES (1, 'x')");
    for (sql, text) in [
        ("SELECT * FROM nope", "D1_ERROR: no such table: nope: SQLITE_ERROR"),
        ("SELEKT 1", "D1_ERROR: near \"SELEKT\": syntax error at offset 0: SQLITE_ERROR"),
        (
            "INSERT INTO t VALUES (1, 'y')",
            "D1_ERROR: UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT \
             (extended: SQLITE_CONSTRAINT_PRIMARYKEY)",
        ),
        (
            "INSERT INTO t VALUES (2, 'x')",
            "D1_ERROR: UNIQUE constraint failed: t.a: SQLITE_CONSTRAINT \
             (extended: SQLITE_CONSTRAINT_UNIQUE)",
        ),
        (
            "INSERT INTO t VALUES (2, NULL)",
            "D1_ERROR: NOT NULL constraint failed: t.a: SQLITE_CONSTRAINT \
             (extended: SQLITE_CONSTRAINT_NOTNULL)",
        ),
        ("PRAGMA journal_mode", "D1_ERROR: not authorized: SQLITE_AUTH"),
        ("  -- nothing", "D1_ERROR: No SQL statements detected."),
        (
            "SELECT 1; SELECT 2",
            "D1_ERROR: A prepared SQL statement must contain only one statement.",
        ),
    ] {
        assert_eq!(fails(&conn, sql).to_string(), text, "{sql}");
    }
    assert!(fails(&conn, "BEGIN").to_string().starts_with(
        "D1_ERROR: To execute a transaction, please use the state.storage.transaction()"
    ));
    // A trailing semicolon and comments are no second statement.
    run(&conn, "SELECT 1; -- done\n ;");
}

#[test]
fn first_finds_a_column_or_says_so() {
    let conn = memory();
    let rows = run(&conn, "SELECT 1 AS a, 2 AS b, 3 AS a").rows;
    assert_eq!(rows.first("a").unwrap().unwrap(), &Value::Integer(3));
    assert_eq!(
        rows.first("z").unwrap().unwrap_err().to_string(),
        "D1_COLUMN_NOTFOUND: Column not found (z)"
    );
    assert!(run(&conn, "SELECT 1 AS a WHERE 0").rows.first("a").is_none());
}

#[test]
fn returning_and_pragmas_give_rows() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)");
    let outcome = run(&conn, "INSERT INTO t (a) VALUES (7), (8) RETURNING id, a");
    assert_eq!(outcome.rows.len(), 2);
    assert_eq!(outcome.stats.changes, 2);
    assert_eq!(outcome.stats.last_row_id, 2);
    assert!(outcome.stats.changed_db);
    assert_eq!(run(&conn, "PRAGMA table_info(t)").rows.len(), 2);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let insert = |id| Query::new("INSERT INTO t VALUES (?)", vec![Value::Integer(id)]);
    let batch = |queries: &[Query]| {
        sql::in_transaction(&conn, |conn| sql::batch(conn, &Rules::default(), queries))
    };
    let done = batch(&[insert(1), insert(2), Query::new("SELECT count(*) FROM t", vec![])]);
    assert_eq!(done.unwrap()[2].rows.values, [Value::Integer(2)]);
    let error = batch(&[insert(3), insert(1), insert(4)]).unwrap_err();
    assert_eq!(error.code & 0xff, 19);
    assert_eq!(integer(&conn, "SELECT count(*) FROM t"), 2);
    assert_eq!(batch(&[]).unwrap_err().to_string(), "D1_ERROR: No SQL statements detected.");
    // A statement that rolls the whole transaction back leaves nothing and does no harm.
    let rollback = Query::new("INSERT OR ROLLBACK INTO t VALUES (1)", vec![]);
    batch(&[insert(9), rollback]).unwrap_err();
    assert_eq!(integer(&conn, "SELECT count(*) FROM t"), 2);
}

#[test]
fn scripts_run_statement_by_statement_and_name_the_line() {
    let conn = memory();
    let rules = Rules::default();
    let script = "CREATE TABLE t (a);\n-- one; two\nINSERT INTO t\n VALUES (';'), (2);\n\
                  CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = 1; END;\nSELECT 1;;";
    let done = sql::exec(&conn, &rules, script).unwrap();
    assert_eq!((done.count, done.changes), (4, 2));
    let error =
        sql::exec(&conn, &rules, "SELECT 1;\n\n  -- x\n INSERTZ INTO t\nVALUES (1);").unwrap_err();
    assert_eq!(
        error.to_string(),
        "D1_EXEC_ERROR: Error in line 4: INSERTZ INTO t: near \"INSERTZ\": syntax error at \
         offset 10: SQLITE_ERROR"
    );
    assert_eq!(sql::exec(&conn, &rules, " ;").unwrap_err().kind, ErrorKind::Exec);
}

#[test]
fn cached_statements_follow_the_schema() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (a)");
    run(&conn, "INSERT INTO t VALUES (1)");
    for (change, columns) in [
        ("ALTER TABLE t ADD COLUMN b", 2),
        ("ALTER TABLE t ADD COLUMN c", 3),
        ("ALTER TABLE t DROP COLUMN b", 2),
    ] {
        run(&conn, "SELECT * FROM t");
        run(&conn, change);
        let rows = run(&conn, "SELECT * FROM t").rows;
        assert_eq!((rows.columns.len(), rows.values.len()), (columns, columns), "{change}");
    }
    run(&conn, "DROP TABLE t");
    fails(&conn, "SELECT * FROM t");
    run(&conn, "CREATE TABLE t (z)");
    assert_eq!(&*run(&conn, "SELECT * FROM t").rows.columns[0], "z");
}

#[test]
fn a_sink_may_stop_and_knows_shapes_by_id() {
    #[derive(Default)]
    struct One(u64, Vec<i64>);
    impl RowSink for One {
        fn columns(&mut self, columns: &Arc<Columns>) {
            self.0 = columns.id;
        }
        fn null(&mut self) {}
        fn integer(&mut self, value: i64) {
            self.1.push(value);
        }
        fn real(&mut self, _: f64) {}
        fn text(&mut self, _: &str) {}
        fn blob(&mut self, _: &[u8]) {}
        fn end_row(&mut self) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    let conn = memory();
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n";
    let (mut first, mut second) = (One::default(), One::default());
    sql::run(&conn, &Rules::default(), endless, &(), &mut first).unwrap();
    sql::run(&conn, &Rules::default(), endless, &(), &mut second).unwrap();
    assert_eq!(first.1, [1]);
    assert_eq!(first.0, second.0);
}

#[test]
fn a_statement_ends_when_it_is_told_to_or_grows_too_large() {
    let conn = memory();
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n";
    let asked = Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 10
    };
    let count = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
                 SELECT count(*) FROM n";
    let rules = Rules { stop: Some(&stop), ..Rules::default() };
    let error = sql::query(&conn, &rules, &Query::new(count, vec![])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::CpuLimit);
    assert_eq!(error.to_string(), "D1_ERROR: D1 DB exceeded its CPU time limit and was reset.");
    let policy = Policy { result_rows: 100, ..Policy::default() };
    let rules = Rules { policy, stop: None };
    let error = sql::query(&conn, &rules, &Query::new(endless, vec![])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let policy = Policy { result_bytes: 1 << 20, ..Policy::default() };
    let big = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
               SELECT hex(randomblob(10000)) FROM n";
    let rules = Rules { policy, stop: None };
    let error = sql::query(&conn, &rules, &Query::new(big, vec![])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    // The connection is as good as before.
    assert_eq!(integer(&conn, "SELECT 1"), 1);
}

#[test]
fn a_cursor_reads_in_pieces() {
    let conn = memory();
    let series = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT ?1) \
                  SELECT x FROM n";
    let mut cursor =
        Cursor::open(&conn, Policy::default(), series, &[ValueRef::Integer(10_000)]).unwrap();
    let (mut total, mut pieces) = (0, 0);
    loop {
        let mut rows = Rows::default();
        let more = cursor.next(64, 1 << 20, None, &mut rows).unwrap();
        assert!(rows.values.len() <= 64);
        total += rows.values.len();
        pieces += 1;
        if !more {
            break;
        }
        // Others may use the connection meanwhile, the same text too.
        query(&conn, series, vec![Value::Integer(3)]).unwrap();
    }
    assert_eq!((total, pieces), (10_000, 157));
    drop(cursor);
    run(&conn, "CREATE TABLE t (a)");
    let error = Cursor::open(&conn, Policy::default(), "DELETE FROM t", &()).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Refused);
}

#[test]
fn a_connection_closes_with_statements_in_the_cache() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (a)");
    for i in 0..300 {
        run(&conn, &format!("SELECT {i} FROM t"));
    }
    assert!(conn.close().is_ok());
}

#[test]
fn pragmas_of_an_app_do_not_outlive_its_statement() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (a CHECK (a > 0))");
    for pragma in [
        "PRAGMA ignore_check_constraints = on",
        "PRAGMA case_sensitive_like = on",
        "PRAGMA foreign_keys = off",
        "PRAGMA legacy_alter_table = yes",
        "SELECT * FROM pragma_foreign_keys",
    ] {
        run(&conn, pragma);
    }
    fails(&conn, "INSERT INTO t VALUES (-1)");
    assert_eq!(integer(&conn, "SELECT 'a' LIKE 'A'"), 1);
    assert_eq!(integer(&conn, "PRAGMA foreign_keys"), 1);
}

#[test]
fn a_description_tells_names_and_kind() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (a INTEGER, b TEXT)");
    let told =
        sql::describe(&conn, &Rules::default(), "SELECT a, b AS c, 1 FROM t WHERE a = :x").unwrap();
    assert!(told.readonly && !told.explain);
    assert_eq!(told.parameters, [Some(":x".to_owned())]);
    assert_eq!(told.columns[0], ("a".to_owned(), Some("INTEGER".to_owned())));
    assert_eq!(told.columns[2].1, None);
    let write = "INSERT INTO t VALUES (1, 2)";
    assert!(!sql::is_readonly(&conn, &Rules::default(), write).unwrap());
    let mut sink = Rows::default();
    let stats = sql::run_readonly(&conn, &Rules::default(), write, &(), &mut sink).unwrap();
    assert!(stats.is_none());
    assert_eq!(integer(&conn, "SELECT count(*) FROM t"), 0);
}
