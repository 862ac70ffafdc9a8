//! `transaction()` and `iterate()` of a SQL database: what stays open between two ops.

use std::borrow::Cow;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use deno_core::{OpState, Resource, ResourceId, ToV8, op2, v8};
use verge_node::NodeHome;
use verge_services::sql::{Cursor, ErrorKind, Home, Query, SqlError, Transaction};

use super::sql::{SqlHandle, SqlSession, replies_of, stop_after, stop_here};
use crate::ExchangeId;
use crate::sql::{ColumnNames, JsRows, OwnedReply, Parameters, Reply, failed};

/// How long a transaction may hold the writer, unless it says otherwise, and at most.
const TRANSACTION: Duration = Duration::from_secs(5);
const LONGEST_TRANSACTION: Duration = Duration::from_secs(30);
/// One piece of `iterate`.
const PIECE_ROWS: usize = 256;
const PIECE_BYTES: u64 = 256 * 1024;

/// A resource's number.
pub struct Rid(ResourceId);

impl<'a> ToV8<'a> for Rid {
    type Error = Infallible;

    fn to_v8(
        self,
        scope: &mut v8::PinScope<'a, '_>,
    ) -> Result<v8::Local<'a, v8::Value>, Infallible> {
        Ok(v8::Integer::new_from_unsigned(scope, self.0).into())
    }
}

/// Nothing but that it was done: null, since `undefined` from an async op that is ready at once
/// means to the engine that it is not.
pub struct Done;

impl<'a> ToV8<'a> for Done {
    type Error = Infallible;

    fn to_v8(
        self,
        scope: &mut v8::PinScope<'a, '_>,
    ) -> Result<v8::Local<'a, v8::Value>, Infallible> {
        Ok(v8::null(scope).into())
    }
}

/// An open transaction. Closing the resource rolls back.
struct OpenTransaction(tokio::sync::Mutex<Option<Transaction<NodeHome>>>);

impl Resource for OpenTransaction {
    fn name(&self) -> Cow<'_, str> {
        "sqlTransaction".into()
    }
}

fn over() -> SqlError {
    SqlError::new(ErrorKind::Deadline, "The transaction is over")
}

fn held(state: &RefCell<OpState>, rid: ResourceId) -> Result<Rc<OpenTransaction>, SqlError> {
    state.borrow().resource_table.get::<OpenTransaction>(rid).map_err(|_| over())
}

fn taken(state: &RefCell<OpState>, rid: ResourceId) -> Result<Rc<OpenTransaction>, SqlError> {
    state.borrow_mut().resource_table.take::<OpenTransaction>(rid).map_err(|_| over())
}

/// `deadline` in ms; 0 is the default.
#[op2]
pub async fn op_verge_sql_begin(
    state: Rc<RefCell<OpState>>,
    #[cppgc] handle: &SqlHandle,
    #[smi] id: ExchangeId,
    deadline: f64,
) -> Reply<Rid> {
    let longest = match Duration::try_from_secs_f64(deadline / 1e3) {
        Ok(asked) if !asked.is_zero() => asked.min(LONGEST_TRANSACTION),
        _ => TRANSACTION,
    };
    let client = handle.client(&mut state.borrow_mut(), id);
    let seen = handle.freshness(&client, None).at_least;
    let begun = handle.database().begin(seen, longest).await;
    let begun = begun.inspect_err(|error| handle.gone(&client, error));
    let done = begun.map(|transaction| {
        let open = OpenTransaction(tokio::sync::Mutex::new(Some(transaction)));
        Rid(state.borrow_mut().resource_table.add(open))
    });
    done.into()
}

#[op2]
pub async fn op_verge_sql_transact(
    state: Rc<RefCell<OpState>>,
    #[smi] rid: ResourceId,
    #[string] sql: String,
    #[scoped] params: Parameters,
) -> Reply<OwnedReply> {
    let run = async {
        let open = held(&state, rid)?;
        let stop = stop_after(&state.borrow());
        let mut slot = open.0.lock().await;
        let transaction = slot.as_mut().ok_or_else(over)?;
        let query = Query { sql, params: params.0 };
        let answer = transaction.run(vec![query], Some(stop)).await?;
        replies_of(answer).next().ok_or_else(|| SqlError::new(ErrorKind::Internal, "no outcome"))
    };
    run.await.into()
}

