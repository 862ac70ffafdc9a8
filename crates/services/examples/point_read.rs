//! Times a prepared point read into a sink that keeps nothing: the cost below the JS engine.

use std::hint::black_box;
use std::time::Instant;

use verge_dataset::rusqlite::Connection;
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
    let conn = Connection::open_with_flags(
        &path,
        verge_dataset::rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )?;
    let text = "SELECT id, name, n FROM t WHERE id = ?1";
    let mut floor = f64::MAX;
    for _ in 0..5 {
        let rounds = 200_000;
        let start = Instant::now();
        for i in 0..rounds {
            let mut statement = conn.prepare_cached(text)?;
            let mut rows = statement.query([1 + (i * 7919) % 100_000])?;
            while let Some(row) = rows.next()? {
                black_box((row.get_ref(0)?, row.get_ref(1)?, row.get_ref(2)?));
            }
        }
        floor = floor.min(start.elapsed().as_secs_f64() / f64::from(rounds));
    }
    println!("rusqlite's prepare_cached, bare:  {:.2} µs", floor * 1e6);
    println!("ours, no-op sink, meta included:  {:.2} µs", ours(&conn, text)? * 1e6);
    // What the locks of a read transaction cost falls away inside of one.
    conn.execute_batch("BEGIN")?;
    println!("the same inside a transaction:    {:.2} µs", ours(&conn, text)? * 1e6);
    Ok(())
}

fn ours(conn: &Connection, text: &str) -> Result<f64, sql::SqlError> {
    let rules = Rules::default();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let rounds = 200_000;
        let start = Instant::now();
        for i in 0..rounds {
            let id = ValueRef::Integer(1 + (i * 7919) % 100_000);
            black_box(sql::run(conn, &rules, text, &[id], &mut Discard)?);
        }
        best = best.min(start.elapsed().as_secs_f64() / rounds as f64);
    }
    Ok(best)
}
