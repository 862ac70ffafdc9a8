//! Everything the engine does with files itself: log, sidecars, and the reads and writes of the
//! database file that happen outside SQLite (capture, recovery, snapshots).
//!
//! A simulation hooks in here: hand your own [`Disk`] to `StoreConfig::disk`, and your own SQLite
//! VFS by name to `StoreConfig::vfs` so that SQLite's files live on the same simulated disk. What
//! counts as durable: bytes after `sync_data` of the file; names after `sync_dir` of the folder.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// One open file. All methods take `&self`: log readers share it with the writer.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 is the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length, in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Makes the bytes and the length durable.
    fn sync_data(&self) -> io::Result<()>;
}

impl dyn DiskFile + '_ {
    /// Fills the buffer or fails with `UnexpectedEof`.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A file system, real or simulated.
pub trait Disk: Send + Sync + 'static {
    /// Opens for reading and writing; makes the file if `create` and it is missing.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn exists(&self, path: &Path) -> bool;
    /// Makes names in the folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes an ordinary user can still write in this folder.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Copies a file, sharing its blocks where the file system can. Not synced.
    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// A whole small file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, false)?;
        let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Removes a file that may not be there.
    fn remove_if_there(&self, path: &Path) -> io::Result<()> {
        match self.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create(create).open(path)?;
        Ok(Arc::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        use std::os::unix::ffi::OsStrExt;
        let path = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
        let mut facts = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path is NUL-terminated and the buffer is one `statvfs`.
        if unsafe { libc::statvfs(path.as_ptr(), facts.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a successful call has filled it.
        let facts = unsafe { facts.assume_init() };
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        // `fs::copy` asks the kernel for `copy_file_range`, which shares blocks where it can.
        fs::copy(from, to).map(drop)
    }
}
