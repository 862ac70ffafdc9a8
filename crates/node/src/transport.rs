//! How the cores' messages travel: one stream a node pair and direction for all datasets, and one
//! more for snapshots, so that they hold up nobody.
//!
//! The cores bear loss, so nothing waits here without bound: what finds no link or a full queue is
//! dropped and counted. One frame is a kind and its payload; what is longer than a fragment goes as
//! several in a row.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use verge_fabric::{Fabric, MessageStream};
use verge_replicate::NodeId;
use verge_replicate::wire::MAX_MESSAGE;
use verge_types::DatasetId;

use crate::names::Roster;

/// Streams of datasets' messages.
pub(crate) const STREAM: &str = "replicate";
/// Streams of snapshots' chunks.
pub(crate) const BULK: &str = "replicate.bulk";
/// Frames that may wait for one node.
const QUEUE: usize = 16_384;
/// Chunks that may; each is about 1 MiB at most.
const BULK_QUEUE: usize = 64;
/// Longest payload of one frame, bytes.
const FRAGMENT: usize = 1 << 20;
const OPEN_WITHIN: Duration = Duration::from_secs(5);

const WHOLE: u8 = 0;
const PART: u8 = 1;
const END: u8 = 2;
const WANTED: u8 = 3;

/// What another node sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// An envelope's bytes.
    Message(Bytes),
    /// The dataset is in use there: attend to it.
    Wanted(DatasetId),
}

struct Outbox {
    main: mpsc::Sender<(u8, Bytes)>,
    bulk: mpsc::Sender<(u8, Bytes)>,
}

/// The ways to all other nodes.
pub(crate) struct Transport {
    fabric: Fabric,
    roster: Arc<Roster>,
    outboxes: Mutex<FxHashMap<NodeId, Outbox>>,
    dropped: Arc<AtomicU64>,
}

impl Transport {
    pub(crate) fn new(fabric: Fabric, roster: Arc<Roster>) -> Self {
        Self { fabric, roster, outboxes: Mutex::default(), dropped: Arc::default() }
    }

    /// Sends an envelope; `bulk` for what belongs to a snapshot.
    pub(crate) fn send(&self, to: NodeId, bulk: bool, bytes: Bytes) {
        self.put(to, bulk, WHOLE, bytes);
    }

    pub(crate) fn send_wanted(&self, to: NodeId, dataset: &DatasetId) {
        self.put(to, false, WANTED, Bytes::copy_from_slice(dataset.as_str().as_bytes()));
    }

    /// Messages that were not sent for want of a link or of room.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn put(&self, to: NodeId, bulk: bool, kind: u8, bytes: Bytes) {
        let mut outboxes = self.outboxes.lock();
        let outbox = match outboxes.get(&to) {
            Some(outbox) => outbox,
            None => {
                let Some(peer) = self.roster.peer(to) else { return };
                let open = |name: &'static str, room: usize| {
                    let (sender, receiver) = mpsc::channel(room);
                    let (fabric, node) = (self.fabric.clone(), peer.node.clone());
                    let dropped = self.dropped.clone();
                    tokio::spawn(pump(fabric, node, name, receiver, dropped));
                    sender
                };
                let outbox = Outbox { main: open(STREAM, QUEUE), bulk: open(BULK, BULK_QUEUE) };
                outboxes.entry(to).or_insert(outbox)
            }
        };
        let lane = if bulk { &outbox.bulk } else { &outbox.main };
        if lane.try_send((kind, bytes)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends one queue to one node until the queue's owner is gone.
async fn pump(
    fabric: Fabric,
    node: verge_fabric::NodeId,
    name: &'static str,
    mut queue: mpsc::Receiver<(u8, Bytes)>,
    dropped: Arc<AtomicU64>,
) {
    let mut stream: Option<MessageStream> = None;
    while let Some((kind, bytes)) = queue.recv().await {
        // That a stream has ended with its link shows with the next message: the first of a
        // handshake over the new link, mostly. It goes on a new stream.
        if let Some(open) = &mut stream {
            match send_frames(open, kind, bytes.clone()).await {
                Ok(()) => continue,
                Err(error) => tracing::debug!(%node, %error, "a replication stream ended"),
            }
        }
        stream = fabric.open_stream(&node, name, HeaderMap::new(), OPEN_WITHIN).await.ok();
        let sent = match &mut stream {
            Some(open) => send_frames(open, kind, bytes).await.is_ok(),
            None => false,
        };
        if !sent {
            dropped.fetch_add(1, Ordering::Relaxed);
            stream = None;
        }
    }
}

async fn send_frames(
    stream: &mut MessageStream,
    kind: u8,
    mut bytes: Bytes,
) -> Result<(), verge_fabric::Error> {
    while bytes.len() > FRAGMENT {
        stream.send(frame(PART, &bytes.split_to(FRAGMENT))).await?;
        if bytes.len() <= FRAGMENT {
            return stream.send(frame(END, &bytes)).await;
        }
    }
    stream.send(frame(kind, &bytes)).await
}

fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 1);
    frame.put_u8(kind);
    frame.put_slice(payload);
    frame.freeze()
}

/// Puts the fragments of one incoming stream together again.
#[derive(Default)]
pub(crate) struct Assembly {
    parts: BytesMut,
}

/// The other node sent what no node sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadFrame;

impl Assembly {
    pub(crate) fn take(&mut self, mut frame: Bytes) -> Result<Option<Received>, BadFrame> {
        if frame.is_empty() {
            return Err(BadFrame);
        }
        let kind = frame.split_to(1)[0];
        match kind {
            WHOLE if self.parts.is_empty() => Ok(Some(Received::Message(frame))),
            PART | END => {
                if self.parts.len() + frame.len() > MAX_MESSAGE {
                    return Err(BadFrame);
                }
                self.parts.extend_from_slice(&frame);
                let whole = || Received::Message(self.parts.split().freeze());
                Ok((kind == END).then(whole))
            }
            WANTED => {
                let id = std::str::from_utf8(&frame).ok().and_then(|text| text.parse().ok());
                id.map(|id| Some(Received::Wanted(id))).ok_or(BadFrame)
            }
            _ => Err(BadFrame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_come_together_again() {
        let whole: Bytes = (0..10_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>().into();
        let mut assembly = Assembly::default();
        let mut rest = whole.clone();
        let first = rest.split_to(20_000);
        assert_eq!(assembly.take(frame(PART, &first)), Ok(None));
        assert_eq!(assembly.take(frame(END, &rest)), Ok(Some(Received::Message(whole.clone()))));
        let small = Bytes::from_static(b"small");
        assert_eq!(assembly.take(frame(WHOLE, &small)), Ok(Some(Received::Message(small))));
        let id: DatasetId = "app/main".parse().unwrap();
        let wanted = frame(WANTED, b"app/main");
        assert_eq!(assembly.take(wanted), Ok(Some(Received::Wanted(id))));
    }

    #[test]
    fn what_no_node_sends_is_refused() {
        let mut assembly = Assembly::default();
        for bad in [Bytes::new(), frame(9, b"x"), frame(WANTED, b".."), frame(WANTED, b"\xff")] {
            assert_eq!(assembly.take(bad), Err(BadFrame));
        }
        for _ in 0..MAX_MESSAGE / FRAGMENT {
            assert_eq!(assembly.take(frame(PART, &vec![0; FRAGMENT])), Ok(None));
        }
        assert_eq!(assembly.take(frame(PART, b"x")), Err(BadFrame));
        assert_eq!(assembly.take(frame(WHOLE, b"x")), Err(BadFrame), "in the middle of another");
    }
}
