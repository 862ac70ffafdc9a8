//! Shipping: from our log, or a snapshot, to followers.

use bytes::Bytes;
use tokio::task::spawn_blocking;
use verge_dataset::{Dataset, Error as DatasetError, Snapshot, Subscription};
use verge_replicate::NodeId;
use verge_replicate::lease::Event as LeaseEvent;
use verge_replicate::ship::{Effect, Event};
use verge_replicate::wire::{Hello, MAX_MESSAGE, Message, Segment, SnapshotHeader};
use verge_types::Position;

use super::{Done, Driver, Outgoing, Work, is_too_long, segment};

/// Longest segment that goes in a message: there is an envelope around it.
const LONGEST: usize = MAX_MESSAGE - 1024;
/// Segments of our own that are taken into the shipper at a time.
const MAX_NEW: usize = 1024;
/// Looks at a dataset that moves on while its snapshot's checksum is looked up.
const LOOKS: usize = 3;

impl Driver {
    /// Takes what our log has new into the shipper.
    pub(super) fn ship_new(&mut self) {
        let Some(live) = &mut self.live else { return };
        for _ in 0..MAX_NEW {
            match live.try_next_within(LONGEST) {
                Ok(Some((header, bytes))) => {
                    let segment = segment(&header, bytes);
                    self.txid = header.position.txid;
                    self.active = self.node.clock.now();
                    if is_too_long(&segment) {
                        self.unshippable = header.position.txid;
                    }
                    self.queue.push_back(Work::Ship(Event::Appended { segment }));
                }
                Ok(None) => {
                    self.positions.borrow_and_update();
                    // One that came between the two.
                    if live.position() >= self.dataset.position() {
                        return;
                    }
                }
                Err(error) if self.relay.is_some() => {
                    tracing::warn!(dataset = %self.desk.id, %error, "our own log cannot be read");
                    self.end_relay();
                    return;
                }
                Err(error) => {
                    tracing::error!(dataset = %self.desk.id, %error,
                        "our own log cannot be read: another term begins behind it");
                    self.superseded = true;
                    return;
                }
            }
        }
    }

    /// The oldest segment that a follower can be served from, and our checksum where it stands.
    pub(super) fn judge_hello(&self, hello: &Hello) -> (u64, Option<u64>) {
        let Position { txid, .. } = hello.position;
        let beyond = self.txid + 1;
        if txid < self.unshippable {
            return (beyond, None);
        }
        let position = self.lineage.position(txid);
        match self.dataset.subscribe(position).is_ok_and(|log| self.has_next(log)) {
            true => (0, checksum_at(&self.dataset, position)),
            false => (beyond, None),
        }
    }

