//! What this crate keeps on a connection: the policy that holds on it, the authorizer, and the
//! cache of prepared statements. Made at first use; freed when the connection closes.
//!
//! Always holds: tenants' rules are in force only inside a [`Scope`]; the platform's own SQL on
//! the same connection is not asked. Never: a cached statement outlives its connection. SQLite's
//! close hook (`SQLITE_TRACE_CLOSE`) finalizes them first, so nobody else may take that hook.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rusqlite::{Connection, ffi};
use rustc_hash::FxHashMap;

use super::policy::Policy;
use super::prepared::Prepared;
use super::raw::handle;
use super::rules::{self, Answer, Question};

/// Prepared statements kept a connection.
const CACHED_STATEMENTS: usize = 128;
/// Virtual machine instructions between two looks at whether to stop.
const STOP_INTERVAL: c_int = 2_000;
const NAME: &CStr = c"verge-sql";

/// Asked now and then while a statement runs; true ends it.
pub type Stop<'a> = dyn Fn() -> bool + 'a;

/// What the authorizer saw while a statement was prepared.
#[derive(Clone, Copy, Default)]
pub(crate) struct Notes {
    pub transaction: bool,
    pub alter: bool,
    pub schema: bool,
    pub switch: bool,
}

#[derive(Default)]
pub(crate) struct Attached {
    pub(crate) notes: Cell<Notes>,
    /// The database's size in bytes at a data version.
    pub(crate) size: Cell<Option<(u32, u64)>>,
    /// A pragma of a tenant left something on the connection.
    pub(crate) dirty: Cell<bool>,
    tenant: Cell<bool>,
    policy: Cell<Option<Policy>>,
    writable: Cell<bool>,
    stop: Cell<Option<*const Stop<'static>>>,
    cache: RefCell<Cache>,
}

#[derive(Default)]
struct Cache {
    by_sql: FxHashMap<Box<str>, Box<Prepared>>,
    clock: u64,
}

impl Attached {
    /// The connection's own, made if this is the first use.
    pub(crate) fn of(conn: &Connection) -> &Self {
        let db = handle(conn);
        // SAFETY: the name is a C string; the pointer is ours, set below, and lives as long as
        // the connection does, which the borrow of `conn` outlasts.
        unsafe {
            let known = ffi::sqlite3_get_clientdata(db, NAME.as_ptr()).cast::<Self>();
            if let Some(known) = known.as_ref() {
                return known;
            }
            let writable = ffi::sqlite3_db_readonly(db, c"main".as_ptr()) == 0;
            let own =
                Box::into_raw(Box::new(Self { writable: Cell::new(writable), ..Self::default() }));
            ffi::sqlite3_set_clientdata(db, NAME.as_ptr(), own.cast(), Some(free));
            ffi::sqlite3_trace_v2(db, ffi::SQLITE_TRACE_CLOSE as c_uint, Some(close), own.cast());
            ffi::sqlite3_set_authorizer(db, Some(authorize), own.cast());
            defend(db);
            &*own
        }
    }

    /// Puts tenants' rules in force until the scope ends.
    pub(crate) fn enter<'c>(
        &'c self,
        conn: &'c Connection,
        policy: &Policy,
        stop: Option<&'c Stop<'c>>,
    ) -> Scope<'c> {
        if self.policy.get().as_ref() != Some(policy) {
            for (limit, value) in policy.sqlite_limits() {
                // SAFETY: an open connection; unknown limits are ignored.
                unsafe { ffi::sqlite3_limit(handle(conn), limit, value) };
            }
            self.policy.set(Some(*policy));
        }
        // Replication takes it down to write pages, and may have left it so.
        if self.writable.get() {
            defend(handle(conn));
        }
        let before = (self.tenant.replace(true), self.stop.get());
        if let Some(stop) = stop {
            // The lifetime is dropped here; `Scope` takes the pointer back before it ends.
            let pointer: *const Stop<'c> = stop;
            // SAFETY: only the lifetime changes.
            let pointer: *const Stop<'static> = unsafe { std::mem::transmute(pointer) };
            self.stop.set(Some(pointer));
            let own = std::ptr::from_ref(self).cast_mut().cast();
            // SAFETY: `self` outlives the connection's last statement.
            unsafe {
                ffi::sqlite3_progress_handler(handle(conn), STOP_INTERVAL, Some(progress), own);
            }
        }
        Scope { conn, own: self, before, stops: stop.is_some() }
    }

    /// Runs the platform's own SQL in the middle of a scope.
    pub(crate) fn suspended<T>(&self, work: impl FnOnce() -> T) -> T {
        let tenant = self.tenant.replace(false);
        let result = work();
        self.tenant.set(tenant);
        result
    }

    /// Takes a statement out of the cache.
    pub(crate) fn take(&self, sql: &str) -> Option<Box<Prepared>> {
        let (key, mut prepared) = self.cache.borrow_mut().by_sql.remove_entry(sql)?;
        prepared.key = key;
        Some(prepared)
    }

    /// Puts one in; the one not used for longest leaves.
    pub(crate) fn put(&self, mut prepared: Box<Prepared>) {
        let cache = &mut *self.cache.borrow_mut();
        cache.clock += 1;
        prepared.used = cache.clock;
        if cache.by_sql.len() >= CACHED_STATEMENTS {
            let oldest = cache.by_sql.iter().min_by_key(|(_, prepared)| prepared.used);
            if let Some(sql) = oldest.map(|(sql, _)| sql.clone()) {
                cache.by_sql.remove(&sql);
            }
        }
        let sql = std::mem::take(&mut prepared.key);
        cache.by_sql.insert(sql, prepared);
    }
}

