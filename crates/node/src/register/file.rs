//! The register as files in a folder that all nodes of one machine share.
//!
//! A swap holds the dataset's lock file exclusively; a new record is written beside, synced,
//! moved over, and the folder synced. A renewal is written in place without a sync: after a loss
//! of power the older sequence may be there, of the same epoch and holder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use verge_replicate::lease::{Record, RegisterAnswer};
use verge_types::{BoxFuture, DatasetId};

use super::LeaseRegister;
use super::record::{decode, encode};
use crate::meta::{file_name, replace_file};

/// Leases as files; for one machine and `verge dev`.
#[derive(Clone, Debug)]
pub struct FileRegister {
    dir: PathBuf,
}

impl FileRegister {
    /// Makes the folder if need be.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn lock(&self, dataset: &DatasetId) -> io::Result<File> {
        let path = self.dir.join(format!("{}.lock", file_name(dataset)));
        OpenOptions::new().create(true).truncate(false).write(true).open(path)
    }

    fn path(&self, dataset: &DatasetId) -> PathBuf {
        self.dir.join(format!("{}.lease", file_name(dataset)))
    }

    fn load(&self, dataset: &DatasetId) -> io::Result<Option<Record>> {
        let mut bytes = Vec::new();
        match File::open(self.path(dataset)) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a lease's record is damaged");
        decode(&bytes).ok_or_else(damaged).map(Some)
    }

    fn read_now(&self, dataset: &DatasetId) -> io::Result<Option<Record>> {
        // Released when the file is closed, also by a crash.
        let lock = self.lock(dataset)?;
        lock.lock_shared()?;
        self.load(dataset)
    }

    fn swap_now(
        &self,
        dataset: &DatasetId,
        expected: Option<Record>,
        new: Record,
    ) -> io::Result<RegisterAnswer> {
        let lock = self.lock(dataset)?;
        lock.lock()?;
        let current = self.load(dataset)?;
        if current != expected {
            return Ok(RegisterAnswer::Conflict(current));
        }
        let bytes = encode(&new);
        let renewal = current.is_some_and(|old| Record { sequence: new.sequence, ..old } == new);
        if renewal {
            let mut file = OpenOptions::new().write(true).open(self.path(dataset))?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&bytes)?;
        } else {
            replace_file(&self.path(dataset), &bytes)?;
        }
        Ok(RegisterAnswer::Swapped)
    }
}

impl LeaseRegister for FileRegister {
    fn read(&self, dataset: &DatasetId) -> BoxFuture<RegisterAnswer> {
        let (register, dataset) = (self.clone(), dataset.clone());
        let read = move || register.read_now(&dataset).map(RegisterAnswer::Value);
        Box::pin(answer(read))
    }

    fn swap(
        &self,
        dataset: &DatasetId,
        expected: Option<Record>,
        new: Record,
    ) -> BoxFuture<RegisterAnswer> {
        let (register, dataset) = (self.clone(), dataset.clone());
        Box::pin(answer(move || register.swap_now(&dataset, expected, new)))
    }

    fn forget(&self, dataset: &DatasetId) -> BoxFuture<bool> {
        let (register, dataset) = (self.clone(), dataset.clone());
        Box::pin(async move {
            let forget = move || register.forget_now(&dataset);
            matches!(tokio::task::spawn_blocking(forget).await, Ok(Ok(())))
        })
    }
}

impl FileRegister {
    fn forget_now(&self, dataset: &DatasetId) -> io::Result<()> {
        let lock = self.lock(dataset)?;
        lock.lock()?;
        match fs::remove_file(self.path(dataset)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // So that a loss of power does not bring it back.
        File::open(&self.dir)?.sync_all()
    }
}

async fn answer(
    ask: impl FnOnce() -> io::Result<RegisterAnswer> + Send + 'static,
) -> RegisterAnswer {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the lease register did not answer");
            RegisterAnswer::Unknown
        }
        Err(_) => RegisterAnswer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use verge_replicate::NodeId;
    use verge_replicate::lease::Phase;

    fn record(epoch: u64, sequence: u64) -> Record {
        let holder = NodeId(1);
        let phase = Phase::Held;
        Record { epoch, holder, incarnation: 2, sequence, base: 0, ttl_ms: 5000, phase }
    }

    #[test]
    fn only_one_of_two_swaps_wins_and_the_loser_sees_why() {
        let folder = tempfile::tempdir().unwrap();
        let register = FileRegister::open(folder.path()).unwrap();
        let id = "app/main".parse().unwrap();
        assert_eq!(register.read_now(&id).unwrap(), None);
        let (first, second) = (record(1, 1), record(1, 2));
        assert_eq!(register.swap_now(&id, None, first).unwrap(), RegisterAnswer::Swapped);
        let conflict = RegisterAnswer::Conflict(Some(first));
        assert_eq!(register.swap_now(&id, None, second).unwrap(), conflict);
        assert_eq!(register.swap_now(&id, Some(first), second).unwrap(), RegisterAnswer::Swapped);
        assert_eq!(register.read_now(&id).unwrap(), Some(second));
        register.forget_now(&id).unwrap();
        register.forget_now(&id).unwrap();
        assert_eq!(register.read_now(&id).unwrap(), None);
    }

    #[test]
    fn of_many_at_once_exactly_one_wins_each_round() {
        let folder = tempfile::tempdir().unwrap();
        let register = FileRegister::open(folder.path()).unwrap();
        let id: DatasetId = "app/main".parse().unwrap();
        let mut current = None;
        for epoch in 1..20 {
            let wins: usize = std::thread::scope(|scope| {
                let swaps: Vec<_> = (0..4)
                    .map(|n| {
                        let (register, id) = (&register, &id);
                        let new = Record { holder: NodeId(n), ..record(epoch, n) };
                        scope.spawn(move || register.swap_now(id, current, new).unwrap())
                    })
                    .collect();
                let answers = swaps.into_iter().map(|swap| swap.join().unwrap());
                answers.filter(|answer| *answer == RegisterAnswer::Swapped).count()
            });
            assert_eq!(wins, 1);
            current = register.read_now(&id).unwrap();
        }
    }
}
