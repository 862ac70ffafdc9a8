//! Times a prepared point read into a sink that keeps nothing: the cost below the JS engine.

use std::hint::black_box;
use std::time::Instant;

use rusqlite::Connection;
use verge_services::sql::{self, Discard, Rules, ValueRef};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("db.sqlite");
    let writer = Connection::open(&path)?;
    writer.execute_batch(
        "PRAGMA journal_mode=WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, n REAL);
         WITH RECURSIVE s(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM s LIMIT 100000)
         INSERT INTO t SELECT x, 'name ' || x, x * 0.5 FROM s;",
    )?;
    let conn = Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let rules = Rules::default();
    let text = "SELECT id, name, n FROM t WHERE id = ?1";
    let mut best = f64::MAX;
    for _ in 0..5 {
        let rounds = 200_000;
        let start = Instant::now();
        for i in 0..rounds {
            let id = ValueRef::Integer(1 + (i * 7919) % 100_000);
            black_box(sql::run(&conn, &rules, text, &[id], &mut Discard)?);
        }
        best = best.min(start.elapsed().as_secs_f64() / rounds as f64);
    }
    println!("prepared point read, no-op sink, meta included: {:.2} µs", best * 1e6);
    Ok(())
}
