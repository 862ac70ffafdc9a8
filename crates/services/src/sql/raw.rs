//! A thin, safe hold on SQLite's prepared statements. With `attach`, the only `unsafe` here.
//!
//! Always holds: a [`Statement`] is finalized before its connection closes. Statements in the
//! cache are, by `attach`'s close hook; those in use borrow or own what keeps the connection.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use rusqlite::{Connection, ffi};

use super::error::{ErrorKind, SqlError, from_sqlite};
use super::value::ValueRef;

/// The connection's handle, for calls within this module and `attach`.
pub(crate) fn handle(conn: &Connection) -> *mut ffi::sqlite3 {
    // SAFETY: the pointer is used only while `conn` is borrowed, and never closed.
    unsafe { conn.handle() }
}

/// The error of the last call on the connection.
pub(crate) fn last_error(conn: &Connection) -> SqlError {
    let db = handle(conn);
    // SAFETY: `db` is open; the message is copied before any other call on it.
    let (code, text, offset) = unsafe {
        let text = CStr::from_ptr(ffi::sqlite3_errmsg(db)).to_string_lossy().into_owned();
        (ffi::sqlite3_extended_errcode(db), text, ffi::sqlite3_error_offset(db))
    };
    error_of(code, &text, offset)
}

/// What an app reads for a code and SQLite's text.
pub(crate) fn error_of(code: c_int, text: &str, offset: c_int) -> SqlError {
    let kind = match code & 0xff {
        ffi::SQLITE_AUTH => ErrorKind::Refused,
        ffi::SQLITE_INTERRUPT => {
            let message = "D1 DB exceeded its CPU time limit and was reset.".to_owned();
            return SqlError { kind: ErrorKind::CpuLimit, code, message };
        }
        _ => ErrorKind::Sqlite,
    };
    SqlError { kind, code, message: from_sqlite(text, code, offset) }
}

/// One compiled statement.
pub(crate) struct Statement(NonNull<ffi::sqlite3_stmt>);

// SAFETY: SQLite is built thread-safe (rusqlite checks it at open), and a statement is used by
// one thread at a time, since every use needs the connection or `&mut` to its holder.
unsafe impl Send for Statement {}

impl Drop for Statement {
    fn drop(&mut self) {
        // SAFETY: the pointer came from prepare and is finalized once, here.
        unsafe { ffi::sqlite3_finalize(self.0.as_ptr()) };
    }
}

