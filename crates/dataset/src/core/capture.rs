//! From the `-wal` into the log: what a group of transactions changed becomes one durable segment.

use std::sync::atomic::Ordering;

use verge_types::Position;

use super::{Core, Head};
use crate::checksum::lock_page;
use crate::error::Error;
use crate::segment::Draft;

impl Core {
    /// Reads what was committed since the last call, appends it as one segment and syncs. `None`
    /// if nothing was written. On error the core must be thrown away.
    pub(super) fn capture(&mut self) -> Result<Option<Head>, Error> {
        let end = self.committed_frames.load(Ordering::Relaxed);
        if end == self.wal.frames() && !self.may_restart {
            return Ok(None);
        }
        self.read_wal(end)?;
        if self.pages.db_pages == 0 {
            return Ok(None);
        }
        self.fill_holes()?;
        let size = (self.head.pages, self.pages.db_pages);
        let change = self
            .hashes
            .change(
                &*self.db_file,
                self.state.page_size,
                self.head.checksum,
                size,
                self.pages.pages(),
            )
            .map_err(Error::io("reading pages that were replaced"))?;
        let position = Position::new(self.state.epoch, self.head.position.txid + 1);
        let next = Head {
            position,
            checksum: change.checksum,
            pages: self.pages.db_pages,
            wall_ms: self.config.clock.wall_ms().max(self.head.wall_ms),
        };
        let draft = Draft {
            position,
            previous_epoch: self.head.position.epoch,
            wall_ms: next.wall_ms,
            page_size: self.state.page_size,
            db_pages: next.pages,
            checksum_before: self.head.checksum,
            checksum_after: next.checksum,
            tag: self.state.id.tag(),
        };
        let segment = draft
            .encode(self.pages.pages(), self.config.settings.compression)
            .ok_or_else(|| Error::Failed("one transaction changed more than 3 GiB".into()))?;
        if let Err(error) = self.log.append(&[(position, segment)]) {
            self.cut_failed_append(position);
            return Err(Error::io("making the log durable")(error));
        }
        self.hashes.commit(change);
        self.head = next;
        self.pages.shrink();
        Ok(Some(next))
    }

    /// Best effort: what cannot be cut now is cut, or found whole, when the log is opened again.
    /// None of it was acknowledged.
    pub(super) fn cut_failed_append(&mut self, position: Position) {
        let _ = self.log.cut_tail(position);
    }

    fn read_wal(&mut self, end: u32) -> Result<(), Error> {
        self.pages.clear(self.state.page_size);
        // A commit without changes leaves no frame; before the first there is no header either.
        if end == 0 || (self.may_restart && !self.wal_moved_on(end)?) {
            return Ok(());
        }
        let file = self.wal_file()?;
        self.wal
            .read(&*file, self.state.page_size, end, self.may_restart, &mut self.pages)
            .map_err(|error| Error::corrupt("the -wal", error.to_string()))?;
        self.may_restart = false;
        self.pages.cut();
        Ok(())
    }

    /// After a full checkpoint: whether anything was committed since.
    fn wal_moved_on(&mut self, end: u32) -> Result<bool, Error> {
        if end != self.wal.frames() {
            return Ok(true);
        }
        let file = self.wal_file()?;
        self.wal.restarted(&*file).map_err(|error| Error::corrupt("the -wal", error.to_string()))
    }

    /// Every page that the database grew by must be in the segment, also one that SQLite found
    /// no reason to write.
    fn fill_holes(&mut self) -> Result<(), Error> {
        let lock = lock_page(self.state.page_size);
        let grown = self.head.pages.saturating_add(1)..=self.pages.db_pages;
        let holes: Vec<u32> = grown.filter(|n| *n != lock && !self.pages.contains(*n)).collect();
        for number in holes {
            let mut statement =
                self.conn.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
            let page: Vec<u8> = statement.query_row([number], |row| row.get(0))?;
            drop(statement);
            self.pages.put(number, &page);
        }
        Ok(())
    }
}
