//! Small files that are either the old or the new, whatever happens in between.

use std::io;
use std::path::Path;

use crate::disk::Disk;

/// Replaces a file: a temporary beside it, synced, renamed over it, the folder synced.
pub(crate) fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let file = disk.open(&temporary, true)?;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, path)?;
    sync_parent(disk, path)
}

/// Makes the name of a file or folder durable.
pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