impl Statement {
    /// Compiles the first statement of `sql`; also how many bytes it took. `None` if there is
    /// nothing but comments.
    pub(crate) fn prepare(
        conn: &Connection,
        sql: &str,
        keep: bool,
    ) -> Result<Option<(Self, usize)>, SqlError> {
        let length = c_int::try_from(sql.len())
            .map_err(|_| error_of(ffi::SQLITE_TOOBIG, "statement too long", -1))?;
        let flags = if keep { ffi::SQLITE_PREPARE_PERSISTENT as u32 } else { 0 };
        let (mut statement, mut tail) = (std::ptr::null_mut(), std::ptr::null());
        // SAFETY: the text has `length` bytes; the out-pointers live through the call.
        let code = unsafe {
            ffi::sqlite3_prepare_v3(
                handle(conn),
                sql.as_ptr().cast(),
                length,
                flags,
                &raw mut statement,
                &raw mut tail,
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(last_error(conn));
        }
        let used = (tail as usize).saturating_sub(sql.as_ptr() as usize).min(sql.len());
        Ok(NonNull::new(statement).map(|pointer| (Self(pointer), used)))
    }

    fn pointer(&self) -> *mut ffi::sqlite3_stmt {
        self.0.as_ptr()
    }

    pub(crate) fn readonly(&self) -> bool {
        // SAFETY: a valid statement, as below.
        unsafe { ffi::sqlite3_stmt_readonly(self.pointer()) != 0 }
    }

    pub(crate) fn parameters(&self) -> usize {
        // SAFETY: a valid statement.
        unsafe { ffi::sqlite3_bind_parameter_count(self.pointer()) as usize }
    }

    /// The name of parameter `index` (from 1), with its `:`, `@`, `$` or `?`.
    pub(crate) fn parameter_name(&self, index: usize) -> Option<String> {
        // SAFETY: a valid statement; the name is copied at once.
        unsafe {
            let name = ffi::sqlite3_bind_parameter_name(self.pointer(), index as c_int);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }

    pub(crate) fn column_count(&self) -> usize {
        // SAFETY: a valid statement.
        unsafe { ffi::sqlite3_column_count(self.pointer()) as usize }
    }

    pub(crate) fn column_name(&self, index: usize) -> String {
        // SAFETY: a valid statement; the name is copied at once; null only without memory.
        unsafe {
            let name = ffi::sqlite3_column_name(self.pointer(), index as c_int);
            if name.is_null() {
                return String::new();
            }
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }

    /// The declared type of a column that comes from a table.
    pub(crate) fn column_type(&self, index: usize) -> Option<String> {
        // SAFETY: a valid statement; the text is copied at once.
        unsafe {
            let name = ffi::sqlite3_column_decltype(self.pointer(), index as c_int);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }

    /// Binds a value; its bytes are copied, so that nothing dangles.
    pub(crate) fn bind(&mut self, index: usize, value: ValueRef<'_>) -> c_int {
        let (pointer, index) = (self.pointer(), index as c_int);
        let copy = ffi::SQLITE_TRANSIENT();
        // SAFETY: a valid statement; lengths are those of the slices; SQLite copies the bytes.
        unsafe {
            match value {
                ValueRef::Null => ffi::sqlite3_bind_null(pointer, index),
                ValueRef::Integer(value) => ffi::sqlite3_bind_int64(pointer, index, value),
                ValueRef::Real(value) => ffi::sqlite3_bind_double(pointer, index, value),
                ValueRef::Text(text) => ffi::sqlite3_bind_text64(
                    pointer,
                    index,
                    text.as_ptr().cast(),
                    text.len() as u64,
                    copy,
                    ffi::SQLITE_UTF8 as u8,
                ),
                ValueRef::Blob([]) => ffi::sqlite3_bind_zeroblob(pointer, index, 0),
                ValueRef::Blob(bytes) => ffi::sqlite3_bind_blob64(
                    pointer,
                    index,
                    bytes.as_ptr().cast(),
                    bytes.len() as u64,
                    copy,
                ),
            }
        }
    }

    /// One step: `SQLITE_ROW`, `SQLITE_DONE`, or an error's code.
    pub(crate) fn step(&mut self) -> c_int {
        // SAFETY: a valid statement.
        unsafe { ffi::sqlite3_step(self.pointer()) }
    }

    /// Ends the run and forgets the parameters.
    pub(crate) fn reset(&mut self) {
        // SAFETY: a valid statement; the code repeats the last step's error.
        unsafe {
            ffi::sqlite3_reset(self.pointer());
            ffi::sqlite3_clear_bindings(self.pointer());
        }
    }

    /// A counter, set to zero by reading it.
    pub(crate) fn take_status(&mut self, counter: c_int) -> u64 {
        // SAFETY: a valid statement; unknown counters give 0.
        unsafe { ffi::sqlite3_stmt_status(self.pointer(), counter, 1).max(0) as u64 }
    }

    /// The value at `index` of the current row, in SQLite's memory until the next step. Text
    /// that is not UTF-8 comes as bytes with `Err`.
    pub(crate) fn value(&self, index: usize) -> Result<ValueRef<'_>, &[u8]> {
        let (pointer, index) = (self.pointer(), index as c_int);
        // SAFETY: a valid statement on a row; pointers and lengths are SQLite's, valid until the
        // next step, which needs `&mut self`.
        unsafe {
            Ok(match ffi::sqlite3_column_type(pointer, index) {
                ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_column_int64(pointer, index)),
                ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_column_double(pointer, index)),
                ffi::SQLITE_TEXT => {
                    let text = ffi::sqlite3_column_text(pointer, index);
                    let length = ffi::sqlite3_column_bytes(pointer, index) as usize;
                    let bytes = slice(text, length);
                    match std::str::from_utf8(bytes) {
                        Ok(text) => ValueRef::Text(text),
                        Err(_) => return Err(bytes),
                    }
                }
                ffi::SQLITE_BLOB => {
                    let blob = ffi::sqlite3_column_blob(pointer, index);
                    let length = ffi::sqlite3_column_bytes(pointer, index) as usize;
                    ValueRef::Blob(slice(blob.cast(), length))
                }
                _ => ValueRef::Null,
            })
        }
    }
}

/// # Safety
/// `start` is null or points at `length` bytes that live for `'a`.
unsafe fn slice<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(start, length) }
}

/// Rows changed on this connection since it was opened.
pub(crate) fn total_changes(conn: &Connection) -> u64 {
    // SAFETY: an open connection.
    unsafe { ffi::sqlite3_total_changes64(handle(conn)).max(0) as u64 }
}

/// Rows changed by the last statement itself, without its triggers.
pub(crate) fn changes(conn: &Connection) -> u64 {
    // SAFETY: an open connection.
    unsafe { ffi::sqlite3_changes64(handle(conn)).max(0) as u64 }
}

/// True outside of a transaction.
pub(crate) fn is_autocommit(conn: &Connection) -> bool {
    // SAFETY: an open connection.
    unsafe { ffi::sqlite3_get_autocommit(handle(conn)) != 0 }
}

/// A number that moves when this connection sees another content of the database.
pub(crate) fn data_version(conn: &Connection) -> u32 {
    let mut version: u32 = 0;
    // SAFETY: an open connection; the file control writes one unsigned integer.
    unsafe {
        ffi::sqlite3_file_control(
            handle(conn),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_DATA_VERSION,
            (&raw mut version).cast(),
        );
    }
    version
}

/// Runs one statement of the platform's own to its first row or end; the number it gives, or 0.
pub(crate) fn simple(conn: &Connection, sql: &str) -> Result<i64, SqlError> {
    let Some((mut statement, _)) = Statement::prepare(conn, sql, false)? else { return Ok(0) };
    match statement.step() {
        ffi::SQLITE_DONE => Ok(0),
        ffi::SQLITE_ROW => Ok(match statement.value(0) {
            Ok(ValueRef::Integer(number)) => number,
            _ => 0,
        }),
        _ => Err(last_error(conn)),
    }
}

/// The database's bytes, as SQLite would write them to a file; `None` without memory.
pub(crate) fn serialize(conn: &Connection) -> Option<Vec<u8>> {
    let mut size: ffi::sqlite3_int64 = 0;
    // SAFETY: an open connection; the buffer is SQLite's, copied and then freed.
    unsafe {
        let bytes = ffi::sqlite3_serialize(handle(conn), c"main".as_ptr(), &raw mut size, 0);
        if bytes.is_null() {
            return None;
        }
        let copy = slice(bytes, size.max(0) as usize).to_vec();
        ffi::sqlite3_free(bytes.cast());
        Some(copy)
    }
}
