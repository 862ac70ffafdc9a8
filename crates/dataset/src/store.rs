//! A node's folder of datasets: made, found, opened when first used, closed when cold.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use verge_types::{DatasetId, Position};

use crate::checksum::page_hash;
use crate::config::StoreConfig;
use crate::crashsafe::sync_parent;
use crate::dataset::Dataset;
use crate::disk::Disk;
use crate::error::Error;
use crate::genesis;
use crate::layout::Layout;
use crate::shared::Shared;
use crate::sqlite;
use crate::state::{Duty, State};

/// How often deadlines are looked at.
const KEEPER_TICK: Duration = Duration::from_millis(50);
/// Folders whose making was not finished begin like this; no dataset's does.
pub(crate) const UNFINISHED: &str = "~";
/// Folders of what could not be opened and was made anew. No id begins so.
const DAMAGED: &str = "!damaged-";

/// How a dataset is made.
#[derive(Clone, Copy, Debug)]
pub struct CreateOptions {
    /// Bytes, a power of two from 512 to 65,536.
    pub page_size: u32,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self { page_size: 4096 }
    }
}

/// Cheap to clone; all clones are one store.
///
/// Its calls are synchronous and may touch the disk for some milliseconds; `get` of an open
/// dataset does not.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_id: FxHashMap<DatasetId, Arc<Slot>>,
    clock: u64,
}

/// One dataset's place: its lock is held while it is opened or closed.
#[derive(Default)]
struct Slot {
    open: Mutex<Option<Arc<Dataset>>>,
    used: std::sync::atomic::AtomicU64,
}

impl Store {
    /// Opens a node's folder, making it if need be. Looks at no dataset yet.
    pub fn open(config: StoreConfig) -> Result<Self, Error> {
        sqlite::check_library()?;
        let disk = &config.disk;
        disk.create_dir_all(&config.dir).map_err(Error::io("making the store's folder"))?;
        for name in disk.list(&config.dir).map_err(Error::io("reading the store's folder"))? {
            if let Some(place) = name.strip_prefix(UNFINISHED) {
                let (left, place) = (config.dir.join(&name), config.dir.join(place));
                finish_or_remove(&**disk, Layout { dir: left }, Layout { dir: place })?;
            }
        }
        let inner = Arc::new(Inner { config, slots: Mutex::default() });
        let weak = Arc::downgrade(&inner);
        thread::Builder::new()
            .name("dataset-keeper".into())
            .spawn(move || keep(&weak))
            .map_err(Error::io("starting the store's keeper"))?;
        Ok(Self { inner })
    }

    /// Makes an empty dataset with this node as its primary, epoch 1.
    pub fn create(&self, id: &DatasetId, options: CreateOptions) -> Result<Arc<Dataset>, Error> {
        self.make(id, options, Duty::Primary, 1)
    }

    /// Makes an empty dataset that takes a primary's segments from the first on. A dataset with a
    /// history comes by [`Self::seed`].
    pub fn create_replica(
        &self,
        id: &DatasetId,
        options: CreateOptions,
    ) -> Result<Arc<Dataset>, Error> {
        self.make(id, options, Duty::Replica, 0)
    }

    fn make(
        &self,
        id: &DatasetId,
        options: CreateOptions,
        duty: Duty,
        epoch: u64,
    ) -> Result<Arc<Dataset>, Error> {
        let page_size = options.page_size;
        if !genesis::is_page_size(page_size) {
            let why = "page sizes are powers of two from 512 to 65536";
            return Err(Error::InvalidOption { text: page_size.to_string(), why });
        }
        let page = genesis::page(page_size);
        let state = State {
            id: id.clone(),
            page_size,
            duty,
            epoch,
            checkpoint: Position::new(0, 0),
            checksum: page_hash(1, &page),
            pages: 1,
            wall_ms: 0,
        };
        self.build(id, &state, |layout| {
            let io = Error::io("making a database file");
            let disk = self.disk();
            let file = disk.open(&layout.db(), true);
            file.and_then(|file| file.write_all_at(&page, 0).and_then(|()| file.sync_data()))
                .map_err(io)
        })
    }

    /// Makes a dataset's folder beside its place, has it filled, and moves it there.
    pub(crate) fn build(
        &self,
        id: &DatasetId,
        state: &State,
        fill: impl FnOnce(&Layout) -> Result<(), Error>,
    ) -> Result<Arc<Dataset>, Error> {
        let layout = self.layout(id);
        let slot = self.slot(id);
        let mut open = slot.open.lock();
        if open.is_some() || self.disk().exists(&layout.dir) {
            return Err(Error::Exists(id.clone()));
        }
        let building = Layout { dir: self.building(id) };
        self.fill(&building, state, fill)?;
        self.settle(&building, &layout)?;
        let dataset = self.open_now(id, layout)?;
        *open = Some(dataset.clone());
        drop(open);
        self.close_cold();
        Ok(dataset)
    }

