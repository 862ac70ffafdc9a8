//! A trivial service, to see what the listener itself costs:
//! `cargo run --release -p verge-gateway --example hello -- 8080 2 sessions` (port, worker
//! threads, and the word `sessions` for an app whose clients have them).

use std::sync::Arc;

use verge_gateway::{Gateway, GatewayConfig, NoAccessLog};
use verge_types::{
    Body, BoxFuture, Fault, RequestContext, Resolve, Routed, Service, SessionKeys, SessionPolicy,
};

struct Hello;

impl Service for Hello {
    fn call(
        &self,
        _: http::Request<Body>,
        _: RequestContext,
    ) -> BoxFuture<Result<http::Response<Body>, Fault>> {
        Box::pin(std::future::ready(Ok(http::Response::new(Body::from("Hello")))))
    }
}

struct One(Routed);

impl Resolve for One {
    fn resolve(&self, _: &str) -> Option<Routed> {
        Some(self.0.clone())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(8080), |port| port.parse())?;
    let threads: usize = arguments.next().map_or(Ok(2), |threads| threads.parse())?;
    let sessions = match arguments.next().as_deref() {
        Some("sessions") => SessionPolicy::On(Arc::new(SessionKeys::new([7; 32]))),
        _ => SessionPolicy::Off,
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let routed = Routed {
            app: "hello".parse()?,
            service: Arc::new(Hello),
            max_request_body: 1 << 20,
            max_wall_ms: 30_000,
            sessions,
        };
        let config = GatewayConfig::on(([127, 0, 0, 1], port).into());
        let gateway = Gateway::bind(config, Arc::new(One(routed)), Arc::new(NoAccessLog)).await?;
        println!("ready http://{}", gateway.local_addr());
        let stop = async {
            let _ = tokio::signal::ctrl_c().await;
        };
        let drained = gateway.serve(stop).await;
        println!("{drained:?}");
        Ok(())
    })
}
