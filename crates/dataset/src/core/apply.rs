//! A replica's writes: whole segments into the log, then as whole pages into SQLite, inside one
//! ordinary transaction, so that its readers see whole states only and keep their snapshots.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use rusqlite::types::Null;
use verge_types::Position;

use super::{Core, Head};
use crate::checksum::page_hash;
use crate::error::Error;
use crate::segment::{Header, Segment};
use crate::state::Duty;

impl Core {
    /// Applies segments that follow each other; ones that are there already are passed over. They
    /// share one sync and become visible together. What comes before a refused one is kept.
    ///
    /// The inner error refuses (and `Diverged` puts the replica into quarantine); after the outer
    /// one the core must be thrown away.
    pub(crate) fn apply(&mut self, batch: &[Bytes]) -> Result<Result<Head, Error>, Error> {
        if let Err(error) = self.follows() {
            return Ok(Err(error));
        }
        self.pages.clear(self.state.page_size);
        let mut head = self.head;
        let mut taken = Vec::new();
        let mut refused = None;
        for bytes in batch {
            match self.admit(bytes, &head)? {
                Ok(Some(next)) => {
                    head = next;
                    taken.push((next.position, bytes.clone()));
                }
                Ok(None) => {}
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let head = self.take(taken, head)?;
        let Some(error) = refused else { return Ok(Ok(head)) };
        self.refuse(error).map(Err)
    }

    /// Whether segments are taken here.
    pub(super) fn follows(&self) -> Result<(), Error> {
        match self.state.duty {
            Duty::Replica => Ok(()),
            Duty::Primary => Err(Error::NotReplica),
            Duty::Quarantined => Err(quarantined()),
        }
    }

    /// Does what follows from refusing a segment.
    pub(super) fn refuse(&mut self, error: Error) -> Result<Error, Error> {
        if matches!(error, Error::Diverged { .. }) {
            self.set_duty(Duty::Quarantined, self.state.epoch)?;
        }
        Ok(error)
    }

    /// Judges one segment at `head` and takes its pages over: where it leads, or `None` if it is
    /// there already.
    fn admit(&mut self, bytes: &Bytes, head: &Head) -> Result<Result<Option<Head>, Error>, Error> {
        let segment = match Segment::decode(bytes) {
            Ok(segment) => segment,
            Err(error) => return Ok(Err(Error::corrupt("a segment", error.to_string()))),
        };
        let header = &segment.header;
        match self.judge(header, head) {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        }
        let size = (head.pages, header.db_pages);
        let page_size = self.state.page_size;
        let hashes = segment.pages().map(|(number, page)| (number, page_hash(number, page)));
        let change = self
            .hashes
            .change(&*self.db_file, page_size, head.checksum, size, hashes)
            .map_err(Error::io("reading pages that were replaced"))?;
        if change.checksum != header.checksum_after {
            return Ok(Err(disagrees(head.position)));
        }
        self.hashes.commit(change);
        for (number, page) in segment.pages() {
            self.pages.put(number, page);
        }
        Ok(Ok(Some(after(header))))
    }

    /// Logs and writes what was judged good.
    fn take(&mut self, taken: Vec<(Position, Bytes)>, head: Head) -> Result<Head, Error> {
        let Some((first, _)) = taken.first() else { return Ok(self.head) };
        let first = *first;
        if let Err(error) = self.log.append(&taken) {
            self.cut_failed_append(first);
            return Err(Error::io("making the log durable")(error));
        }
        self.pages.db_pages = head.pages;
        self.pages.cut();
        let pages = std::mem::take(&mut self.pages);
        self.write_pages(head, |put| {
            // Page 1 comes last: its schema cookie makes SQLite read the schema again.
            let first = pages.pages().filter(|(number, _)| *number == 1);
            pages
                .pages()
                .filter(|(n, _)| *n != 1)
                .chain(first)
                .try_for_each(|(n, page)| put(n, page))
        })?;
        self.pages = pages;
        self.pages.shrink();
        self.stand_at(head)?;
        Ok(head)
    }

    /// After a replica's transaction: its frames are in the log already.
    pub(super) fn stand_at(&mut self, head: Head) -> Result<(), Error> {
        self.skip_own_frames()?;
        self.state.epoch = self.state.epoch.max(head.position.epoch);
        self.head = head;
        Ok(())
    }

    /// Whether a segment is to be applied at `head`.
    pub(super) fn judge(&self, header: &Header, head: &Head) -> Result<bool, Error> {
        let at = head.position;
        if header.tag != self.state.id.tag() {
            return Err(Error::corrupt("a segment", "it belongs to another dataset"));
        }
        if header.page_size != self.state.page_size {
            return Err(Error::corrupt("a segment", "its page size is not the dataset's"));
        }
        if header.position.epoch < self.state.epoch {
            let (given, known) = (header.position.epoch, self.state.epoch);
            return Err(Error::StaleEpoch { given, known });
        }
        if header.position.txid <= at.txid {
            let same_history = header.position <= at && header.position.epoch == at.epoch;
            let why = "a newer epoch goes back before it";
            return if same_history { Ok(false) } else { Err(Error::Diverged { at, why }) };
        }
        if header.position.txid > at.txid + 1 {
            return Err(Error::Gap { have: at, wanted: header.previous() });
        }
        if header.previous() != at || header.checksum_before != head.checksum {
            return Err(Error::Diverged { at, why: "the segment follows another history" });
        }
        Ok(true)
    }

    /// Writes what `give` gives, page 1 last, as one transaction that leads to `head`.
    pub(super) fn write_pages(
        &mut self,
        head: Head,
        give: impl FnOnce(&mut dyn FnMut(u32, &[u8]) -> Result<(), Error>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.begin()?;
        let written = (|| {
            let mut put = self
                .conn
                .prepare_cached("INSERT INTO sqlite_dbpage (pgno, data) VALUES (?1, ?2)")?;
            give(&mut |number, page| {
                put.execute((number, page))?;
                Ok(())
            })?;
            if head.pages < self.head.pages {
                put.execute((head.pages + 1, Null))?;
            }
            Ok::<_, Error>(())
        })();
        if let Err(error) = written {
            self.rollback()?;
            return Err(Error::Failed(format!("writing a replica's pages: {error}").into()));
        }
        self.commit()?;
        self.pages_were_written()
    }

    /// After a transaction that wrote pages past SQL: the schema is read again now, so that it
    /// need not be within the next such transaction.
    pub(crate) fn pages_were_written(&self) -> Result<(), Error> {
        self.forget_pages();
        self.conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        self.forget_pages();
        Ok(())
    }

    fn skip_own_frames(&mut self) -> Result<(), Error> {
        self.committed.store(false, Ordering::Relaxed);
        let end = self.committed_frames.load(Ordering::Relaxed);
        let page_size = self.state.page_size;
        let file = self.wal_file()?;
        self.wal.skip(&*file, page_size, end).map_err(Error::io("reading the -wal"))?;
        self.may_restart = false;
        Ok(())
    }
}

/// Where a segment leads.
pub(super) fn after(header: &Header) -> Head {
    Head {
        position: header.position,
        checksum: header.checksum_after,
        pages: header.db_pages,
        wall_ms: header.wall_ms,
    }
}

pub(super) fn disagrees(at: Position) -> Error {
    Error::Diverged { at, why: "the checksum after a segment disagrees" }
}

pub(crate) fn quarantined() -> Error {
    Error::Quarantined("it has diverged from its primary; seed it from a snapshot".into())
}
