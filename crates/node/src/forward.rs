//! Requests that only a dataset's primary can answer: sent there, and answered there.
//!
//! A request that may have arrived is never sent again; what certainly did not begin is, until the
//! deadline. Interactive transactions stay with the node and the term in which they began.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::time::{Instant, timeout_at};
use verge_fabric::{CallContext, Fabric, Retry};
use verge_replicate::NodeId;
use verge_services::sql::{
    Done, Forward, Request as SqlRequest, SqlError, decode_reply, encode_reply,
};
use verge_types::{Body, BoxFuture, DatasetId};

use crate::error::{Error, outcome_unknown, unavailable};
use crate::inner::{Entry, Inner, LOOK_EVERY};

/// The fabric's name of these calls.
pub(crate) const CALL: &str = "sql";
const DATASET: &str = "verge-dataset";
/// The primary's epoch, where the request only makes sense in it.
const EPOCH: &str = "verge-epoch";
/// Longest request and answer, bytes.
const MAX_BODY: usize = 256 << 20;
/// Transactions that may be open from here at other nodes, at a time.
const MAX_AWAY: usize = 4096;
/// Longest transaction, whatever was asked for.
const MAX_TRANSACTION: Duration = Duration::from_secs(3600);

/// A transaction at another node, as its owner here knows it.
struct Away {
    node: NodeId,
    epoch: u64,
    number: u64,
    ends: Instant,
}

/// One node's [`Forward`].
pub(crate) struct Forwarder {
    node: Weak<Inner>,
    away: Arc<Transactions>,
}

/// Numbers given to callers here, for transactions elsewhere.
#[derive(Default)]
struct Transactions {
    next: AtomicU64,
    open: Mutex<FxHashMap<u64, Away>>,
}

/// Where one attempt is sent.
#[derive(Clone, Copy)]
struct Target {
    node: NodeId,
    epoch: Option<u64>,
}

/// How one attempt ended.
enum Attempt {
    Answer(Vec<u8>, Option<u64>),
    /// It certainly did not begin there.
    NotBegun,
    Failed(SqlError),
}

impl Forwarder {
    pub(crate) fn shared(node: Weak<Inner>) -> Arc<dyn Forward> {
        Arc::new(Self { node, away: Arc::default() })
    }
}

impl Forward for Forwarder {
    fn forward(
        &self,
        dataset: &DatasetId,
        request: Vec<u8>,
    ) -> BoxFuture<Result<Vec<u8>, SqlError>> {
        let (node, away, dataset) = (self.node.clone(), self.away.clone(), dataset.clone());
        Box::pin(async move {
            let node = node.upgrade().ok_or_else(|| unavailable("this node is shutting down"))?;
            forward(&node, &away, &dataset, request).await
        })
    }
}

