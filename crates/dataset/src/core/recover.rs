//! After a crash the `-wal` counts for nothing: every segment after the checkpoint is written into
//! the database file again. Page images make that repeatable.

use super::apply::after;
use super::{Head, remove_wal};
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::layout::Layout;
use crate::log::{Log, LogReader, Stored};
use crate::state::State;

/// Brings the database file to the log's end, and the checkpoint with it.
pub(super) fn redo(
    disk: &dyn Disk,
    layout: &Layout,
    state: &mut State,
    log: &Log,
    db: &dyn DiskFile,
) -> Result<Head, Error> {
    remove_wal(disk, layout)?;
    let damaged = |why: &str| Error::corrupt("the dataset", why);
    let mut head = Head {
        position: state.checkpoint,
        checksum: state.checksum,
        pages: state.pages,
        wall_ms: state.wall_ms,
    };
    if log.end().txid < state.checkpoint.txid {
        return Err(damaged("its log ends before what its database file holds"));
    }
    let mut reader =
        LogReader::new(log.index().clone(), state.checkpoint).map_err(|error| match error {
            Error::NeedSnapshot { .. } => damaged("segments after its checkpoint are missing"),
            Error::Diverged { .. } => damaged("its checkpoint is not in its log's history"),
            other => other,
        })?;
    let mut redone = false;
    while let Some(segment) = reader.next_stored()? {
        head = write_segment(db, state.page_size, head, segment)?;
        redone = true;
    }
    if head.position != log.end() {
        return Err(damaged("its log has a gap"));
    }
    let wanted = u64::from(head.pages) * u64::from(state.page_size);
    let io = |error| Error::io("recovering the database file")(error);
    let len = db.size().map_err(io)?;
    if len < wanted {
        return Err(damaged("its database file is shorter than it must be"));
    }
    if len > wanted {
        db.set_len(wanted).map_err(io)?;
        redone = true;
    }
    if redone {
        db.sync_data().map_err(io)?;
        advance(state, head);
        state.save(disk, &layout.state())?;
    }
    Ok(head)
}

/// Says that the database file holds `head`.
pub(super) fn advance(state: &mut State, head: Head) {
    state.checkpoint = head.position;
    state.checksum = head.checksum;
    state.pages = head.pages;
    state.wall_ms = head.wall_ms;
    state.epoch = state.epoch.max(head.position.epoch);
}

/// Writes one segment's pages into a database file that nobody has open, and gives where it then
/// stands. Not synced, but cut if it shrank.
pub(crate) fn write_segment(
    db: &dyn DiskFile,
    page_size: u32,
    head: Head,
    segment: Stored,
) -> Result<Head, Error> {
    let header = segment.header().clone();
    let fits = header.previous() == head.position
        && header.checksum_before == head.checksum
        && header.page_size == page_size;
    if !fits {
        return Err(Error::corrupt("the log", format!("{} does not follow", header.position)));
    }
    segment.each_page(|number, page| {
        let at = u64::from(number - 1) * u64::from(page_size);
        db.write_all_at(page, at).map_err(Error::io("writing the database file"))
    })?;
    if header.db_pages < head.pages {
        let len = u64::from(header.db_pages) * u64::from(page_size);
        db.set_len(len).map_err(Error::io("cutting the database file"))?;
    }
    Ok(after(&header))
}