    pub(crate) fn building(&self, id: &DatasetId) -> PathBuf {
        let name =
            self.layout(id).dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.inner.config.dir.join(format!("{UNFINISHED}{name}"))
    }

    pub(crate) fn fill(
        &self,
        building: &Layout,
        state: &State,
        fill: impl FnOnce(&Layout) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let disk = self.disk();
        if disk.exists(&building.dir) {
            disk.remove_dir_all(&building.dir)
                .map_err(Error::io("removing an unfinished folder"))?;
        }
        disk.create_dir_all(&building.log()).map_err(Error::io("making a dataset's folder"))?;
        fill(building)?;
        state.save(disk, &building.state())
    }

    pub(crate) fn settle(&self, building: &Layout, layout: &Layout) -> Result<(), Error> {
        let disk = self.disk();
        disk.rename(&building.dir, &layout.dir)
            .and_then(|()| sync_parent(disk, &layout.dir))
            .map_err(Error::io("moving a dataset's folder to its place"))
    }

    /// The dataset, opened if it is not.
    pub fn get(&self, id: &DatasetId) -> Result<Arc<Dataset>, Error> {
        let slot = self.slot(id);
        let dataset = {
            let mut open = slot.open.lock();
            if let Some(dataset) = open.as_ref() {
                return Ok(dataset.clone());
            }
            let layout = self.layout(id);
            if !self.disk().exists(&layout.dir) {
                drop(open);
                self.forget(id);
                return Err(Error::NotFound(id.clone()));
            }
            if !self.disk().exists(&layout.state()) {
                return Err(Error::corrupt("a dataset's state", "it is missing"));
            }
            let dataset = self.open_now(id, layout)?;
            *open = Some(dataset.clone());
            dataset
        };
        self.close_cold();
        Ok(dataset)
    }

    fn open_now(&self, id: &DatasetId, layout: Layout) -> Result<Arc<Dataset>, Error> {
        let shared = Shared::open(id.clone(), &self.inner.config, layout)?;
        Ok(Arc::new(Dataset { shared }))
    }

    /// Ids of all datasets on this node, sorted.
    pub fn list(&self) -> Result<Vec<DatasetId>, Error> {
        let names = self.disk().list(&self.inner.config.dir);
        let names = names.map_err(Error::io("reading the store's folder"))?;
        let mut ids: Vec<_> = names.iter().filter_map(|name| Layout::id(name)).collect();
        ids.sort();
        Ok(ids)
    }

    /// How many datasets are open now.
    pub fn open_count(&self) -> usize {
        let slots = self.inner.slots.lock();
        slots.by_id.values().filter(|slot| slot.open.try_lock().is_none_or(|o| o.is_some())).count()
    }

    /// Removes a dataset and its history from this node. Handles to it answer `Closed`.
    ///
    /// # Errors
    /// `Overloaded` while readers are out.
    pub fn delete(&self, id: &DatasetId) -> Result<(), Error> {
        let layout = self.layout(id);
        let slot = self.slot(id);
        let mut open = slot.open.lock();
        if let Some(dataset) = open.as_ref() {
            if !dataset.shared.close() {
                return Err(Error::Overloaded { what: "readers of a dataset to delete", limit: 0 });
            }
            *open = None;
        }
        if !self.disk().exists(&layout.dir) {
            return Err(Error::NotFound(id.clone()));
        }
        // Out of the way first, so that a crash in the middle leaves no half of it.
        let going = self.building(id);
        self.disk()
            .rename(&layout.dir, &going)
            .and_then(|()| sync_parent(self.disk(), &going))
            // Without a state it is not finished but removed, should this be interrupted.
            .and_then(|()| self.disk().remove_if_there(&going.join("state")))
            .and_then(|()| self.disk().sync_dir(&going))
            .and_then(|()| self.disk().remove_dir_all(&going))
            .map_err(Error::io("removing a dataset"))
    }

    /// Moves the files of a dataset that cannot be opened out of the way, as they are, so that it
    /// can be made anew; gives the folder where they are kept. For somebody to look at: they may
    /// hold what is nowhere else.
    ///
    /// # Errors
    /// `Exists` if it can be opened.
    pub fn set_damaged_aside(&self, id: &DatasetId) -> Result<PathBuf, Error> {
        let layout = self.layout(id);
        let slot = self.slot(id);
        let open = slot.open.lock();
        if open.is_some() || self.open_now(id, layout.clone()).is_ok() {
            return Err(Error::Exists(id.clone()));
        }
        let disk = self.disk();
        let name = layout.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = (1..=u32::MAX)
            .map(|number| self.inner.config.dir.join(format!("{DAMAGED}{name}-{number}")))
            .find(|place| !disk.exists(place))
            .ok_or_else(|| Error::corrupt("a dataset", "it was set aside too often"))?;
        disk.rename(&layout.dir, &place)
            .and_then(|()| sync_parent(disk, &place))
            .map_err(Error::io("setting a damaged dataset aside"))?;
        Ok(place)
    }

