//! Moves the `-wal` into the database file, only ever past frames that are durable in the log.

use std::sync::atomic::Ordering;

use rusqlite::ErrorCode;
use rusqlite::wal::CheckpointMode;

use super::Core;
use super::recover::advance;
use verge_types::Position;

use crate::archive;
use crate::error::Error;
use crate::wal::WalCursor;

impl Core {
    /// Whether the `-wal` is long enough to be moved.
    pub(crate) fn checkpoint_is_due(&self) -> bool {
        self.wal_bytes() >= self.config.settings.checkpoint_bytes && !self.may_restart
    }

    /// Moves what readers allow. `true` if that was all of it: the database file then holds the
    /// head, durably, and says so.
    ///
    /// An error of SQLite's own (a full disk) leaves everything as it was; failing to sync means
    /// that the core must be thrown away, which the caller does for every `Io` error.
    pub(crate) fn checkpoint(&mut self) -> Result<bool, Error> {
        if self.state.checkpoint == self.head.position {
            return Ok(true);
        }
        if !self.image_is_done() {
            return Ok(false);
        }
        let (frames, moved) = self.conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE)?;
        if frames != moved || frames < 0 {
            return Ok(false);
        }
        self.db_file.sync_data().map_err(Error::io("syncing the database file"))?;
        let mut next = self.state.clone();
        advance(&mut next, self.head);
        next.save(self.disk(), &self.layout.state())?;
        self.state = next;
        self.may_restart = true;
        self.trim_log()?;
        Ok(true)
    }

    /// For a `-wal` at its limit: begins it anew, which any open reader prevents.
    pub(crate) fn empty_wal(&mut self) -> Result<bool, Error> {
        if !self.checkpoint()? {
            return Ok(false);
        }
        let (_, _) = match self.conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                return Ok(false);
            }
            other => other?,
        };
        self.wal = WalCursor::default();
        self.committed_frames.store(0, Ordering::Relaxed);
        Ok(true)
    }

    /// Keeps an image once half of the log's room was written since the last one, and removes
    /// what lies before the image before that.
    fn trim_log(&mut self) -> Result<(), Error> {
        let max = self.config.settings.max_log_bytes;
        let index = self.log.index().clone();
        if index.bytes() < max / 2 {
            return Ok(());
        }
        let images = archive::images(self.disk(), &self.layout);
        let last = images.last().map_or(Position::default(), |state| state.checkpoint);
        if index.bytes_after(last) < max / 2 {
            return Ok(());
        }
        let before = images.last().map(|state| state.checkpoint);
        let image = archive::keep_image(&self.config, &self.layout, &self.state);
        let image = image.map_err(Error::io("starting a thread"))?;
        if self.config.images_beside {
            self.image = Some(image);
        } else {
            // One that fails is made again later, as beside the writer.
            drop(image.join());
        }
        if let Some(before) = before {
            archive::drop_images(self.disk(), &self.layout, 1)?;
            self.log.trim(before).map_err(Error::io("trimming the log"))?;
        }
        Ok(())
    }

    /// Whether no copy of the database file is being made. One that failed is tried again after as
    /// much log as before.
    fn image_is_done(&mut self) -> bool {
        match self.image.take() {
            Some(image) if image.is_finished() => drop(image.join()),
            Some(image) => self.image = Some(image),
            None => {}
        }
        self.image.is_none()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(image) = self.image.take() {
            // The next core writes to the file that is being copied.
            drop(image.join());
        }
    }
}
