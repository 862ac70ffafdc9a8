//! What every test needs: a store in a folder of its own, ids, and short ways to write and read.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use verge_dataset::rusqlite::{self, Connection};
use verge_dataset::{
    Committed, CreateOptions, Dataset, Error, Header, Settings, Store, StoreConfig, WriteError,
};
use verge_types::{DatasetId, Position};

pub struct Node {
    pub store: Store,
    pub folder: TempDir,
}

pub fn settings() -> Settings {
    Settings { min_free_bytes: 0, ..Settings::default() }
}

impl Node {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { store: open(folder.path(), settings), folder }
    }

    /// As after `kill -9`: the files are taken as they are now, without closing anything.
    pub fn crashed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        Self { store: open(folder.path(), settings()), folder }
    }
}

pub fn open(dir: &Path, settings: Settings) -> Store {
    Store::open(StoreConfig { settings, ..StoreConfig::new(dir) }).unwrap()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

pub fn id(text: &str) -> DatasetId {
    text.parse().unwrap()
}

pub fn create(node: &Node, page_size: u32) -> Arc<Dataset> {
    node.store.create(&id("app/main"), CreateOptions { page_size }).unwrap()
}

pub fn replica(node: &Node, page_size: u32) -> Arc<Dataset> {
    node.store.create_replica(&id("app/main"), CreateOptions { page_size }).unwrap()
}

pub type Written<T> = Result<Committed<T>, WriteError<rusqlite::Error>>;

pub async fn try_sql(dataset: &Dataset, sql: &str) -> Written<()> {
    let sql = sql.to_owned();
    dataset.write(move |db: &Connection| db.execute_batch(&sql)).await
}

pub async fn sql(dataset: &Dataset, text: &str) -> Position {
    try_sql(dataset, text).await.unwrap().position
}

pub fn number(dataset: &Dataset, text: &str) -> i64 {
    let reader = dataset.reader().unwrap();
    reader.prepare_cached(text).unwrap().query_row([], |row| row.get(0)).unwrap()
}

pub fn text(dataset: &Dataset, sql: &str) -> String {
    let reader = dataset.reader().unwrap();
    reader.query_row(sql, [], |row| row.get(0)).unwrap()
}

pub fn dataset_error<T>(result: Result<T, WriteError<rusqlite::Error>>) -> Error {
    match result {
        Err(WriteError::Dataset(error)) => error,
        Err(WriteError::Job(error)) => panic!("a job's error: {error}"),
        Ok(_) => panic!("it was written"),
    }
}

/// Gives a replica everything its primary has.
pub async fn ship(primary: &Dataset, replica: &Dataset) {
    try_ship(primary, replica).await.unwrap();
    same(primary, replica);
}

/// The same, on a disk that may fail; large segments by their files.
pub async fn try_ship(primary: &Dataset, replica: &Dataset) -> Result<Position, Error> {
    let mut log = primary.subscribe(replica.position())?;
    let mut segments = Vec::new();
    while let Some((position, segment)) = log.try_next()? {
        if !Header::decode(&segment).unwrap().is_large() {
            segments.push(segment);
            continue;
        }
        replica.apply(std::mem::take(&mut segments)).await?;
        let mut receiving = replica.receive(&segment)?;
        let mut file = primary.large_file(position)?;
        while let Some(chunk) = file.next_chunk()? {
            receiving.push(&chunk)?;
        }
        replica.apply_large(receiving).await?;
    }
    replica.apply(segments).await
}

/// Same position, same checksum, same content, by whoever reads it.
pub fn same(one: &Dataset, other: &Dataset) {
    assert_eq!(one.checksum(), other.checksum());
    assert_eq!(one.size(), other.size());
    assert_eq!(pages(one), pages(other));
    assert_eq!(text(other, "PRAGMA integrity_check"), "ok");
}

/// Every page as readers see it, by its hash (page 1 without the node's own fields).
pub fn pages(dataset: &Dataset) -> Vec<u64> {
    let reader = dataset.reader().unwrap();
    let lock = i64::from(verge_dataset::lock_page(dataset.page_size()));
    let mut all = reader.prepare("SELECT pgno, data FROM sqlite_dbpage WHERE pgno <> ?1").unwrap();
    let rows = all.query_map([lock], |row| {
        let page = row.get_ref(1)?.as_blob()?;
        Ok(verge_dataset::page_hash(row.get(0)?, page))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// The rolling checksum agrees with what readers see.
pub fn checksum_holds(dataset: &Dataset) {
    let whole = pages(dataset).into_iter().fold(0, |all, page| all ^ page);
    assert_eq!(dataset.checksum().1, whole, "at {}", dataset.position());
}
