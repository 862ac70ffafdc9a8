//! The files of large segments on their way to replicas. A replica gets the small record as any
//! segment, then asks the primary for the file in one call and takes it in as it streams: both
//! sides have a few chunks in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use verge_dataset::{Dataset, Error as DatasetError, Header, LargeFile, Receiving};
use verge_replicate::NodeId;
use verge_types::{Body, BodyError, DatasetId, Position};

use crate::inner::Inner;

/// The fabric's name of these calls.
pub(crate) const CALL: &str = "replicate.large";
const DATASET: &str = "verge-dataset";
const EPOCH: &str = "verge-epoch";
const TXID: &str = "verge-txid";
/// Chunks that are read ahead of the link, about 256 KiB each.
const AHEAD: usize = 2;
/// Bytes that are gathered before they are stored.
const GATHERED: usize = 1 << 20;
/// A primary that sends nothing for so long is given up; the replica asks again.
const STALL: Duration = Duration::from_secs(10);

/// The primary's side; any node that has the segment may be asked.
pub(crate) async fn serve(node: Arc<Inner>, request: Request<Body>) -> Response<Body> {
    let refuse = |status: StatusCode, why: String| {
        let mut response = Response::new(Body::from(why));
        *response.status_mut() = status;
        response
    };
    let headers = request.into_parts().0.headers;
    let field = |name: &str| headers.get(name)?.to_str().ok();
    let number = |name: &str| field(name)?.parse::<u64>().ok();
    let id = field(DATASET).and_then(|id| id.parse::<DatasetId>().ok());
    let (Some(id), Some(epoch), Some(txid)) = (id, number(EPOCH), number(TXID)) else {
        return refuse(StatusCode::BAD_REQUEST, "no segment is named".to_owned());
    };
    let store = node.store.clone();
    let opening = spawn_blocking(move || store.get(&id)?.large_file(Position::new(epoch, txid)));
    match opening.await {
        Ok(Ok(file)) => Response::new(stream(file)),
        Ok(Err(error)) => refuse(StatusCode::NOT_FOUND, error.to_string()),
        Err(_) => refuse(StatusCode::NOT_FOUND, "it cannot be read".to_owned()),
    }
}

/// The file's bytes, read as they are taken.
fn stream(mut file: LargeFile) -> Body {
    let (sender, chunks) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        loop {
            let reading = spawn_blocking(move || {
                let chunk = file.next_chunk();
                (file, chunk)
            });
            let chunk = match reading.await {
                Ok((rest, Ok(Some(chunk)))) => {
                    file = rest;
                    Ok(chunk)
                }
                Ok((_, Ok(None))) => return,
                Ok((_, Err(error))) => {
                    let _ = sender.send(Err(BodyError::Transport(Box::new(error)))).await;
                    return;
                }
                Err(_) => return,
            };
            // An error: nobody reads on.
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    });
    Body::channel(chunks)
}

/// Whether a segment is the record of a large one.
pub(crate) fn is_large(segment: &Bytes) -> bool {
    Header::decode(segment).is_ok_and(|header| header.is_large())
}

/// Takes in, from another node, the file of a large segment of which `record` is the log's.
pub(crate) async fn fetch(
    node: Arc<Inner>,
    from: Option<NodeId>,
    dataset: Arc<Dataset>,
    record: Bytes,
) -> Result<Receiving, DatasetError> {
    let (fabric, peer) = match (&node.config.fabric, from.and_then(|from| node.roster.peer(from))) {
        (Some(fabric), Some(peer)) => (fabric, peer),
        _ => return Err(broken("nobody is known who has it")),
    };
    let request = request(dataset.id(), &record)?;
    let mut receiving = on_disk(move || dataset.receive(&record)).await?;
    let called = fabric.call(&peer.node, CALL, request, STALL).await;
    let response = called.map_err(|error| broken(error.to_string()))?;
    if response.status() != StatusCode::OK {
        return Err(broken(format!("{} answered {}", peer.node, response.status())));
    }
    let mut body = response.into_body();
    let mut gathered = BytesMut::new();
    while !body.is_end_stream() {
        let frame = match timeout(STALL, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return Err(broken(error.to_string())),
            Ok(None) => break,
            Err(_) => return Err(broken(format!("{} sends nothing any more", peer.node))),
        };
        if let Ok(bytes) = frame.into_data() {
            gathered.extend_from_slice(&bytes);
        }
        if gathered.len() >= GATHERED {
            receiving = push(receiving, gathered.split().freeze()).await?;
        }
    }
    receiving = push(receiving, gathered.freeze()).await?;
    if receiving.is_whole() { Ok(receiving) } else { Err(broken("it broke off")) }
}

fn request(id: &DatasetId, record: &Bytes) -> Result<Request<Body>, DatasetError> {
    let position = Header::decode(record).map_err(|error| broken(error.to_string()))?.position;
    let mut request = Request::new(Body::Empty);
    let headers = request.headers_mut();
    // Dataset ids are plain ASCII.
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert(DATASET, id);
    }
    headers.insert(EPOCH, position.epoch.into());
    headers.insert(TXID, position.txid.into());
    Ok(request)
}

async fn push(mut receiving: Receiving, bytes: Bytes) -> Result<Receiving, DatasetError> {
    on_disk(move || receiving.push(&bytes).map(|()| receiving)).await
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DatasetError> + Send + 'static,
) -> Result<T, DatasetError> {
    spawn_blocking(work).await.map_err(|_| DatasetError::JobPanicked)?
}

/// The way there and not the data: it is asked for again.
pub(crate) fn broken(why: impl Into<String>) -> DatasetError {
    DatasetError::from_io("fetching a large transaction", std::io::Error::other(why.into()))
}
