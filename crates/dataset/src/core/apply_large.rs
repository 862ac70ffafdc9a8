//! A replica's writes of a large segment: from its file, part by part, into one transaction.

use verge_types::Position;

use super::apply::{after, disagrees};
use super::{Core, Head};
use crate::checksum::{Change, page_hash};
use crate::error::Error;
use crate::large::Receiving;

impl Core {
    /// Applies a large segment whose file has come in; see [`Core::apply`] for the two errors.
    pub(crate) fn apply_large(
        &mut self,
        segment: &Receiving,
    ) -> Result<Result<Head, Error>, Error> {
        let change = match self.admit_large(segment) {
            Ok(Some(change)) => change,
            Ok(None) => return Ok(Ok(self.head)),
            Err(error) => return self.refuse(error).map(Err),
        };
        let position = segment.header.position;
        if let Err(error) = self.log_large(segment, position) {
            self.cut_failed_append(position);
            return Err(Error::io("making the log durable")(error));
        }
        self.hashes.commit(change);
        let head = after(&segment.header);
        self.write_pages(head, |put| {
            // Page 1 comes last: its schema cookie makes SQLite read the schema again.
            let mut first = None;
            segment.reader().each_page(|number, page| match number {
                1 => {
                    first = Some(page.to_vec());
                    Ok(())
                }
                _ => put(number, page),
            })?;
            first.map_or(Ok(()), |page| put(1, &page))
        })?;
        self.stand_at(head)?;
        Ok(Ok(head))
    }

    /// Judges it: what it changes, or `None` if it is there already.
    fn admit_large(&self, segment: &Receiving) -> Result<Option<Change>, Error> {
        self.follows()?;
        if !self.judge(&segment.header, &self.head)? {
            return Ok(None);
        }
        if !segment.is_whole() {
            return Err(Error::corrupt("a large segment", "not all of it has come"));
        }
        if !self.disk().exists(&segment.path) {
            return Err(Error::Stopped("what had come in is gone: it recovered meanwhile".into()));
        }
        let mut hashes = Vec::with_capacity(segment.header.page_count as usize);
        segment.reader().each_page(|number, page| {
            hashes.push((number, page_hash(number, page)));
            Ok(())
        })?;
        let size = (self.head.pages, segment.header.db_pages);
        let (before, page_size) = (self.head.checksum, self.state.page_size);
        let change = self
            .hashes
            .change(&*self.db_file, page_size, before, size, hashes.into_iter())
            .map_err(Error::io("reading pages that were replaced"))?;
        if change.checksum == segment.header.checksum_after {
            Ok(Some(change))
        } else {
            Err(disagrees(self.head.position))
        }
    }

    /// The file in its place, durably, then the record that names it.
    fn log_large(&mut self, segment: &Receiving, position: Position) -> std::io::Result<()> {
        segment.file.sync_data()?;
        let place = self.log.index().large_path(position);
        self.disk().rename(&segment.path, &place)?;
        self.disk().sync_dir(&self.layout.log())?;
        self.log.append_large(position, segment.record.clone(), segment.place.len)
    }
}