/// Tenants' rules are in force while it lives.
pub(crate) struct Scope<'c> {
    conn: &'c Connection,
    own: &'c Attached,
    before: (bool, Option<*const Stop<'static>>),
    stops: bool,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let (tenant, stop) = self.before;
        self.own.tenant.set(tenant);
        self.own.stop.set(stop);
        if self.stops && stop.is_none() {
            // SAFETY: an open connection.
            unsafe {
                ffi::sqlite3_progress_handler(handle(self.conn), 0, None, std::ptr::null_mut());
            }
        }
    }
}

/// No writes to shadow tables, the schema, or raw pages by SQL. Setting it makes SQLite compile
/// every statement anew, so it is asked first.
fn defend(db: *mut ffi::sqlite3) {
    let mut on: c_int = 0;
    // SAFETY: an open connection; this option takes an int (negative asks) and an out-pointer.
    unsafe {
        ffi::sqlite3_db_config(db, ffi::SQLITE_DBCONFIG_DEFENSIVE, -1, &raw mut on);
        if on == 0 {
            let none = std::ptr::null_mut::<c_int>();
            ffi::sqlite3_db_config(db, ffi::SQLITE_DBCONFIG_DEFENSIVE, 1 as c_int, none);
        }
    }
}

unsafe extern "C" fn free(own: *mut c_void) {
    // SAFETY: SQLite calls this once, with the pointer that `of` made.
    drop(unsafe { Box::from_raw(own.cast::<Attached>()) });
}

unsafe extern "C" fn close(
    _event: c_uint,
    own: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) -> c_int {
    // SAFETY: the pointer that `of` made; the connection still lives.
    let own = unsafe { &*own.cast::<Attached>() };
    if let Ok(mut cache) = own.cache.try_borrow_mut() {
        cache.by_sql.clear();
    }
    0
}

unsafe extern "C" fn progress(own: *mut c_void) -> c_int {
    // SAFETY: the pointer that `of` made; the closure lives until its scope ends.
    let stop = unsafe { (*own.cast::<Attached>()).stop.get().map(|stop| &*stop) };
    let ends = stop.is_some_and(|stop| catch_unwind(AssertUnwindSafe(stop)).unwrap_or(true));
    c_int::from(ends)
}

unsafe extern "C" fn authorize(
    own: *mut c_void,
    action: c_int,
    first: *const c_char,
    second: *const c_char,
    schema: *const c_char,
    _trigger: *const c_char,
) -> c_int {
    // SAFETY: the pointer that `of` made.
    let own = unsafe { &*own.cast::<Attached>() };
    if !own.tenant.get() {
        return ffi::SQLITE_OK;
    }
    // SAFETY: null or C strings that live through the call.
    let (first, second, schema) = unsafe { (text(first), text(second), text(schema)) };
    let (Ok(first), Ok(second), Ok(schema)) = (first, second, schema) else {
        return ffi::SQLITE_DENY;
    };
    let mut notes = own.notes.get();
    let answer = match rules::decide(Question { action, first, second, schema }) {
        Answer::Allow => ffi::SQLITE_OK,
        Answer::AllowSchema => {
            notes.schema = true;
            ffi::SQLITE_OK
        }
        Answer::AllowAlter => {
            notes.schema = true;
            notes.alter = true;
            ffi::SQLITE_OK
        }
        Answer::AllowSwitch => {
            notes.switch = true;
            ffi::SQLITE_OK
        }
        Answer::Skip => ffi::SQLITE_IGNORE,
        Answer::Deny => ffi::SQLITE_DENY,
        Answer::DenyTransaction => {
            notes.transaction = true;
            ffi::SQLITE_DENY
        }
    };
    own.notes.set(notes);
    answer
}

/// # Safety
/// Null, or a C string that lives for `'a`.
unsafe fn text<'a>(text: *const c_char) -> Result<Option<&'a str>, std::str::Utf8Error> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_str().map(Some)
}
