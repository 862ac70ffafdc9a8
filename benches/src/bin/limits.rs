//! What a neighbour feels while an app runs into its limits again and again: the neighbour's
//! p50 and p99 before and during, and their ratio. A line a limit, and a last one in JSON.
//!
//! `limits [SECONDS] [LIMIT…]`; each limit takes twice so long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use verge_bench::load_with;
use verge_gateway::{Gateway, GatewayConfig, NoAccessLog};
use verge_runtime::{Runtime, RuntimeConfig};
use verge_telemetry::{LogRecord, LogSink};
use verge_types::{Limits, Resolve, Routed, SessionPolicy};

type Error = Box<dyn std::error::Error + Send + Sync>;

const STEADY: &str = r#"export default { fetch() { return new Response("Hello World") } }"#;
const HOSTILE: &str = r#"
const hog = [];
const trips = {
    cpu: () => { for (;;); },
    heap: () => { for (;;) hog.push(new Array(1000).fill({})); },
    json: () => { const s = "[" + "1,".repeat(5_000_000) + "0]"; for (;;) hog.push(JSON.parse(s)); },
    buffers: () => { for (;;) hog.push(new Uint8Array(1 << 20)); },
    regexp: () => /^(a+)+$/.test("a".repeat(40) + "b"),
    throw: () => { throw new Error("thrown"); },
};
export default { fetch: (request) => trips[new URL(request.url).pathname.slice(1)]() };
"#;
const KINDS: [&str; 6] = ["cpu", "heap", "json", "buffers", "regexp", "throw"];
/// Connections on the neighbour, and pause of each between two requests.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(1);

struct Two {
    steady: Routed,
    hostile: Routed,
}

impl Resolve for Two {
    fn resolve(&self, host: &str) -> Option<Routed> {
        Some(if host == "hostile.test" { self.hostile.clone() } else { self.steady.clone() })
    }
}

/// The hostile app fails thousands of times.
struct Silent;

impl LogSink for Silent {
    fn write(&self, _record: LogRecord) {}
}

fn main() -> Result<(), Error> {
    verge_runtime::be_prompt();
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(3), |text| text.parse())?;
    let asked: Vec<String> = args.collect();
    let kinds =
        KINDS.into_iter().filter(|kind| asked.is_empty() || asked.iter().any(|a| a == kind));
    let runtime = Runtime::start(RuntimeConfig::new(Arc::new(Silent)))?;
    let routed = |name: &str, source: &str, limits: Limits| -> Result<Routed, Error> {
        let app = load_with(&runtime, name, source, limits)?;
        Ok(Routed {
            app: app.name().clone(),
            service: app,
            max_request_body: 1 << 20,
            max_wall_ms: 30_000,
            sessions: SessionPolicy::Off,
        })
    };
    let mut limits = Limits::default();
    for (key, value) in [("heap", "64MiB"), ("external_memory", "32MiB"), ("cpu_time", "200ms")] {
        limits.set_key(key, value)?;
    }
    let two = Two {
        steady: routed("steady", STEADY, Limits::default())?,
        hostile: routed("hostile", HOSTILE, limits)?,
    };
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(measure(two, kinds.collect(), Duration::from_secs(seconds)))
}

async fn measure(two: Two, kinds: Vec<&str>, round: Duration) -> Result<(), Error> {
    let config = GatewayConfig::on(([127, 0, 0, 1], 0).into());
    let gateway = Gateway::bind(config, Arc::new(two), Arc::new(NoAccessLog)).await?;
    let port = gateway.local_addr().port();
    tokio::spawn(async move { gateway.serve(std::future::pending()).await });
    // The first requests start the isolates.
    neighbour(port, Duration::from_millis(500)).await?;
    let mut all = Vec::new();
    for kind in kinds {
        let before = neighbour(port, round).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let trips = tokio::spawn(trip(port, kind.to_owned(), stop.clone()));
        let during = neighbour(port, round).await?;
        stop.store(true, Ordering::Relaxed);
        let trips = trips.await??;
        let ratio = during.p99.as_secs_f64() / before.p99.as_secs_f64();
        println!(
            "{kind:8} {trips:5} trips   before p50 {:?} p99 {:?}   during p50 {:?} p99 {:?}   ratio {ratio:.2}   lost {}",
            before.p50, before.p99, during.p50, during.p99, during.lost
        );
        all.push(serde_json::json!({
            "limit": kind, "trips": trips, "requests": during.requests, "lost": during.lost,
            "before_p99_us": before.p99.as_micros(), "during_p99_us": during.p99.as_micros(),
            "ratio": ratio,
        }));
    }
    println!("{}", serde_json::Value::from(all));
    Ok(())
}

struct Felt {
    requests: usize,
    lost: usize,
    p50: Duration,
    p99: Duration,
}

/// Constant load on the neighbour for `time`.
async fn neighbour(port: u16, time: Duration) -> Result<Felt, Error> {
    let end = Instant::now() + time;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(async move {
                let mut took = Vec::new();
                let mut lost = 0;
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
                while Instant::now() < end {
                    let started = Instant::now();
                    match ask(&mut stream, "steady.test", "/").await {
                        Ok(answer) if answer.ends_with("Hello World") => {
                            took.push(started.elapsed());
                        }
                        _ => {
                            lost += 1;
                            stream = TcpStream::connect(("127.0.0.1", port)).await?;
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Ok::<_, std::io::Error>((took, lost))
            })
        })
        .collect();
    let mut took = Vec::new();
    let mut lost = 0;
    for client in clients {
        let (more, missing) = client.await??;
        took.extend(more);
        lost += missing;
    }
    took.sort_unstable();
    let at = |share: usize| took.get(took.len().saturating_sub(1) * share / 100).copied();
    let share = |share| at(share).ok_or("the neighbour answered nothing");
    Ok(Felt { requests: took.len(), lost, p50: share(50)?, p99: share(99)? })
}

/// Runs into a limit until told to stop; how often.
async fn trip(port: u16, kind: String, stop: Arc<AtomicBool>) -> Result<usize, std::io::Error> {
    let mut trips = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        ask(&mut stream, "hostile.test", &format!("/{kind}")).await?;
        trips += 1;
    }
    Ok(trips)
}

/// One request; the answer with its head. Both apps answer in one piece with a length.
async fn ask(stream: &mut TcpStream, host: &str, path: &str) -> Result<String, std::io::Error> {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await?;
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            length.and_then(|length| length.parse().ok()).is_none_or(|length| body.len() >= length)
        });
        if whole || read == 0 {
            return Ok(text.into_owned());
        }
    }
}