#[op2]
pub async fn op_verge_sql_commit(
    state: Rc<RefCell<OpState>>,
    #[cppgc] handle: &SqlHandle,
    #[smi] id: ExchangeId,
    #[smi] rid: ResourceId,
) -> Reply<Done> {
    let commit = async {
        let transaction = taken(&state, rid)?.0.lock().await.take().ok_or_else(over)?;
        let position = transaction.commit().await?;
        let client = handle.client(&mut state.borrow_mut(), id);
        handle.wrote(&state, id, &client, None, position);
        Ok(Done)
    };
    commit.await.into()
}

#[op2]
pub async fn op_verge_sql_rollback(
    state: Rc<RefCell<OpState>>,
    #[smi] rid: ResourceId,
) -> Reply<Done> {
    let rollback = async {
        let transaction = taken(&state, rid)?.0.lock().await.take().ok_or_else(over)?;
        transaction.rollback().await.map(|()| Done)
    };
    rollback.await.into()
}

/// A statement that is read piece by piece.
struct OpenCursor(RefCell<Cursor<<NodeHome as Home>::Reader>>);

impl Resource for OpenCursor {
    fn name(&self) -> Cow<'_, str> {
        "sqlCursor".into()
    }
}

/// Waits until the state here is as new as the session needs, then opens a cursor on it. Rows are
/// read here only: what must come from the primary is read with `all`.
#[op2]
#[allow(clippy::too_many_arguments, reason = "one argument a part of the query")]
pub async fn op_verge_sql_cursor(
    state: Rc<RefCell<OpState>>,
    #[cppgc] handle: &SqlHandle,
    #[smi] id: ExchangeId,
    #[cppgc] session: Option<&SqlSession>,
    #[string] sql: String,
    #[scoped] params: Parameters,
) -> Reply<Rid> {
    let open = async {
        let client = handle.client(&mut state.borrow_mut(), id);
        let freshness = handle.freshness(&client, session);
        let database = handle.database();
        if let Some(at_least) = freshness.at_least {
            database.home().wait_for(at_least, freshness.wait).await;
        }
        if !database.is_fresh(&freshness) {
            return Err(SqlError::new(
                ErrorKind::Unavailable,
                "this point of presence has not reached what the session has seen",
            ));
        }
        let (reader, position) = database.snapshot().await?;
        let cursor = Cursor::open(reader, *database.policy(), &sql, &params.0)?;
        handle.saw(&client, session, position);
        Ok(Rid(state.borrow_mut().resource_table.add(OpenCursor(RefCell::new(cursor)))))
    };
    open.await.into()
}

/// The next rows; the fourth part of the reply is whether they were the last.
#[op2]
pub fn op_verge_sql_cursor_next<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: &mut OpState,
    #[smi] id: ExchangeId,
    #[smi] rid: ResourceId,
) -> v8::Local<'s, v8::Value> {
    let Ok(open) = state.resource_table.get::<OpenCursor>(rid) else {
        return failed(scope, &SqlError::new(ErrorKind::Deadline, "The iteration is over"));
    };
    let stop = stop_here(state, id);
    let mut known = ColumnNames::default();
    let mut rows = JsRows::new(scope, &mut known, u32::MAX);
    let mut cursor = open.0.borrow_mut();
    if let Some(columns) = cursor.columns().cloned() {
        verge_services::sql::RowSink::columns(&mut rows, &columns);
    }
    match cursor.next(PIECE_ROWS, PIECE_BYTES, Some(&stop), &mut rows) {
        Ok(more) => rows.finish(|scope| v8::Boolean::new(scope, !more).into()),
        Err(error) => {
            drop(rows);
            failed(scope, &error)
        }
    }
}
