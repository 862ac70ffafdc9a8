//! Being primary, on real files.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::Duration;

use verge_dataset::{Committed, Dataset, Draft, Glimpse, WriteError};
use verge_replicate::wire::Segment;
use verge_types::Position;

use super::sql::{self, Rolled};
use super::{Files, PAGE_SIZE, failure, segment};
use crate::Bug;
use crate::content::{Content, Write};
use crate::storage::Failure;

/// What a reader got in the middle of a sync.
pub struct Peek {
    content: Content,
    /// Where the dataset stood then.
    before: Position,
    glimpse: Glimpse,
}

type Written = Result<Committed<()>, WriteError<Rolled>>;
type Writing<'a> = Pin<Box<dyn Future<Output = Written> + 'a>>;

impl Files {
    pub(super) fn take_office(&mut self, epoch: u64) -> Result<(), Failure> {
        let dataset = self.dataset().ok_or(Failure::Refused)?;
        let position = self.call(dataset.promote(epoch)).map_err(failure)?;
        // Until the lease says how long.
        dataset.fence();
        let tail = dataset.subscribe(position).map_err(failure)?;
        if let Some(live) = &mut self.live {
            live.tail = Some(tail);
            live.snapshots.clear();
        }
        Ok(())
    }

    /// The waiting writes, each as a transaction of its own, in one group.
    pub(super) fn run_group(&mut self) -> Result<Vec<bool>, Failure> {
        let live = self.live.as_mut().ok_or(Failure::Refused)?;
        let writes = std::mem::take(&mut live.group);
        let dataset = live.dataset.clone();
        *live.peeked.lock() = None;
        if std::mem::take(&mut live.peek) {
            let (peeked, dataset) = (live.peeked.clone(), dataset.clone());
            *self.machine.in_sync.lock() = Some(Box::new(move || *peeked.lock() = peek(&dataset)));
        }
        let results = self.call(together(&dataset, &writes));
        *self.machine.in_sync.lock() = None;
        let mut ran = Vec::new();
        for result in results {
            match result {
                Ok(_) => ran.push(true),
                Err(WriteError::Job(Rolled::TooLittle)) => ran.push(false),
                Err(WriteError::Job(Rolled::Sql(error))) => {
                    return Err(Failure::Misfit(error.to_string()));
                }
                // All of them share one fate.
                Err(WriteError::Dataset(error)) => return Err(failure(error)),
            }
        }
        Ok(ran)
    }

    /// What was read in the middle of the last sync, once it may be told.
    pub(super) fn what_was_told(&mut self) -> Option<(Content, Position)> {
        let peek = self.live.as_ref()?.peeked.lock().take()?;
        let told = match self.bug {
            Some(Bug::ReadBeforeLog) => Some(peek.before),
            _ => peek.glimpse.block(Duration::ZERO).ok(),
        };
        Some((peek.content, told?))
    }

    pub(super) fn upkeep(&mut self, kind: u64) -> Result<(), Failure> {
        let dataset = self.dataset().ok_or(Failure::Refused)?;
        match self.call(dataset.write(move |db| sql::upkeep(db, kind))) {
            Ok(_) => Ok(()),
            Err(WriteError::Job(Rolled::TooLittle)) => Err(Failure::Refused),
            Err(WriteError::Job(Rolled::Sql(error))) => Err(Failure::Misfit(error.to_string())),
            Err(WriteError::Dataset(error)) => Err(failure(error)),
        }
    }

    pub(super) fn new_segments(&mut self) -> Vec<Segment> {
        self.recover();
        let bug = self.bug;
        let Some(live) = &mut self.live else { return Vec::new() };
        let Some(tail) = &mut live.tail else { return Vec::new() };
        let mut new = Vec::new();
        while let Ok(Some((header, Some(bytes)))) = tail.try_next_within(usize::MAX) {
            let next = segment(&header, bytes);
            new.push(if bug == Some(Bug::ShipPastCommit) { beyond(next) } else { next });
        }
        new
    }
}

fn peek(dataset: &Dataset) -> Option<Peek> {
    let before = dataset.position();
    let reader = dataset.reader().ok()?;
    let content = sql::content(&reader).ok()?.ok()?;
    Some(Peek { content, before, glimpse: reader.glimpse() })
}

/// The writer is held until all of them wait, so that they are one group, in this order. (One
/// alone is a group by itself.)
async fn together(dataset: &Arc<Dataset>, writes: &[Write]) -> Vec<Written> {
    if let [write] = writes {
        let write = *write;
        return vec![dataset.write(move |db| sql::run(db, &write)).await];
    }
    let (started, has_started) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let mut gate: Writing<'_> = Box::pin(dataset.write(move |_| {
        let _ = started.send(());
        let _ = may_go.recv();
        Err(Rolled::TooLittle)
    }));
    let mut all: Vec<(Writing<'_>, Option<Written>)> = Vec::new();
    if poll_once(&mut gate).await.is_none() {
        // An error: it was refused before it ran, as the others will be.
        let _ = has_started.recv();
    }
    for write in writes {
        let write = *write;
        let mut writing: Writing<'_> = Box::pin(dataset.write(move |db| sql::run(db, &write)));
        let done = poll_once(&mut writing).await;
        all.push((writing, done));
    }
    let _ = go.send(());
    let mut results = Vec::new();
    for (writing, done) in all {
        results.push(match done {
            Some(done) => done,
            None => writing.await,
        });
    }
    results
}

async fn poll_once(writing: &mut Writing<'_>) -> Option<Written> {
    std::future::poll_fn(|context| {
        Poll::Ready(match writing.as_mut().poll(context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    })
    .await
}

/// The segment as a capture would make it that read on behind the commit's last frame: with what
/// the next transaction has written so far to the same pages.
fn beyond(segment: Segment) -> Segment {
    let Ok(decoded) = verge_dataset::Segment::decode(&segment.bytes) else { return segment };
    let mut pages: Vec<(u32, Vec<u8>)> =
        decoded.pages().map(|(number, page)| (number, page.to_vec())).collect();
    let Some((number, page)) = pages.last_mut().filter(|(number, _)| *number > 1) else {
        return segment;
    };
    let mut after = segment.header.after ^ verge_dataset::page_hash(*number, page);
    let end = page.len() - 1;
    page[end] ^= 1;
    after ^= verge_dataset::page_hash(*number, page);
    let header = &decoded.header;
    let draft = Draft {
        position: header.position,
        previous_epoch: header.previous_epoch,
        wall_ms: header.wall_ms,
        page_size: PAGE_SIZE,
        db_pages: header.db_pages,
        checksum_before: header.checksum_before,
        checksum_after: after,
        tag: header.tag,
    };
    let all: Vec<(u32, &[u8])> = pages.iter().map(|(n, page)| (*n, page.as_slice())).collect();
    match draft.encode(all.iter().copied(), verge_dataset::Compression::None) {
        Some(bytes) => {
            let header = verge_replicate::wire::SegmentHeader { after, ..segment.header };
            Segment { header, bytes }
        }
        None => segment,
    }
}
