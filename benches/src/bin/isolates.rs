//! Cold start and memory, measured inside one process; prints one JSON object.
//!
//! `cold`: a new deployment's first answer with no isolate booted for it.
//! `pooled`: the same with a booted isolate waiting in the pool.
//! `idle_bytes`: resident memory an idle app adds, over 200 apps that each answered once.

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt;
use verge_bench::{HELLO, context, load, resident, runtime_config};
use verge_runtime::{Runtime, RuntimeConfig};
use verge_types::{Body, Service};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Error> {
    let runs: usize = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
    let apps: usize = std::env::args().nth(2).map_or(Ok(200), |n| n.parse())?;
    let cold = first_answers(0, runs).await?;
    let pooled = first_answers(1, runs).await?;
    let idle = idle_memory(apps).await?;
    let report = serde_json::json!({
        "runs": runs,
        "cold_ms": { "p50": percentile(&cold, 50), "p99": percentile(&cold, 99) },
        "pooled_ms": { "p50": percentile(&pooled, 50), "p99": percentile(&pooled, 99) },
        "apps": apps,
        "idle_bytes": idle,
    });
    println!("{report}");
    Ok(())
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

async fn answer(app: &verge_runtime::App) -> Result<(), Error> {
    let request = Request::get("http://bench.example/").body(Body::Empty)?;
    let response = app.call(request, context()).await?;
    let body = response.into_body().collect().await?.to_bytes();
    if body != "Hello World" {
        return Err(format!("an unexpected answer of {} bytes", body.len()).into());
    }
    Ok(())
}

async fn first_answers(warm: usize, runs: usize) -> Result<Vec<Duration>, Error> {
    let runtime = Runtime::start(RuntimeConfig { warm, ..runtime_config() })?;
    // A node has other apps; V8 shares its read-only memory between isolates.
    let neighbour = load(&runtime, "neighbour", HELLO)?;
    answer(&neighbour).await?;
    let mut times = Vec::with_capacity(runs);
    for run in 0..runs + 5 {
        // Each run is a deployment of its own, so that no code cache helps it.
        let app = load(&runtime, &format!("app-{run}"), &format!("{HELLO} // {run}"))?;
        if warm > 0 {
            // Until the pool is full again.
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        let begun = Instant::now();
        answer(&app).await?;
        let took = begun.elapsed();
        // The first few pay for pages of the binary that were never touched.
        if run >= 5 {
            times.push(took);
        }
        app.retire();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    times.sort();
    Ok(times)
}

async fn idle_memory(count: usize) -> Result<u64, Error> {
    let runtime = Runtime::start(RuntimeConfig { warm: 0, ..runtime_config() })?;
    let first = load(&runtime, "first", HELLO)?;
    answer(&first).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = resident()?;
    let mut apps = Vec::with_capacity(count);
    for index in 0..count {
        let app = load(&runtime, &format!("idle-{index}"), HELLO)?;
        answer(&app).await?;
        apps.push(app);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = resident()?;
    Ok(after.saturating_sub(before) / count.max(1) as u64)
}