    /// Closes a dataset; `false` if readers are out. The next `get` opens it again; handles from
    /// before answer `Closed`.
    pub fn close(&self, id: &DatasetId) -> bool {
        let slot = self.slot(id);
        let mut open = slot.open.lock();
        let Some(dataset) = open.as_ref() else { return true };
        if !dataset.shared.close() {
            return false;
        }
        *open = None;
        true
    }

    /// Closes all datasets in good order. Those with readers out are left to be recovered.
    pub fn close_all(&self) {
        let ids: Vec<_> = self.inner.slots.lock().by_id.keys().cloned().collect();
        for id in ids {
            self.close(&id);
        }
    }

    pub(crate) fn replace(
        &self,
        id: &DatasetId,
        swap: impl FnOnce(&Layout) -> Result<(), Error>,
    ) -> Result<Arc<Dataset>, Error> {
        let slot = self.slot(id);
        let mut open = slot.open.lock();
        if let Some(dataset) = open.as_ref() {
            if !dataset.shared.close() {
                return Err(Error::Overloaded {
                    what: "readers of a dataset to replace",
                    limit: 0,
                });
            }
            *open = None;
        }
        let layout = self.layout(id);
        swap(&layout)?;
        let dataset = self.open_now(id, layout)?;
        *open = Some(dataset.clone());
        Ok(dataset)
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.inner.config.disk
    }

    pub(crate) fn layout(&self, id: &DatasetId) -> Layout {
        Layout::new(&self.inner.config.dir, id)
    }

    fn slot(&self, id: &DatasetId) -> Arc<Slot> {
        let mut slots = self.inner.slots.lock();
        slots.clock += 1;
        let now = slots.clock;
        let slot = match slots.by_id.get(id) {
            Some(slot) => slot.clone(),
            None => slots.by_id.entry(id.clone()).or_default().clone(),
        };
        slot.used.store(now, std::sync::atomic::Ordering::Relaxed);
        slot
    }

    /// Drops the place of a dataset that is not there, so that asking for names costs no memory.
    fn forget(&self, id: &DatasetId) {
        let mut slots = self.inner.slots.lock();
        if slots.by_id.get(id).is_some_and(|slot| Arc::strong_count(slot) <= 2) {
            slots.by_id.remove(id);
        }
    }

    /// Closes the least recently used datasets that nobody uses, down to `max_open`.
    fn close_cold(&self) {
        let max = self.inner.config.max_open;
        let mut candidates: Vec<(u64, DatasetId, Arc<Slot>)> = {
            let slots = self.inner.slots.lock();
            if slots.by_id.len() <= max {
                return;
            }
            let used = |slot: &Slot| slot.used.load(std::sync::atomic::Ordering::Relaxed);
            slots.by_id.iter().map(|(id, slot)| (used(slot), id.clone(), slot.clone())).collect()
        };
        candidates.sort_unstable_by_key(|(used, ..)| *used);
        let mut too_many = candidates.len() - max;
        for (_, id, slot) in candidates {
            if too_many == 0 {
                break;
            }
            // Held by whoever opens or closes it: not cold.
            let Some(mut open) = slot.open.try_lock() else { continue };
            let closed = match open.as_ref() {
                Some(dataset) => {
                    Arc::strong_count(dataset) == 1
                        && dataset.shared.queue.is_idle()
                        && dataset.shared.pool.out() == 0
                        && dataset.shared.position.receiver_count() == 0
                        && dataset.shared.close()
                }
                None => true,
            };
            if closed {
                *open = None;
                drop(open);
                too_many -= 1;
                let mut slots = self.inner.slots.lock();
                // The map's and ours; another count is somebody about to open it.
                if slots.by_id.get(&id).is_some_and(|slot| Arc::strong_count(slot) <= 2) {
                    slots.by_id.remove(&id);
                }
            }
        }
    }
}

/// A crash left a folder (or a branch's file) that was being made. With a state in it, it was whole:
/// it may already hold what was set aside in the dataset that it replaces, so it takes its place.
fn finish_or_remove(disk: &dyn Disk, left: Layout, place: Layout) -> Result<(), Error> {
    let io = |error| Error::io("clearing up what was not finished")(error);
    if State::load(disk, &left.state()).is_err() {
        return disk.remove_file(&left.dir).or_else(|_| disk.remove_dir_all(&left.dir)).map_err(io);
    }
    if disk.exists(&place.dir) {
        crate::quarantine::keep_old(disk, &place, &left)?;
    }
    disk.rename(&left.dir, &place.dir).and_then(|()| sync_parent(disk, &place.dir)).map_err(io)
}

/// Looks at deadlines until the store is gone.
fn keep(store: &Weak<Inner>) {
    loop {
        thread::sleep(KEEPER_TICK);
        let Some(inner) = store.upgrade() else { return };
        let slots: Vec<_> = inner.slots.lock().by_id.values().cloned().collect();
        drop(inner);
        for slot in slots {
            let dataset = slot.open.try_lock().and_then(|open| open.clone());
            if let Some(dataset) = dataset {
                dataset.shared.keep();
            }
        }
    }
}
