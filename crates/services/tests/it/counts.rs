//! `rows_read`, `rows_written` and the rest of `meta`.

use crate::support::{memory, run};

#[test]
fn rows_read_and_written_match_d1_where_it_is_exact() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)");
    let cases = [
        // (statement, read, written, changes)
        ("INSERT INTO t (a, b) VALUES (1,1),(2,2),(3,3),(4,4),(5,5)", 0, 5, 5),
        ("SELECT * FROM t", 5, 0, 0),
        ("SELECT * FROM t WHERE id = 3", 1, 0, 0),
        ("SELECT * FROM t WHERE id > 3", 2, 0, 0),
        ("SELECT * FROM t WHERE a = 99", 5, 0, 0),
        ("SELECT * FROM t LIMIT 2", 2, 0, 0),
        ("SELECT 1", 0, 0, 0),
        ("UPDATE t SET b = 9 WHERE id = 1", 1, 1, 1),
        ("DELETE FROM t WHERE id = 5", 1, 1, 1),
    ];
    for (sql, read, written, changes) in cases {
        let stats = run(&conn, sql).stats;
        assert_eq!(
            (stats.rows_read, stats.rows_written, stats.changes),
            (read, written, changes),
            "{sql}"
        );
        assert_eq!(stats.changed_db, changes > 0, "{sql}");
    }
}

#[test]
fn an_index_is_one_more_row_written() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)");
    run(&conn, "CREATE INDEX ta ON t (a)");
    run(&conn, "CREATE UNIQUE INDEX tb ON t (b)");
    assert_eq!(run(&conn, "INSERT INTO t (a, b) VALUES (1, 1), (2, 2)").stats.rows_written, 6);
    assert_eq!(run(&conn, "UPDATE t SET a = a + 1").stats.rows_written, 4);
    assert_eq!(run(&conn, "DELETE FROM t").stats.rows_written, 2);
    // An index scan counts the index's rows, as full as a table's.
    for i in 0..10 {
        run(&conn, &format!("INSERT INTO t (a, b) VALUES ({}, {i})", i % 2));
    }
    assert_eq!(run(&conn, "SELECT a FROM t WHERE a = 1").stats.rows_read, 5);
}

#[test]
fn schema_changes_change_the_database() {
    let conn = memory();
    let create = run(&conn, "CREATE TABLE t (a)").stats;
    assert!(create.changed_db);
    assert_eq!((create.changes, create.rows_written), (0, 2));
    assert!(create.size_after >= 8192);
    assert!(!run(&conn, "CREATE TABLE IF NOT EXISTS t (a)").stats.changed_db);
    assert!(!run(&conn, "SELECT 1").stats.changed_db);
    assert!(run(&conn, "DROP TABLE t").stats.changed_db);
}

#[test]
fn counts_of_one_run_do_not_leak_into_the_next() {
    let conn = memory();
    run(&conn, "CREATE TABLE t (a)");
    run(&conn, "INSERT INTO t VALUES (1), (2), (3)");
    for _ in 0..3 {
        assert_eq!(run(&conn, "SELECT * FROM t").stats.rows_read, 3);
    }
    let before = run(&conn, "SELECT 1").stats.size_after;
    run(&conn, "INSERT INTO t SELECT randomblob(100000)");
    assert!(run(&conn, "SELECT 1").stats.size_after > before);
}
