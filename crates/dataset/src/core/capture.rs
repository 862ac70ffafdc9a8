//! From the `-wal` into the log: what a group of transactions changed becomes one durable segment.

use std::sync::atomic::Ordering;

use verge_types::Position;

use super::{Core, Head};
use crate::checksum::{lock_page, page_hash};
use crate::disk::DiskFile;
use crate::error::Error;
use crate::large::{self, Writer};
use crate::places::{Place, Places};
use crate::segment::Draft;
use crate::wal::{Frame, WalError, read_page};

/// What a group changed.
enum Changed {
    /// All of it is in the core's `pages`.
    Held,
    /// Too much for that: where it is.
    Large(Places),
}

impl Core {
    /// Reads what was committed since the last call, appends it as one segment and syncs. `None`
    /// if nothing was written. On error the core must be thrown away.
    pub(super) fn capture(&mut self) -> Result<Option<Head>, Error> {
        if !self.committed.swap(false, Ordering::Relaxed) {
            return Ok(None);
        }
        let end = self.committed_frames.load(Ordering::Relaxed);
        let changed = self.read_wal(end)?;
        let db_pages = match &changed {
            Changed::Held => self.pages.db_pages,
            Changed::Large(places) => places.db_pages,
        };
        if db_pages == 0 {
            return Ok(None);
        }
        let changed = self.fill_holes(changed, db_pages)?;
        let (file, page_size) = (&*self.db_file, self.state.page_size);
        let (before, size) = (self.head.checksum, (self.head.pages, db_pages));
        let change = match &changed {
            Changed::Held => {
                let hashes =
                    self.pages.pages().map(|(number, page)| (number, page_hash(number, page)));
                self.hashes.change(file, page_size, before, size, hashes)
            }
            Changed::Large(places) => {
                let hashes = places.list().iter().map(|place| (place.number, place.hash));
                self.hashes.change(file, page_size, before, size, hashes)
            }
        };
        let change = change.map_err(Error::io("reading pages that were replaced"))?;
        let position = Position::new(self.state.epoch, self.head.position.txid + 1);
        let next = Head {
            position,
            checksum: change.checksum,
            pages: db_pages,
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
        let appended = match &changed {
            Changed::Held => self.append_held(draft),
            Changed::Large(places) => self.append_large(&draft, places),
        };
        if let Err(error) = appended {
            self.cut_failed_append(position);
            return Err(error);
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

    fn append_held(&mut self, draft: Draft) -> Result<(), Error> {
        let position = draft.position;
        let segment =
            draft.encode(self.pages.pages(), self.config.settings.compression).ok_or_else(
                || Error::Failed("a segment is longer than 3 GiB: large_bytes is too high".into()),
            )?;
        self.log.append(&[(position, segment)]).map_err(Error::io("making the log durable"))
    }

    /// The file first, synced, then the record that names it.
    fn append_large(&mut self, draft: &Draft, places: &Places) -> Result<(), Error> {
        let written = self.write_large(draft, places)?;
        self.log
            .append_large(draft.position, written.record(draft), written.len)
            .map_err(Error::io("making the log durable"))
    }

    fn write_large(&mut self, draft: &Draft, places: &Places) -> Result<large::Place, Error> {
        let io = |error| Error::io("writing a large segment")(error);
        let wal = self.wal_file()?;
        let file =
            self.disk().open(&self.log.index().large_path(draft.position), true).map_err(io)?;
        file.set_len(0).map_err(io)?;
        let compression = self.config.settings.compression;
        let mut writer = Writer::new(file, draft, compression).map_err(io)?;
        let mut page = vec![0; draft.page_size as usize];
        for place in places.list() {
            self.read_again(&*wal, place, &mut page)?;
            writer.put(place.number, &page).map_err(io)?;
        }
        let written = writer.finish().map_err(io)?;
        self.disk().sync_dir(&self.layout.log()).map_err(io)?;
        Ok(written)
    }

    /// A page that was validated before.
    fn read_again(&self, wal: &dyn DiskFile, place: &Place, page: &mut [u8]) -> Result<(), Error> {
        match place.frame {
            0 => self.ask_page(place.number, |bytes| page.copy_from_slice(bytes))?,
            frame => read_page(wal, frame, page).map_err(Error::io("reading the -wal again"))?,
        }
        if page_hash(place.number, page) != place.hash {
            let why = format!("page {} is another than when it was read first", place.number);
            return Err(Error::corrupt("the -wal", why));
        }
        Ok(())
    }

    fn read_wal(&mut self, end: u32) -> Result<Changed, Error> {
        let page_size = self.state.page_size;
        self.pages.clear(page_size);
        let before = if self.may_restart { 0 } else { self.wal.frames() };
        let frames = end.saturating_sub(before);
        if self.is_large(frames as usize) {
            return self.read_large(end, frames);
        }
        let (file, may_restart) = (self.wal_file()?, self.may_restart);
        let pages = &mut self.pages;
        let take = |frame: Frame<'_>| pages.take(&frame);
        self.wal.read(&*file, page_size, end, may_restart, take).map_err(damaged)?;
        self.may_restart = false;
        self.pages.cut();
        Ok(Changed::Held)
    }

    fn is_large(&self, pages: usize) -> bool {
        pages as u64 * u64::from(self.state.page_size) > self.config.settings.large_bytes
    }

    /// The same for so many frames that their pages may be too many; many frames may be of few.
    fn read_large(&mut self, end: u32, frames: u32) -> Result<Changed, Error> {
        let (file, page_size) = (self.wal_file()?, self.state.page_size);
        let mut places = Places::new(frames);
        let take = |frame: Frame<'_>| places.take(&frame);
        self.wal.read(&*file, page_size, end, self.may_restart, take).map_err(damaged)?;
        self.may_restart = false;
        places.settle();
        if self.is_large(places.list().len()) {
            return Ok(Changed::Large(places));
        }
        let mut page = vec![0; page_size as usize];
        for place in places.list() {
            self.read_again(&*file, place, &mut page)?;
            self.pages.put(place.number, &page);
        }
        self.pages.db_pages = places.db_pages;
        Ok(Changed::Held)
    }

    /// Every page that the database grew by must be in the segment, also one that SQLite found
    /// no reason to write.
    fn fill_holes(&mut self, mut changed: Changed, db_pages: u32) -> Result<Changed, Error> {
        let lock = lock_page(self.state.page_size);
        let grown = self.head.pages.saturating_add(1)..=db_pages;
        let is_there = |number: u32| match &changed {
            Changed::Held => self.pages.contains(number),
            Changed::Large(places) => places.contains(number),
        };
        let holes: Vec<u32> = grown.filter(|n| *n != lock && !is_there(*n)).collect();
        for number in &holes {
            let page = self.ask_page(*number, <[u8]>::to_vec)?;
            match &mut changed {
                Changed::Held => self.pages.put(*number, &page),
                Changed::Large(places) => places.put_hole(*number, &page),
            }
        }
        if let (Changed::Large(places), false) = (&mut changed, holes.is_empty()) {
            places.settle();
        }
        Ok(changed)
    }

    fn ask_page<T>(&self, number: u32, take: impl FnOnce(&[u8]) -> T) -> Result<T, Error> {
        let mut statement =
            self.conn.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        Ok(statement.query_row([number], |row| Ok(take(row.get_ref(0)?.as_blob()?)))?)
    }
}

fn damaged(error: WalError) -> Error {
    Error::corrupt("the -wal", error.to_string())
}