    /// Whether the next segment, should it be a large one, has its file still.
    fn has_next(&self, mut log: Subscription) -> bool {
        match log.try_next_within(0) {
            Ok(Some((header, _))) => {
                !header.is_large() || self.dataset.large_file(header.position).is_ok()
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }

    pub(super) fn ship_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message: Message::Segment { session, segment, .. } }
                if is_too_long(&segment) =>
            {
                // It shakes hands again and is told to take a snapshot; also if the segment is
                // from an earlier term.
                self.unshippable = self.unshippable.max(segment.header.position.txid);
                self.send(to, Message::Goodbye { session });
            }
            Effect::Send { to, message } => self.send(to, message),
            Effect::Load { to, session, after, max_bytes } => {
                let (dataset, from) = (self.dataset.clone(), self.lineage.position(after));
                self.jobs.spawn(async move {
                    let load = move || load(&dataset, from, max_bytes);
                    let segments = spawn_blocking(load).await.unwrap_or_default();
                    Done::Loaded { to, session, segments }
                });
            }
            Effect::OpenSnapshot { to, session } => {
                let dataset = self.dataset.clone();
                self.snapshots.insert((to, session), None);
                self.jobs.spawn(async move {
                    Done::Opened { to, session, opened: open_snapshot(&dataset).await }
                });
            }
            Effect::LoadChunk { to, session, chunk } => {
                let lane = self.snapshots.get_mut(&(to, session)).and_then(Option::take);
                let Some(lane) = lane else {
                    let failed = Event::SnapshotFailed { to, session };
                    self.queue.push_back(Work::Ship(failed));
                    return;
                };
                self.jobs.spawn(async move { read_chunk(to, session, chunk, lane).await });
            }
            Effect::CloseSnapshot { to, session } => {
                self.snapshots.remove(&(to, session));
            }
            Effect::Acknowledge { up_to } => {
                self.dataset.confirm(self.lineage.position(up_to));
            }
            // The dataset bounds its log by itself; who needs more takes a snapshot.
            Effect::Retain { .. } => {}
            Effect::Fenced { epoch } => {
                self.queue.push_back(Work::Lease(LeaseEvent::Fenced { epoch }));
            }
            // A relay's followers are nothing to a lease.
            Effect::Progress { .. } if self.primary.is_none() => {}
            Effect::Progress { from, rank, settled } => {
                let progress = LeaseEvent::Progress { from, rank, settled };
                self.queue.push_back(Work::Lease(progress));
            }
        }
    }

    pub(super) fn snapshot_opened(
        &mut self,
        to: NodeId,
        session: u64,
        opened: Result<(Snapshot, u64), DatasetError>,
    ) {
        let wanted = self.snapshots.contains_key(&(to, session));
        let event = match opened {
            Ok((snapshot, checksum)) if wanted => {
                let header = SnapshotHeader {
                    position: snapshot.position(),
                    checksum,
                    bytes: snapshot.size(),
                };
                let lane = Outgoing { snapshot: snapshot.into(), ahead: None, current: None };
                self.snapshots.insert((to, session), Some(Box::new(lane)));
                Event::SnapshotOpened { to, session, snapshot: header }
            }
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(dataset = %self.desk.id, %error, "no snapshot for a follower");
                self.snapshots.remove(&(to, session));
                Event::SnapshotFailed { to, session }
            }
        };
        self.queue.push_back(Work::Ship(event));
    }

    pub(super) fn chunk_read(
        &mut self,
        to: NodeId,
        session: u64,
        chunk: u64,
        mut lane: Box<Outgoing>,
        failed: bool,
    ) {
        let Some(place) = self.snapshots.get_mut(&(to, session)) else { return };
        let event = match lane.current.take() {
            Some(bytes) if !failed => {
                let last = lane.ahead.is_none();
                *place = Some(lane);
                Event::ChunkLoaded { to, session, chunk, last, bytes }
            }
            _ => {
                self.snapshots.remove(&(to, session));
                Event::SnapshotFailed { to, session }
            }
        };
        self.queue.push_back(Work::Ship(event));
    }
}

fn load(dataset: &Dataset, from: Position, max_bytes: usize) -> Vec<Segment> {
    let Ok(mut log) = dataset.subscribe(from) else { return Vec::new() };
    let (mut segments, mut bytes) = (Vec::new(), 0);
    while bytes < max_bytes {
        let Ok(Some((header, next))) = log.try_next_within(LONGEST) else { break };
        let segment = segment(&header, next);
        bytes += segment.bytes.len().max(1);
        let last = is_too_long(&segment);
        segments.push(segment);
        if last {
            break;
        }
    }
    segments
}

/// The rolling checksum at a position, if the log or the head still tells it.
pub(super) fn checksum_at(dataset: &Dataset, position: Position) -> Option<u64> {
    let (tip, checksum) = dataset.checksum();
    if tip == position {
        return Some(checksum);
    }
    let (header, _) = dataset.subscribe(position).ok()?.try_next_within(0).ok()??;
    Some(header.checksum_before)
}

async fn open_snapshot(dataset: &Dataset) -> Result<(Snapshot, u64), DatasetError> {
    for _ in 0..LOOKS {
        let snapshot = dataset.snapshot().await?;
        if let Some(checksum) = checksum_at(dataset, snapshot.position()) {
            return Ok((snapshot, checksum));
        }
    }
    Err(DatasetError::Overloaded { what: "a snapshot's checksum", limit: LOOKS as u64 })
}

async fn read_chunk(to: NodeId, session: u64, chunk: u64, mut lane: Box<Outgoing>) -> Done {
    let read = spawn_blocking(move || {
        let failed = next(&mut lane).is_err();
        (lane, failed)
    });
    match read.await {
        Ok((lane, failed)) => Done::Chunk { to, session, chunk, lane, failed },
        // Reading does not panic; if it does, the driver ends and the follower asks again.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn next(lane: &mut Outgoing) -> Result<(), DatasetError> {
    let ahead: Option<Bytes> = lane.ahead.take();
    lane.current = match ahead {
        Some(chunk) => Some(chunk),
        None => lane.snapshot.get_mut().next_chunk()?,
    };
    lane.ahead = lane.snapshot.get_mut().next_chunk()?;
    Ok(())
}
