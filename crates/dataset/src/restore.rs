//! Going back to an older state, and making a branch of one.

use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::types::Null;
use verge_types::{DatasetId, Position};

use crate::archive::{Archive, Target};
use crate::checksum::lock_page;
use crate::core::{Core, Head};
use crate::dataset::Dataset;
use crate::disk::{Disk, DiskFile};
use crate::error::Error;
use crate::shared::Shared;
use crate::state::{Duty, State};
use crate::store::Store;

impl Store {
    /// Makes a primary's content what it was at `target`: as one more transaction, so that its
    /// history goes on, replicas follow, and this too can be undone. Gives the new position.
    ///
    /// # Errors
    /// `NotRetained` if the log and its images do not reach back to it.
    pub async fn restore(&self, id: &DatasetId, target: Target) -> Result<Position, Error> {
        let dataset = self.get(id)?;
        let (disk, layout) = (self.inner.config.disk.clone(), self.layout(id));
        let log = dataset.shared.log_index.lock().clone();
        let image = layout.dir.join("restore.tmp");
        let head = Archive { disk: &*disk, layout: &layout, log: &log }.make(
            dataset.page_size(),
            target,
            &image,
        )?;
        let file = disk.open(&image, false).map_err(Error::io("reading a restored state"))?;
        let done = dataset
            .control(move |core, shared| {
                shared.may_write()?;
                core.become_image(&*file, head, shared)
            })
            .await;
        disk.remove_if_there(&image).map_err(Error::io("removing a temporary file"))?;
        done
    }

    /// Makes a new dataset, with this node as its primary, from another's state: now, or at
    /// `target`. Copies, or shares blocks where the file system can.
    pub async fn branch(
        &self,
        from: &DatasetId,
        to: &DatasetId,
        target: Option<Target>,
    ) -> Result<Arc<Dataset>, Error> {
        let source = self.get(from)?;
        let slot_free = !self.disk().exists(&self.layout(to).dir);
        if !slot_free {
            return Err(Error::Exists(to.clone()));
        }
        let disk = self.inner.config.disk.clone();
        let file = self.inner.config.dir.join(format!(
            "{}branch-{}",
            crate::store::UNFINISHED,
            to.as_str().replace('/', "+")
        ));
        let head = match target {
            Some(target) => {
                let log = source.shared.log_index.lock().clone();
                let layout = self.layout(from);
                Archive { disk: &*disk, layout: &layout, log: &log }.make(
                    source.page_size(),
                    target,
                    &file,
                )?
            }
            None => copy_now(&source, &disk, &file).await?,
        };
        let state = State {
            id: to.clone(),
            page_size: source.page_size(),
            duty: Duty::Primary,
            epoch: head.position.epoch.max(1),
            checkpoint: head.position,
            checksum: head.checksum,
            pages: head.pages,
            wall_ms: head.wall_ms,
        };
        self.build(to, &state, |layout| {
            disk.rename(&file, &layout.db()).map_err(Error::io("moving a branch to its place"))
        })
    }
}

/// The state of now, copied from the file if all of it is there, else page by page.
async fn copy_now(
    source: &Dataset,
    disk: &Arc<dyn Disk>,
    to: &std::path::Path,
) -> Result<Head, Error> {
    let io = |error| Error::io("copying a database")(error);
    disk.remove_if_there(to).map_err(io)?;
    let (copy_to, on) = (to.to_owned(), disk.clone());
    let copied = source
        .control(move |core, _| {
            if !core.checkpoint()? {
                return Ok(None);
            }
            let copied = on.clone_file(&core.layout.db(), &copy_to);
            // The source is as it was, whatever became of the copy.
            Ok(copied.is_ok().then_some(core.head))
        })
        .await?;
    if let Some(head) = copied {
        disk.open(to, false).and_then(|file| file.sync_data()).map_err(io)?;
        return Ok(head);
    }
    let snapshot = source.snapshot().await?;
    let file = disk.open(to, true).map_err(io)?;
    file.set_len(0).map_err(io)?;
    snapshot.write_to(&*file)?;
    file.sync_data().map_err(io)?;
    Ok(snapshot.head())
}

impl Core {
    /// Writes every page that differs, in one transaction.
    fn become_image(
        &mut self,
        image: &dyn DiskFile,
        target: Head,
        shared: &Shared,
    ) -> Result<Position, Error> {
        self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
        self.begin()?;
        let written = self.write_differences(image, target);
        let ended = match &written {
            Ok(()) => self.commit(),
            Err(_) => self.rollback(),
        };
        self.pages_were_written()?;
        self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        written.and(ended)?;
        self.settle(Vec::new(), shared)?;
        if self.head.checksum != target.checksum {
            return Err(Error::corrupt("a restored state", "its checksum disagrees"));
        }
        Ok(self.head.position)
    }

    fn write_differences(&self, image: &dyn DiskFile, target: Head) -> Result<(), Error> {
        let page_size = self.state.page_size;
        let mut get = self.conn.prepare("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
        let mut put =
            self.conn.prepare("INSERT INTO sqlite_dbpage (pgno, data) VALUES (?1, ?2)")?;
        let mut page = vec![0; page_size as usize];
        let lock = lock_page(page_size);
        for number in (2..=target.pages).chain([1]).filter(|number| *number != lock) {
            image
                .read_exact_at(&mut page, u64::from(number - 1) * u64::from(page_size))
                .map_err(Error::io("reading a restored state"))?;
            let same = number <= self.head.pages
                && get.query_row([number], |row| Ok(row.get_ref(0)?.as_blob()? == page))?;
            if !same {
                put.execute((number, &page))?;
            }
        }
        if target.pages < self.head.pages {
            put.execute((target.pages + 1, Null))?;
        }
        Ok(())
    }
}
