//! A database of more than 2 GiB, beyond the lock page at 1 GiB, at page sizes 4 KiB and 64 KiB:
//! filled, shipped to a replica segment by segment and by snapshot, vacuumed, restored, branched.
//! After each step checksums are compared, and once every page is read.
//!
//! `cargo run --release -p verge-dataset --example big [folder] [MiB] [page size…]`; needs about
//! ten times the size on the disk. Prints times and the process's highest memory (VmHWM).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use verge_dataset::rusqlite::Connection;
use verge_dataset::{
    CreateOptions, Dataset, Error, Header, Settings, Store, StoreConfig, Target, lock_page,
};
use verge_types::{DatasetId, Position};

type AnyError = Box<dyn std::error::Error>;

/// Bytes that one transaction of the filling writes.
const STEP: u64 = 16 << 20;
/// A row's blob, bytes.
const ROW: u64 = 20_000;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let mib: u64 = arguments.next().map_or(Ok(2200), |text| text.parse())?;
    let mut sizes = arguments.map(|text| text.parse()).collect::<Result<Vec<u32>, _>>()?;
    if sizes.is_empty() {
        sizes = vec![4096, 65_536];
    }
    for page_size in sizes {
        println!("pages of {page_size} bytes, {mib} MiB");
        let folder = tempfile::tempdir_in(&folder)?;
        run(folder.path(), mib << 20, page_size).await?;
    }
    Ok(())
}

struct Clock(Instant);

impl Clock {
    fn tell(&mut self, what: &str) -> Result<(), AnyError> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
            kib.unwrap_or(0_u64) / 1024
        };
        let (now, high) = (field("VmRSS:"), field("VmHWM:"));
        println!(
            "  {what:<44} {:>7.1} s  {now:>5} MiB now, {high:>5} at most",
            self.0.elapsed().as_secs_f64()
        );
        // So that the next step's highest is its own; not everywhere allowed.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        self.0 = Instant::now();
        Ok(())
    }
}

async fn run(folder: &Path, bytes: u64, page_size: u32) -> Result<(), AnyError> {
    let mut clock = Clock(Instant::now());
    let id: DatasetId = "big/main".parse()?;
    let open = |name: &str| {
        let settings = Settings { max_log_bytes: 4 << 30, ..Settings::default() };
        Store::open(StoreConfig { settings, ..StoreConfig::new(folder.join(name)) })
    };
    let (here, there) = (open("here")?, open("there")?);
    let options = CreateOptions { page_size };
    let primary = here.create(&id, options)?;
    let replica = there.create_replica(&id, options)?;
    write(&primary, "CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)").await?;
    let many = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ";
    while primary.size() < bytes {
        let rows = STEP / ROW;
        let text = format!("{many} {rows}) INSERT INTO t (x) SELECT randomblob({ROW}) FROM n");
        write(&primary, &text).await?;
        ship(&primary, &replica).await?;
    }
    let beyond = primary.size() > u64::from(lock_page(page_size)) * u64::from(page_size);
    assert!(beyond, "it is to lie beyond the lock page");
    same(&primary, &replica);
    clock.tell("filled, each transaction shipped")?;
    replica.verify().await?;
    clock.tell("every page of the replica read")?;

    let full = primary.position();
    let full_checksum = primary.checksum().1;
    let third = open("third")?;
    let seeded = seed(&primary, &third, &id).await?;
    same(&primary, &seeded);
    seeded.verify().await?;
    clock.tell("a snapshot taken, installed and read")?;
    drop(seeded);
    third.close(&id);
    third.delete(&id)?;

    write(&primary, "DELETE FROM t WHERE id % 8 = 0").await?;
    ship(&primary, &replica).await?;
    clock.tell("an eighth deleted, shipped")?;
    let before = primary.size();
    primary.vacuum().await?;
    assert!(primary.size() < before);
    clock.tell("VACUUM")?;
    ship(&primary, &replica).await?;
    same(&primary, &replica);
    clock.tell("its segment applied at the replica")?;
    replica.verify().await?;
    clock.tell("every page of the replica read")?;

    primary.checkpoint().await?;
    clock.tell("checkpoint")?;
    here.restore(&id, Target::Position(full)).await?;
    assert_eq!(primary.checksum().1, full_checksum, "restored to another state");
    clock.tell("restored to before the deletion")?;
    ship(&primary, &replica).await?;
    same(&primary, &replica);
    clock.tell("that shipped")?;

    let to: DatasetId = "big/branch".parse()?;
    let branch = here.branch(&id, &to, None).await?;
    assert_eq!(branch.checksum().1, full_checksum, "the branch is another state");
    branch.verify().await?;
    write(&branch, "INSERT INTO t (x) VALUES ('only here')").await?;
    clock.tell("branched, read, written to")?;

    drop((primary, replica, branch));
    here.close_all();
    there.close_all();
    let (here, there) = (open("here")?, open("there")?);
    same(&*here.get(&id)?, &*there.get(&id)?);
    clock.tell("both opened again")
}

async fn write(dataset: &Dataset, text: &str) -> Result<Position, AnyError> {
    let text = text.to_owned();
    let written = dataset.write(move |db: &Connection| db.execute_batch(&text)).await?;
    Ok(written.position)
}

/// Gives the replica what it lacks; large transactions chunk by chunk.
async fn ship(primary: &Dataset, replica: &Dataset) -> Result<(), Error> {
    let mut log = primary.subscribe(replica.position())?;
    while let Some((position, segment)) = log.try_next()? {
        if !Header::decode(&segment).is_ok_and(|header| header.is_large()) {
            replica.apply(vec![segment]).await?;
            continue;
        }
        let mut receiving = replica.receive(&segment)?;
        let mut file = primary.large_file(position)?;
        while let Some(chunk) = file.next_chunk()? {
            receiving.push(&chunk)?;
        }
        replica.apply_large(receiving).await?;
    }
    Ok(())
}

async fn seed(primary: &Dataset, store: &Store, id: &DatasetId) -> Result<Arc<Dataset>, AnyError> {
    let mut snapshot = primary.snapshot().await?;
    let mut seeding = store.seed(id)?;
    while let Some(chunk) = snapshot.next_chunk()? {
        seeding.push(&chunk)?;
    }
    Ok(seeding.finish()?)
}

fn same(one: &Dataset, other: &Dataset) {
    assert_eq!((one.checksum(), one.size()), (other.checksum(), other.size()));
}
