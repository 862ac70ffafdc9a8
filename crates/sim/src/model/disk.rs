//! One node's disk: a log of segments, the database file behind it, and small metadata. What was
//! not synced may be lost, kept or torn by a crash, each piece by its own luck.

use std::collections::BTreeMap;

use bytes::Bytes;
use verge_replicate::wire::Segment;

use super::data::{self, Data, Pages};
use crate::rng::Rng;

#[derive(Clone, Debug)]
struct Record {
    segment: Segment,
    /// Written in part; its own checksum tells.
    torn: bool,
}

/// A disk.
#[derive(Clone, Debug)]
pub struct Disk {
    log: BTreeMap<u64, Record>,
    /// Segments up to here are synced.
    synced: u64,
    /// The database file as of the last checkpoint, and its position.
    file: Pages,
    file_at: u64,
    /// Written to the file since, not synced.
    dirty: Pages,
    /// Tails that were set aside; the numbers of the writes in them.
    pub quarantine: Vec<u32>,
    seed: Option<Vec<Bytes>>,
    /// No space: what would be written fails.
    pub full: bool,
    /// The next sync fails.
    pub sync_fails: bool,
}

/// What a process finds when it opens the dataset.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub data: Data,
    pub txid: u64,
}

/// No space.
#[derive(Clone, Copy, Debug)]
pub struct Full;

impl Default for Disk {
    fn default() -> Self {
        Self {
            log: BTreeMap::new(),
            synced: 0,
            file: Data::default().pages().clone(),
            file_at: 0,
            dirty: Pages::new(),
            quarantine: Vec::new(),
            seed: None,
            full: false,
            sync_fails: false,
        }
    }
}

impl Disk {
    pub fn append(&mut self, segment: Segment) -> Result<(), Full> {
        if self.full {
            return Err(Full);
        }
        self.log.insert(segment.header.position.txid, Record { segment, torn: false });
        Ok(())
    }

    /// Makes all that was appended durable.
    pub fn sync(&mut self) {
        self.synced = self.end();
    }

    fn end(&self) -> u64 {
        self.log.last_key_value().map_or(self.file_at, |(txid, _)| *txid)
    }

    /// The oldest segment that is kept; one beyond the end when there is none.
    pub fn first(&self) -> u64 {
        self.log.first_key_value().map_or(self.file_at + 1, |(txid, _)| *txid)
    }

    pub fn segments(&self, after: u64, up_to: u64, max_bytes: usize) -> Vec<Segment> {
        let mut bytes = 0;
        self.log
            .range(after + 1..=up_to.max(after + 1))
            .filter(|(txid, _)| **txid <= up_to)
            .map(|(_, record)| record.segment.clone())
            .take_while(|segment| {
                let fits = bytes == 0 || bytes + segment.bytes.len() <= max_bytes;
                bytes += segment.bytes.len().max(1);
                fits
            })
            .collect()
    }

    /// The checksum after `txid`, if the log still tells.
    pub fn checksum_at(&self, txid: u64) -> Option<u64> {
        let own = self.log.get(&txid).map(|record| record.segment.header.after);
        own.or_else(|| self.log.get(&(txid + 1)).map(|record| record.segment.header.before))
    }

    /// The writer spills pages into the file, as a checkpoint does, not yet synced.
    pub fn spill(&mut self, data: &Data, rng: &mut Rng) {
        for (number, page) in data.pages() {
            if rng.chance(500) {
                self.dirty.insert(*number, page.clone());
            }
        }
    }

    /// A finished checkpoint: the file holds at least `txid`, whose segments are all synced.
    pub fn checkpoint(&mut self, data: &Data, txid: u64) {
        if txid <= self.synced && txid >= self.file_at {
            self.file = data.pages().clone();
            self.file_at = txid;
            self.dirty.clear();
        }
    }

    /// Drops segments that nobody needs, but none that recovery needs.
    pub fn retain(&mut self, from: u64) {
        let from = from.min(self.file_at + 1);
        self.log.retain(|txid, _| *txid >= from);
    }

    /// Power loss, or a kill with a page cache that was partly written.
    pub fn crash(&mut self, rng: &mut Rng) {
        let unsynced: Vec<u64> = self.log.range(self.synced + 1..).map(|(txid, _)| *txid).collect();
        for txid in unsynced {
            match rng.range(0, 3) {
                0 => {
                    self.log.remove(&txid);
                }
                1 => {
                    if let Some(record) = self.log.get_mut(&txid) {
                        record.torn = true;
                    }
                }
                _ => {}
            }
        }
        let dirty = std::mem::take(&mut self.dirty);
        for (number, page) in dirty {
            if rng.chance(500) {
                self.file.insert(number, page);
            }
        }
        self.seed = None;
        self.sync_fails = false;
    }

    /// Opens the dataset after a crash: the log is valid up to its first gap or torn record, and
    /// is applied again to the file.
    pub fn recover(&mut self, skip_redo: bool) -> Recovered {
        let mut data = Data::from_pages(self.file.clone());
        let mut txid = self.file_at;
        let mut expected = None;
        while let Some(Record { segment, torn: false }) = self.log.get(&(txid + 1)) {
            let chained = expected.is_none_or(|before| before == segment.header.before);
            let Some(pages) = data::decode(segment.bytes.clone()).filter(|_| chained) else {
                break;
            };
            expected = Some(segment.header.after);
            if !skip_redo {
                pages.into_iter().for_each(|(number, page)| data.put(number, page));
            }
            txid += 1;
        }
        self.log.retain(|t, _| *t <= txid);
        self.synced = txid;
        Recovered { data, txid }
    }

    /// Cuts the history back to `txid`: an operator's restore.
    pub fn restore(&mut self, data: Data, txid: u64) {
        self.log.retain(|t, _| *t <= txid);
        self.file = data.pages().clone();
        self.file_at = txid;
        self.dirty.clear();
        self.synced = txid;
    }

    /// Keeps what is after the fork; where the log does not reach back to it, all there is.
    pub fn set_aside(&mut self, after: u64) {
        if self.first() > after + 1 {
            self.quarantine.extend(Data::from_pages(self.file.clone()).lists().concat());
        }
        let tail: Vec<u32> =
            self.log.range(after + 1..).flat_map(|(_, r)| data::ops_in(&r.segment.bytes)).collect();
        self.quarantine.extend(tail);
    }

    pub fn seed_begin(&mut self) {
        self.seed = Some(Vec::new());
    }

    pub fn seed_abort(&mut self) {
        self.seed = None;
    }

    pub fn seed_chunk(&mut self, bytes: Bytes) -> Result<(), Full> {
        match &mut self.seed {
            Some(chunks) if !self.full => {
                chunks.push(bytes);
                Ok(())
            }
            _ => Err(Full),
        }
    }

    /// Replaces data and lineage by the finished seed, in one step.
    pub fn seed_install(&mut self, txid: u64) -> Option<Data> {
        let mut pages = Pages::new();
        for chunk in self.seed.take()? {
            pages.extend(data::decode(chunk)?);
        }
        let data = Data::from_pages(pages);
        self.log.clear();
        self.file = data.pages().clone();
        self.file_at = txid;
        self.dirty.clear();
        self.synced = txid;
        Some(data)
    }
}
