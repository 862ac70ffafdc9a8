//! A statement that is read row by row, in bounded memory.

use std::ops::Deref;
use std::sync::Arc;

use rusqlite::{Connection, ffi};

use super::attach::{Attached, Stop};
use super::error::{ErrorKind, SqlError};
use super::policy::Policy;
use super::prepared::{Columns, Prepared};
use super::raw;
use super::run::{Stats, bind, finish, hand_row, settle};
use super::sink::RowSink;
use super::value::Params;

/// An open statement. Holds its connection (a borrow, or a dataset's reader), and so a read
/// transaction: a cursor that is kept for long keeps old pages alive, and needs a deadline.
pub struct Cursor<C: Deref<Target = Connection>> {
    // Before `conn`, and taken out in `drop`: the statement ends before its connection does.
    prepared: Option<Box<Prepared>>,
    conn: C,
    policy: Policy,
    changes_before: u64,
    done: bool,
    started: bool,
}

impl<C: Deref<Target = Connection>> Cursor<C> {
    /// Compiles and binds; nothing runs yet. Refuses what a reader may not run.
    pub fn open(
        conn: C,
        policy: Policy,
        sql: &str,
        params: &(impl Params + ?Sized),
    ) -> Result<Self, SqlError> {
        let own = Attached::of(&conn);
        let scope = own.enter(&conn, &policy, None);
        let mut prepared = Prepared::get(&conn, own, &scope, sql)?;
        if !prepared.readonly {
            own.put(prepared);
            return Err(SqlError::new(ErrorKind::Refused, "iterate() takes statements that read"));
        }
        if let Err(error) = bind(&mut prepared, params) {
            own.put(prepared);
            return Err(error);
        }
        let changes_before = raw::total_changes(&conn);
        drop(scope);
        Ok(Self {
            prepared: Some(prepared),
            conn,
            policy,
            changes_before,
            done: false,
            started: false,
        })
    }

    /// The result's columns; final after the first [`Cursor::next`].
    pub fn columns(&self) -> Option<&Arc<Columns>> {
        self.prepared.as_ref().map(|prepared| &prepared.columns)
    }

    /// Hands up to `rows` rows, or about `bytes` bytes, to the sink; false at the end. The sink
    /// hears of the columns once.
    pub fn next(
        &mut self,
        rows: usize,
        bytes: u64,
        stop: Option<&Stop<'_>>,
        sink: &mut (impl RowSink + ?Sized),
    ) -> Result<bool, SqlError> {
        let Some(prepared) = self.prepared.as_mut().filter(|_| !self.done) else {
            return Ok(false);
        };
        let own = Attached::of(&self.conn);
        let _scope = own.enter(&self.conn, &self.policy, stop);
        let (mut handed, mut taken) = (0, 0);
        while handed < rows && taken < bytes {
            let code = prepared.statement.step();
            if !self.started {
                self.started = true;
                if prepared.statement.take_status(ffi::SQLITE_STMTSTATUS_REPREPARE) > 0 {
                    prepared.refresh();
                }
                if code == ffi::SQLITE_ROW || code == ffi::SQLITE_DONE {
                    sink.columns(&prepared.columns);
                }
            }
            match code {
                ffi::SQLITE_ROW => {
                    handed += 1;
                    taken += hand_row(prepared, sink);
                    if sink.end_row().is_break() {
                        break;
                    }
                }
                ffi::SQLITE_DONE => {
                    self.done = true;
                    return Ok(false);
                }
                _ => {
                    self.done = true;
                    return Err(raw::last_error(&self.conn));
                }
            }
        }
        Ok(true)
    }

    /// Ends it and tells what it read.
    pub fn finish(mut self) -> Stats {
        match self.prepared.as_mut() {
            Some(prepared) => {
                finish(&self.conn, Attached::of(&self.conn), prepared, self.changes_before)
            }
            None => Stats::default(),
        }
    }
}

impl<C: Deref<Target = Connection>> Drop for Cursor<C> {
    fn drop(&mut self) {
        if let Some(mut prepared) = self.prepared.take() {
            prepared.statement.reset();
            let own = Attached::of(&self.conn);
            if prepared.notes.switch {
                own.dirty.set(true);
            }
            own.put(prepared);
            if raw::is_autocommit(&self.conn) {
                settle(&self.conn);
            }
        }
    }
}
