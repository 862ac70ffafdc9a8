//! Whole images kept beside the log, from which any retained position is made again.
//!
//! `snapshots/<epoch>-<txid>.db` is a copy of the database file at that position, and the `.state`
//! beside it says what it is; without that it does not count. Retention keeps the last two images
//! and the log after the older one, so what can be restored reaches back between half of
//! `max_log_bytes` and all of it.

use std::path::Path;
use std::thread::JoinHandle;

use verge_types::{DatasetId, Position};

use crate::checksum::page_hash;
use crate::config::StoreConfig;
use crate::core::{Head, write_segment};
use crate::disk::Disk;
use crate::error::Error;
use crate::genesis;
use crate::layout::Layout;
use crate::log::{LogIndex, LogReader};
use crate::state::State;
use crate::store::Store;
use std::sync::Arc;

/// A point to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Exactly this position.
    Position(Position),
    /// The last state committed at or before this time, ms since 1970.
    Time(u64),
}

/// Copies the database file, which nobody changes meanwhile, on a thread of its own.
pub(crate) fn keep_image(
    config: &StoreConfig,
    layout: &Layout,
    state: &State,
) -> std::io::Result<JoinHandle<Result<(), Error>>> {
    let (disk, layout, state) = (config.disk.clone(), layout.clone(), state.clone());
    std::thread::Builder::new().name("dataset-image".into()).spawn(move || {
        let io = |error| Error::io("keeping an image of the database")(error);
        let dir = layout.snapshots();
        disk.create_dir_all(&dir).map_err(io)?;
        let name = name(state.checkpoint);
        let image = dir.join(format!("{name}.db"));
        disk.clone_file(&layout.db(), &image).map_err(io)?;
        disk.open(&image, false).and_then(|file| file.sync_data()).map_err(io)?;
        // Written last: it makes the image count, and its writing syncs the folder.
        state.save(&*disk, &dir.join(format!("{name}.state")))
    })
}

fn name(position: Position) -> String {
    format!("{:016x}-{:016x}", position.epoch, position.txid)
}

/// Images that count, oldest first.
pub(crate) fn images(disk: &dyn Disk, layout: &Layout) -> Vec<State> {
    let dir = layout.snapshots();
    let mut states: Vec<State> = disk
        .list(&dir)
        .unwrap_or_default()
        .iter()
        .filter(|name| name.ends_with(".state"))
        .filter_map(|name| State::load(disk, &dir.join(name)).ok())
        .collect();
    states.sort_by_key(|state| state.checkpoint);
    states
}

/// Removes all but the last `keep` images.
pub(crate) fn drop_images(disk: &dyn Disk, layout: &Layout, keep: usize) -> Result<(), Error> {
    let images = images(disk, layout);
    let io = |error| Error::io("removing an old image")(error);
    for state in &images[..images.len().saturating_sub(keep)] {
        let path = layout.snapshots().join(name(state.checkpoint));
        disk.remove_if_there(&path.with_extension("state")).map_err(io)?;
        disk.remove_if_there(&path.with_extension("db")).map_err(io)?;
    }
    Ok(())
}

/// A state that can be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub position: Position,
    /// When it was committed, ms since 1970; 0 for the empty beginning.
    pub wall_ms: u64,
}

impl Store {
    /// The oldest state that can be restored, and the one that `target` means.
    ///
    /// # Errors
    /// `NotRetained` if the log and its images do not reach back to it. Reads the log up to it.
    pub fn locate(&self, id: &DatasetId, target: Target) -> Result<(Point, Point), Error> {
        let dataset = self.get(id)?;
        let log = dataset.shared.log_index.lock().clone();
        let layout = self.layout(id);
        let disk = &*self.inner.config.disk;
        Archive { disk, layout: &layout, log: &log }.locate(target)
    }
}

/// What older states are made of: the images and the log, while retention may go on.
pub(crate) struct Archive<'a> {
    pub disk: &'a dyn Disk,
    pub layout: &'a Layout,
    pub log: &'a Arc<LogIndex>,
}