async fn forward(
    node: &Arc<Inner>,
    away: &Transactions,
    dataset: &DatasetId,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, SqlError> {
    let request = SqlRequest::decode(&bytes)?;
    let entry = node.open(dataset, false).await.map_err(|error| unavailable(error.public()))?;
    // A read that must be fresher than what is here goes to the primary too; it does not wait.
    let waits = !entry.database.only_reads(&request);
    let mut bytes = Bytes::from(bytes);
    let mut fixed = None;
    let request = match request {
        SqlRequest::Fresh { request, .. } => *request,
        plain => plain,
    };
    let begins = match request {
        SqlRequest::Begin { deadline_ms } => Some(deadline_ms),
        SqlRequest::Step { transaction, queries } => {
            let (target, transaction) = away.find(transaction)?;
            fixed = Some(target);
            bytes = SqlRequest::Step { transaction, queries }.encode().into();
            None
        }
        SqlRequest::Commit { transaction } => {
            let (target, transaction) = away.end(transaction)?;
            fixed = Some(target);
            bytes = SqlRequest::Commit { transaction }.encode().into();
            None
        }
        SqlRequest::Rollback { transaction } => {
            let (target, transaction) = away.end(transaction)?;
            fixed = Some(target);
            bytes = SqlRequest::Rollback { transaction }.encode().into();
            None
        }
        _ => None,
    };
    let timing = &node.config.timing;
    let asked = Instant::now();
    let mut patience = asked + timing.primary_patience.min(timing.forward_deadline);
    let mut seat = None;
    loop {
        let deadline = Instant::now() + timing.forward_deadline;
        let target = match &fixed {
            Some(target) => Some(*target),
            None => {
                entry.desk.standing().primary.map(|primary| Target { node: primary, epoch: None })
            }
        };
        let attempt = match target {
            None => Attempt::NotBegun,
            Some(target) => {
                let to = target.node;
                let attempt = attempt(node, &entry, target, bytes.clone(), deadline).await;
                if let (Attempt::Answer(answer, epoch), Some(longest)) = (&attempt, begins) {
                    return away.keep(to, *epoch, longest, answer);
                }
                attempt
            }
        };
        match attempt {
            Attempt::Answer(answer, _) => return Ok(answer),
            Attempt::Failed(error) => return Err(error),
            Attempt::NotBegun if fixed.is_some() => {
                return Err(unavailable(
                    "the transaction was lost: its primary has moved or cannot be reached",
                ));
            }
            Attempt::NotBegun if Instant::now() >= patience => {
                match (entry.desk.queue.longest(), &seat) {
                    (Some(longest), None) if waits && asked + longest > patience => {
                        seat = Some(entry.desk.queue.enter(bytes.len()).ok_or_else(|| {
                        unavailable(
                            "the database's primary cannot be reached, and too many writes wait for it here; nothing was written",
                        )
                    })?);
                        patience = asked + longest;
                    }
                    (_, None) => {
                        return Err(unavailable(
                            "the database's primary cannot be reached from here; nothing was written",
                        ));
                    }
                    (_, Some(_)) => {
                        return Err(unavailable(format!(
                            "the database's primary could not be reached from here within {} s; nothing was written",
                            asked.elapsed().as_secs()
                        )));
                    }
                }
            }
            Attempt::NotBegun => {
                // A change of standing is worth another look at once.
                let mut standing = entry.desk.watch();
                standing.mark_unchanged();
                let _ = timeout_at(Instant::now() + LOOK_EVERY, standing.changed()).await;
            }
        }
    }
}

async fn attempt(
    node: &Arc<Inner>,
    entry: &Arc<Entry>,
    target: Target,
    bytes: Bytes,
    deadline: Instant,
) -> Attempt {
    if target.node == node.roster.me {
        let ours = entry.desk.standing().ours;
        if !entry.desk.is_primary() || target.epoch.is_some_and(|epoch| Some(epoch) != ours) {
            return Attempt::NotBegun;
        }
        return Attempt::Answer(entry.database.serve(&bytes, None).await, ours);
    }
    let (Some(fabric), Some(peer)) = (&node.config.fabric, node.roster.peer(target.node)) else {
        return Attempt::NotBegun;
    };
    let mut request = Request::new(Body::from(bytes));
    let headers = request.headers_mut();
    // Dataset ids are plain ASCII.
    if let Ok(id) = HeaderValue::from_str(entry.desk.id.as_str()) {
        headers.insert(DATASET, id);
    }
    if let Some(epoch) = target.epoch {
        headers.insert(EPOCH, epoch.into());
    }
    let within = deadline.saturating_duration_since(Instant::now());
    match call(fabric, &peer.node, request, within, deadline).await {
        Ok((StatusCode::OK, answer, epoch)) => Attempt::Answer(answer, epoch),
        Ok((StatusCode::MISDIRECTED_REQUEST, ..)) => Attempt::NotBegun,
        Ok((status, ..)) => {
            Attempt::Failed(outcome_unknown(format!("the primary's node answered {status}")))
        }
        Err(CallError::Fabric(error)) => match error.retry() {
            Retry::Safe => Attempt::NotBegun,
            Retry::MaybeDone => Attempt::Failed(outcome_unknown(error.fault().message)),
            Retry::No => match error {
                // It shut down, or was never met: another may be primary soon.
                verge_fabric::Error::UnknownNode(_) => Attempt::NotBegun,
                _ => Attempt::Failed(unavailable(error.fault().message)),
            },
        },
        Err(CallError::Body) => Attempt::Failed(outcome_unknown("the primary's answer broke off")),
    }
}

enum CallError {
    Fabric(verge_fabric::Error),
    Body,
}

async fn call(
    fabric: &Fabric,
    to: &verge_fabric::NodeId,
    request: Request<Body>,
    within: Duration,
    deadline: Instant,
) -> Result<(StatusCode, Vec<u8>, Option<u64>), CallError> {
    let response = fabric.call(to, CALL, request, within).await.map_err(CallError::Fabric)?;
    let status = response.status();
    let epoch = response.headers().get(EPOCH).and_then(number);
    let body = Limited::new(response.into_body(), MAX_BODY).collect();
    match timeout_at(deadline, body).await {
        Ok(Ok(body)) => Ok((status, body.to_bytes().into(), epoch)),
        _ => Err(CallError::Body),
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

impl Transactions {
    fn find(&self, token: u64) -> Result<(Target, u64), SqlError> {
        let open = self.open.lock();
        let away = open.get(&token).ok_or_else(ended)?;
        Ok((Target { node: away.node, epoch: Some(away.epoch) }, away.number))
    }

    fn end(&self, token: u64) -> Result<(Target, u64), SqlError> {
        let away = self.open.lock().remove(&token).ok_or_else(ended)?;
        Ok((Target { node: away.node, epoch: Some(away.epoch) }, away.number))
    }

    /// Gives a begun transaction a number of our own: two primaries may use the same one.
    fn keep(
        &self,
        node: NodeId,
        epoch: Option<u64>,
        longest: u64,
        answer: &[u8],
    ) -> Result<Vec<u8>, SqlError> {
        let mut reply = decode_reply(answer)?;
        let (Done::Began { transaction: number }, Some(epoch)) = (reply.done, epoch) else {
            return Err(outcome_unknown("the primary answered something else"));
        };
        let now = Instant::now();
        let ends = now + Duration::from_millis(longest).min(MAX_TRANSACTION);
        let mut open = self.open.lock();
        open.retain(|_, away| away.ends > now);
        if open.len() >= MAX_AWAY {
            return Err(unavailable(format!("more than {MAX_AWAY} transactions are open")));
        }
        let token = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        open.insert(token, Away { node, epoch, number, ends });
        reply.done = Done::Began { transaction: token };
        Ok(encode_reply(&Ok(reply)))
    }
}

fn ended() -> SqlError {
    SqlError::new(verge_services::sql::ErrorKind::Deadline, "the transaction has ended")
}

/// The primary's side.
pub(crate) async fn serve(
    node: Arc<Inner>,
    context: CallContext,
    request: Request<Body>,
) -> Response<Body> {
    let refuse = |status: StatusCode, why: String| {
        let mut response = Response::new(Body::from(why));
        *response.status_mut() = status;
        response
    };
    let dataset = request.headers().get(DATASET).and_then(|id| id.to_str().ok());
    let Some(dataset) = dataset.and_then(|id| id.parse::<DatasetId>().ok()) else {
        return refuse(StatusCode::BAD_REQUEST, "no dataset is named".to_owned());
    };
    let epoch = request.headers().get(EPOCH).and_then(number);
    let entry = match node.open(&dataset, false).await {
        Ok(entry) => entry,
        Err(error @ (Error::NoDataset(_) | Error::ShuttingDown)) => {
            return refuse(StatusCode::MISDIRECTED_REQUEST, error.to_string());
        }
        Err(error) => return refuse(StatusCode::MISDIRECTED_REQUEST, error.to_string()),
    };
    entry.desk.want();
    // It may be about to take its lease up again after a rest.
    let patience = (Instant::now() + node.config.timing.primary_patience).min(context.deadline);
    while !entry.desk.is_primary() {
        let elsewhere =
            entry.desk.standing().primary.is_some_and(|primary| primary != node.roster.me);
        if elsewhere || Instant::now() >= patience || node.is_stopping() {
            return refuse(StatusCode::MISDIRECTED_REQUEST, "the primary is elsewhere".to_owned());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let ours = entry.desk.standing().ours;
    if epoch.is_some() && epoch != ours {
        return refuse(StatusCode::MISDIRECTED_REQUEST, "that term is over".to_owned());
    }
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    let answer = entry.database.serve(&body, None).await;
    let mut response = Response::new(Body::from(Bytes::from(answer)));
    if let Some(ours) = ours {
        response.headers_mut().insert(EPOCH, ours.into());
    }
    response
}
