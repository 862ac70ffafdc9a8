//! Many databases on one node: made, started again, each read once. Prints one JSON object.
//!
//! `databases [COUNT]`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use verge_bench::resident;
use verge_node::{Node, NodeConfig, NodeDatabase};
use verge_services::sql::{Freshness, Query, Value};
use verge_types::DatasetId;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Databases made at a time: each waits for the disk.
const AT_A_TIME: usize = 16;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse::<usize>())?;
    let folder = std::env::temp_dir().join(format!("verge-databases-{}", std::process::id()));
    let done = measure(&folder, count).await;
    std::fs::remove_dir_all(&folder)?;
    println!("{}", done?);
    Ok(())
}

fn config(folder: &Path) -> Result<NodeConfig, Error> {
    Ok(NodeConfig::new(folder, "iad-1".parse()?, "iad".parse()?))
}

fn id(n: usize) -> Result<DatasetId, Error> {
    Ok(format!("tenant-{n}/main").parse()?)
}

async fn ask(database: &Arc<NodeDatabase>, sql: &str) -> Result<Vec<Value>, Error> {
    let query = Query::new(sql, vec![]);
    Ok(database.query(&Freshness::default(), query, None).await?.value.rows.values)
}

async fn measure(folder: &Path, count: usize) -> Result<serde_json::Value, Error> {
    let node = Node::start(config(folder)?).await?;
    let begun = Instant::now();
    let makers: Vec<_> = (0..AT_A_TIME)
        .map(|maker| {
            let node = node.clone();
            tokio::spawn(async move {
                for n in (maker..count).step_by(AT_A_TIME) {
                    let database = node.database(&id(n)?).await?;
                    ask(&database, "CREATE TABLE t (v)").await?;
                    ask(&database, "INSERT INTO t VALUES (42)").await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for maker in makers {
        maker.await??;
    }
    let made = begun.elapsed();
    node.shutdown().await;
    drop(node);

    let begun = Instant::now();
    let node = Node::start(config(folder)?).await?;
    let started = begun.elapsed();
    let begun = Instant::now();
    for n in 0..count {
        let database = node.database(&id(n)?).await?;
        if ask(&database, "SELECT v FROM t").await? != [Value::Integer(42)] {
            return Err(format!("database {n} has another value").into());
        }
    }
    let read = begun.elapsed();
    let held = resident()?;
    node.shutdown().await;
    Ok(serde_json::json!({
        "databases": count,
        "make_ms_each": made.as_secs_f64() * 1000.0 / count.max(1) as f64,
        "start_ms": started.as_secs_f64() * 1000.0,
        "first_read_us_each": read.as_secs_f64() * 1_000_000.0 / count.max(1) as f64,
        "resident_mb": held >> 20,
    }))
}