impl Archive<'_> {
    fn images(&self) -> Vec<State> {
        images(self.disk, self.layout)
    }

    /// Looks again where retention took away meanwhile what was looked at. That ends: what is looked
    /// for stays where it is, and retention only goes on past it.
    fn undisturbed<T>(&self, look: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
        let reach = || (self.log.base(), self.images().first().map(|state| state.checkpoint));
        loop {
            let before = reach();
            match look() {
                Err(Error::NeedSnapshot { from }) if reach() == before => {
                    let why = format!("what goes on from {from} is missing");
                    return Err(Error::corrupt("the log", why));
                }
                Err(Error::NeedSnapshot { .. }) => {}
                Err(Error::NotRetained { .. }) if reach() != before => {}
                done => return done,
            }
        }
    }

    fn locate(&self, target: Target) -> Result<(Point, Point), Error> {
        self.undisturbed(|| self.locate_once(target))
    }

    fn locate_once(&self, target: Target) -> Result<(Point, Point), Error> {
        let base = self.log.base();
        let oldest = self
            .images()
            .into_iter()
            .find(|state| state.checkpoint.txid >= base.txid)
            .filter(|_| base.txid > 0)
            .map(|state| Point { position: state.checkpoint, wall_ms: state.wall_ms });
        let gone = || Error::NotRetained { what: target.to_string() };
        let oldest = match oldest {
            Some(oldest) => oldest,
            None if base.txid == 0 => Point { position: base, wall_ms: 0 },
            None => return Err(gone()),
        };
        let mut found = oldest;
        let mut reader = LogReader::new(self.log.clone(), oldest.position)?;
        while let Some((header, _)) = reader.next_segment()? {
            if !target.reaches(header.position, header.wall_ms) {
                break;
            }
            found = Point { position: header.position, wall_ms: header.wall_ms };
        }
        let missed = match target {
            Target::Position(wanted) => wanted != found.position,
            Target::Time(wanted) => wanted < oldest.wall_ms,
        };
        if missed { Err(gone()) } else { Ok((oldest, found)) }
    }

    /// Makes the database file of a retained state at `to`. Synced.
    ///
    /// # Errors
    /// `NotRetained` if the log and its images do not reach back to it, or no longer.
    pub(crate) fn make(&self, page_size: u32, target: Target, to: &Path) -> Result<Head, Error> {
        self.undisturbed(|| self.make_once(page_size, target, to))
    }

    fn make_once(&self, page_size: u32, target: Target, to: &Path) -> Result<Head, Error> {
        let io = |error| Error::io("making an older state again")(error);
        let gone = || Error::NotRetained { what: target.to_string() };
        let Self { disk, layout, log } = self;
        let base = log.base();
        let image = self.images().into_iter().rfind(|state| {
            state.checkpoint.txid >= base.txid && target.reaches(state.checkpoint, state.wall_ms)
        });
        disk.remove_if_there(to).map_err(io)?;
        let mut head = match image {
            Some(state) => {
                let path = layout.snapshots().join(name(state.checkpoint)).with_extension("db");
                disk.clone_file(&path, to).map_err(|error| match error.kind() {
                    std::io::ErrorKind::NotFound => Error::NeedSnapshot { from: state.checkpoint },
                    _ => io(error),
                })?;
                Head {
                    position: state.checkpoint,
                    checksum: state.checksum,
                    pages: state.pages,
                    wall_ms: state.wall_ms,
                }
            }
            None if base.txid == 0 => {
                let page = genesis::page(page_size);
                let file = disk.open(to, true).map_err(io)?;
                file.write_all_at(&page, 0).map_err(io)?;
                let checksum = page_hash(1, &page);
                Head { position: base, checksum, pages: 1, wall_ms: 0 }
            }
            None => return Err(gone()),
        };
        let file = disk.open(to, false).map_err(io)?;
        let mut reader = LogReader::new((*log).clone(), head.position)?;
        while let Some(segment) = reader.next_stored()? {
            let header = segment.header();
            if !target.reaches(header.position, header.wall_ms) {
                break;
            }
            head = write_segment(&*file, page_size, head, segment)?;
        }
        if matches!(target, Target::Position(wanted) if wanted != head.position) {
            return Err(gone());
        }
        file.sync_data().map_err(io)?;
        Ok(head)
    }
}

impl Target {
    fn reaches(self, position: Position, wall_ms: u64) -> bool {
        match self {
            Self::Position(wanted) => position.txid <= wanted.txid,
            Self::Time(wanted) => wall_ms <= wanted,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Position(position) => write!(f, "position {position}"),
            Self::Time(ms) => write!(f, "the state of {ms} ms after 1970"),
        }
    }
}
