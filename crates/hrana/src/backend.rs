//! What the protocol needs of a database.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{Access, DescribeResult, Done, Error, Rows, Statement};

/// A boxed future that borrows.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Opens connections to one database.
pub trait Backend: Send + Sync + 'static {
    /// The connection of one stream. With [`Access::ReadOnly`] every statement that writes
    /// must fail with [`crate::codes::READ_ONLY`].
    fn open(&self, access: Access) -> Answer<'static, Box<dyn Connection>>;
}

/// What ends a running statement soon; called from any thread, also when none runs.
pub type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// One stream's connection. Dropping it rolls back an open transaction.
///
/// Calls never overlap. A future is always awaited to its end, except when the whole node
/// stops; to end one early, the [`Interrupt`] is called first.
pub trait Connection: Send + 'static {
    /// Executes exactly one statement.
    ///
    /// Calls [`Rows::columns`] once and then [`Rows::row`] for each row, from a thread that may
    /// block: a cursor's reader may be slow. Ends with the error that those return, if any.
    fn execute(&mut self, statement: Statement, rows: Rows) -> Answer<'_, Done>;

    /// Executes statements up to the first error; their rows are nobody's.
    fn sequence(&mut self, sql: Arc<str>) -> Answer<'_, ()>;

    /// True where each statement of a write transaction is a message to another node, so that
    /// [`Self::together`] is worth its while.
    fn is_far(&self) -> bool {
        false
    }

    /// Executes statements, none of which is about transactions, as one transaction, outside of
    /// any: all of them, or none. `None` says that nothing was changed and that they are to be
    /// executed one by one: one gives rows, or is wrong, and it has to be told which.
    fn together(&mut self, statements: Vec<Statement>) -> Answer<'_, Option<Vec<Done>>> {
        drop(statements);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Says what one statement is; executes nothing.
    fn describe(&mut self, sql: Arc<str>) -> Answer<'_, DescribeResult>;

    /// Ends the open transaction, if any. Cannot fail in a way that leaves one open.
    fn rollback(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// As of the last finished call.
    fn transaction(&self) -> Transaction;

    fn interrupt(&self) -> Interrupt;
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transaction {
    /// Autocommit.
    #[default]
    None,
    /// A transaction that has only read so far, or nothing yet.
    Read,
    /// A transaction that holds the writer.
    Write,
}
