//! How connections are opened, so that nothing but the writer thread ever checkpoints.

use std::ffi::c_int;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};

use crate::error::Error;

/// Before it, a checkpoint beside a commit could skip committed pages.
const OLDEST: c_int = 3_051_003;
/// A `-wal` that grew longer is cut to this when SQLite begins it anew, bytes.
const WAL_KEPT: i64 = 16 << 20;
/// A reader waits this long for a moment's lock (the `-wal` being begun anew). The writer never
/// waits: nobody else writes.
const BUSY: Duration = Duration::from_secs(2);

/// Refuses to run on an SQLite that loses data or lacks what replicas need.
pub(crate) fn check_library() -> Result<(), Error> {
    let version = rusqlite::version_number();
    if version < OLDEST {
        return Err(Error::corrupt("the SQLite library", format!("version {version} is too old")));
    }
    // SAFETY: the argument is a NUL-terminated literal.
    let dbpage = unsafe { ffi::sqlite3_compileoption_used(c"ENABLE_DBPAGE_VTAB".as_ptr()) };
    if dbpage == 0 {
        let why = "it lacks SQLITE_ENABLE_DBPAGE_VTAB (see .cargo/config.toml)";
        return Err(Error::corrupt("the SQLite library", why));
    }
    Ok(())
}

/// The one connection that writes. The file must be there.
pub(crate) fn open_writer(path: &Path, vfs: Option<&str>, kib: u32) -> Result<Connection, Error> {
    let db = open(path, vfs, OpenFlags::SQLITE_OPEN_READ_WRITE, kib)?;
    db.busy_timeout(Duration::ZERO)?;
    // A commit does not sync: the log does. A lost -wal is made again from the log.
    db.pragma_update(None, "synchronous", "OFF")?;
    db.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
    // Reads page 1, so that the -wal's index is there before any reader comes.
    let mode: String = db.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    if mode != "wal" {
        return Err(Error::corrupt("the database", format!("its journal mode is {mode}")));
    }
    Ok(db)
}

/// A connection that only reads.
pub(crate) fn open_reader(path: &Path, vfs: Option<&str>, kib: u32) -> Result<Connection, Error> {
    let db = open(path, vfs, OpenFlags::SQLITE_OPEN_READ_ONLY, kib)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "query_only", true)?;
    Ok(db)
}

fn open(path: &Path, vfs: Option<&str>, flags: OpenFlags, kib: u32) -> Result<Connection, Error> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs)?,
        None => Connection::open_with_flags(path, flags)?,
    };
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.set_prepared_statement_cache_capacity(64);
    db.execute_batch(&format!("PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-{kib}"))?;
    persist_wal(&db)?;
    Ok(db)
}

/// The `-wal` stays when the last connection closes.
fn persist_wal(db: &Connection) -> Result<(), Error> {
    let mut on: c_int = 1;
    // SAFETY: the handle lives as long as `db`; the operation reads and writes one int.
    let result = unsafe {
        ffi::sqlite3_file_control(
            db.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            (&raw mut on).cast(),
        )
    };
    if result == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(result), None).into())
    }
}
