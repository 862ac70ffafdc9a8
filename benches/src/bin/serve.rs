//! The gateway and one app from a file, without the CLI: for profiling.

use std::sync::Arc;

use verge_bench::{load, runtime_config};
use verge_gateway::{Gateway, GatewayConfig, NoAccessLog};
use verge_runtime::Runtime;
use verge_types::{Resolve, Routed, SessionPolicy};

struct One(Routed);

impl Resolve for One {
    fn resolve(&self, _host: &str) -> Option<Routed> {
        Some(self.0.clone())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    verge_runtime::be_prompt();
    let mut args = std::env::args().skip(1);
    let (file, port) = (args.next().ok_or("usage: serve FILE PORT [THREADS]")?, args.next());
    let port: u16 = port.ok_or("usage: serve FILE PORT [THREADS]")?.parse()?;
    let threads: usize = args.next().map_or(Ok(1), |n| n.parse())?;
    let source = std::fs::read_to_string(file)?;
    let runtime = Runtime::start(runtime_config())?;
    let app = load(&runtime, "bench", &source)?;
    let routed = Routed {
        app: app.name().clone(),
        service: app,
        max_request_body: 100 << 20,
        max_wall_ms: 30_000,
        sessions: SessionPolicy::Off,
    };
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    tokio.block_on(async {
        let config = GatewayConfig::on(([127, 0, 0, 1], port).into());
        let gateway = Gateway::bind(config, Arc::new(One(routed)), Arc::new(NoAccessLog)).await?;
        println!("ready http://{}", gateway.local_addr());
        gateway.serve(async { drop(tokio::signal::ctrl_c().await) }).await;
        Ok::<_, std::io::Error>(())
    })?;
    Ok(())
}
