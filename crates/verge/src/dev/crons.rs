//! `--crons`: runs `scheduled` when a trigger's time comes, in UTC.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use verge_types::{ClientInfo, Geo, RequestContext, RequestId, Scheme, Session, TraceContext};

use super::site::Site;

/// However far away the next run is, the configuration is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub async fn run(site: Arc<Site>) {
    let mut stopped = site.parts.stopped.clone();
    let mut told = Vec::new();
    let mut from = Utc::now();
    loop {
        let (at, due) = next(&site, from, &mut told);
        let wait = at.map_or(LOOK_AGAIN, |at| (at - Utc::now()).to_std().unwrap_or_default());
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(wait.min(LOOK_AGAIN)) => {}
        }
        match at {
            Some(at) if at <= Utc::now() => {
                for cron in due {
                    tokio::spawn(once(site.clone(), cron, at));
                }
                from = at;
            }
            Some(_) => {}
            None => from = Utc::now(),
        }
    }
}

/// The next time after `from` at which something is due, and what.
fn next(
    site: &Site,
    from: DateTime<Utc>,
    told: &mut Vec<String>,
) -> (Option<DateTime<Utc>>, Vec<String>) {
    let state = site.state();
    let mut first: Option<DateTime<Utc>> = None;
    let mut due = Vec::new();
    for text in &state.config.crons {
        let found = Cron::from_str(text).and_then(|cron| cron.find_next_occurrence(&from, false));
        match found {
            Ok(at) if first.is_none_or(|first| at < first) => {
                first = Some(at);
                due = vec![text.clone()];
            }
            Ok(at) if first == Some(at) => due.push(text.clone()),
            Ok(_) => {}
            Err(error) => {
                if !told.contains(text) {
                    let app = state.config.name.as_str();
                    let text = format!("the cron expression `{text}` never runs: {error}");
                    site.parts.terminal.warning(app, &text);
                    told.push(text);
                }
            }
        }
    }
    (first, due)
}

async fn once(site: Arc<Site>, cron: String, at: DateTime<Utc>) {
    let Some(app) = site.state().version.as_ref().and_then(|version| version.app().cloned()) else {
        return;
    };
    let time = at.timestamp_millis() as f64;
    if let Err(fault) = app.scheduled(&cron, time, context()).await {
        let name = app.name().as_str();
        let detail = fault.detail.clone().unwrap_or_default();
        let text = format!("{cron} failed: {}: {} {detail}", fault.code, fault.message);
        site.parts.terminal.warning(name, text.trim_end());
    }
}

/// Nobody asked: the request comes from here.
fn context() -> RequestContext {
    let random = || RandomState::new().hash_one(super::site::next_number());
    RequestContext {
        id: RequestId(random()),
        client: Arc::new(ClientInfo {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            scheme: Scheme::Http,
            http_protocol: "HTTP/1.1",
            tls_version: "",
            tls_cipher: "",
        }),
        geo: Arc::new(Geo::default()),
        trace: TraceContext {
            trace_id: u128::from(random()) << 64 | u128::from(random()),
            span_id: random() | 1,
            parent_id: None,
            sampled: false,
        },
        // No client to tell, but the handler reads what it wrote.
        session: Session::begin(),
    }
}
