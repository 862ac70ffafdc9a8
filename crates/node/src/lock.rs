//! Who uses a node's folder: a locked file that says which process and where it can be asked.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

const NAME: &str = "node.lock";
/// How often a folder is tried that somebody may only be looking at, and how long after another.
const LOOKS: usize = 10;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The process that uses a node's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    /// Its control socket, if it serves one.
    pub control: Option<PathBuf>,
}

/// Held while a process uses a node's folder. Its end, also by a crash, frees it.
#[derive(Debug)]
pub struct NodeLock {
    file: File,
}

impl NodeLock {
    /// Takes the folder.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process, or another node of this one, has it.
    pub fn take(data: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(data).map_err(Error::io("making the node's folder"))?;
        let io = "locking the node's folder";
        let file = open(data).map_err(Error::io(io))?;
        let mut looks = LOOKS;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Somebody who only looks is gone in a moment.
                Err(TryLockError::WouldBlock) if looks > 0 => {
                    looks -= 1;
                    std::thread::sleep(LOOK_EVERY);
                }
                Err(TryLockError::WouldBlock) => {
                    let pid = read(&file).map_or(0, |owner| owner.pid);
                    return Err(Error::InUse { dir: data.to_owned(), pid });
                }
                Err(TryLockError::Error(error)) => return Err(Error::io(io)(error)),
            }
        }
        let lock = Self { file };
        lock.announce(None)?;
        Ok(lock)
    }

    /// Writes down where this process can be asked.
    pub(crate) fn announce(&self, control: Option<PathBuf>) -> Result<(), Error> {
        let owner = Owner { pid: std::process::id(), control };
        let text = serde_json::to_vec(&owner).unwrap_or_default();
        let mut file = &self.file;
        file.set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(&text))
            .map_err(Error::io("writing the node's lock"))
    }

    /// Who uses a folder; `None` if nobody does.
    pub fn owner(data: &Path) -> Result<Option<Owner>, Error> {
        let path = data.join(NAME);
        if !path.exists() {
            return Ok(None);
        }
        let file = open(data).map_err(Error::io("looking at the node's lock"))?;
        // Shared, so that two who look do not take each other for the owner.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(_) => Ok(Some(read(&file).unwrap_or(Owner { pid: 0, control: None }))),
        }
    }
}

fn open(data: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(data.join(NAME))
}

fn read(mut file: &File) -> Option<Owner> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_at_a_time_and_it_can_be_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(NodeLock::owner(folder.path()).unwrap(), None);
        let lock = NodeLock::take(folder.path()).unwrap();
        let control = Some(folder.path().join("control.sock"));
        lock.announce(control.clone()).unwrap();
        let owner = NodeLock::owner(folder.path()).unwrap().unwrap();
        assert_eq!(owner, Owner { pid: std::process::id(), control });
        assert!(matches!(NodeLock::take(folder.path()), Err(Error::InUse { .. })));
        drop(lock);
        assert_eq!(NodeLock::owner(folder.path()).unwrap(), None);
        NodeLock::take(folder.path()).unwrap();
    }

    #[test]
    fn who_looks_is_no_owner_and_keeps_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        drop(NodeLock::take(folder.path()).unwrap());
        let looking = open(folder.path()).unwrap();
        looking.try_lock_shared().unwrap();
        assert_eq!(NodeLock::owner(folder.path()).unwrap(), None);
        let gone = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            drop(looking);
        });
        NodeLock::take(folder.path()).unwrap();
        gone.join().unwrap();
    }
}
