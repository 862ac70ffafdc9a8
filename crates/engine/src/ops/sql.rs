//! SQL databases' ops: js/runtime/sql_database.js makes D1's API of them.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deno_core::{GarbageCollected, OpState, ToV8, op2, v8};
use verge_services::sql::{
    Answer, ErrorKind, Freshness, Home as _, Local, Outcome, Query, Session, SharedStop, SqlError,
    Stats,
};
use verge_telemetry::Level;
use verge_types::Position;

use super::{OpError, exchanges, host, log};
use crate::sql::{
    ColumnNames, JsRows, ManyParameters, Meta, OwnedReply, Parameters, Reply, failed, reply,
};
use crate::{ExchangeId, LongOp, SqlDatabase};

/// How long a read waits here for what its session has seen, before the primary is asked.
const WAIT: Duration = Duration::from_millis(250);
/// Most bytes that `dump` makes.
const MAX_DUMP: u64 = 256 * 1024 * 1024;
/// Said to the developer: the head of the response, which tells the client of its writes, is gone.
const LATE_WRITE: &str = "a database was written after the response had begun: this client's next \
    request may be answered from before that write (docs/sessions.md)";
/// The mode of a query that wants one row only, and not what it cost.
const FIRST: u32 = 1;

/// `env.<binding>` of a database.
pub struct SqlHandle {
    database: Arc<SqlDatabase>,
    served_by: Arc<str>,
    region: Arc<str>,
    /// The note for `Server-Timing`, as long as it is true.
    note: RefCell<(bool, Option<u64>, String)>,
}

// SAFETY: it holds nothing of V8's, so there is nothing to trace.
unsafe impl GarbageCollected for SqlHandle {
    fn trace(&self, _visitor: &mut v8::cppgc::Visitor) {}

    fn get_name(&self) -> &'static std::ffi::CStr {
        c"SqlDatabase"
    }
}

/// What `withSession` begins.
pub struct SqlSession {
    session: Cell<Session>,
    /// Each read at the primary, not only the first.
    strong: bool,
    max_staleness: Option<Duration>,
}

// SAFETY: it holds nothing of V8's, so there is nothing to trace.
unsafe impl GarbageCollected for SqlSession {
    fn trace(&self, _visitor: &mut v8::cppgc::Visitor) {}

    fn get_name(&self) -> &'static std::ffi::CStr {
        c"SqlSession"
    }
}

#[op2]
#[cppgc]
pub fn op_verge_sql_open(
    state: &mut OpState,
    #[string] binding: &str,
) -> Result<SqlHandle, OpError> {
    let database = host(state)
        .and_then(|host| host.databases.get(binding).cloned())
        .ok_or_else(|| OpError::Service(format!("env.{binding} leads to no database")))?;
    let (served_by, region) = {
        let node = database.node();
        (node.served_by.as_str().into(), node.region.as_str().into())
    };
    Ok(SqlHandle { database, served_by, region, note: RefCell::default() })
}

impl SqlHandle {
    pub fn database(&self) -> &Arc<SqlDatabase> {
        &self.database
    }

    /// What the client of a request has seen; nothing outside a request.
    pub fn client(&self, state: &mut OpState, id: ExchangeId) -> verge_types::Session {
        exchanges(state).get(id).map(|exchange| exchange.cx.session.clone()).unwrap_or_default()
    }

    /// How new the state must be that a read is served from.
    pub fn freshness(
        &self,
        client: &verge_types::Session,
        session: Option<&SqlSession>,
    ) -> Freshness {
        let seen = client.position(self.database.home().id());
        let mut freshness = match session {
            Some(session) => {
                let mut freshness = session.session.get().freshness();
                freshness.strong |= session.strong;
                freshness.max_staleness = session.max_staleness;
                freshness
            }
            None => Freshness::default(),
        };
        freshness.at_least = freshness.at_least.max(seen);
        freshness.wait = WAIT;
        freshness
    }

    /// The client and the app's session take note of what a read has seen.
    pub fn saw(
        &self,
        client: &verge_types::Session,
        session: Option<&SqlSession>,
        position: Position,
    ) {
        client.saw(self.database.home().id(), position);
        advance(session, position);
    }

    /// The same of a write; a client that cannot be told of it any more is worth a warning.
    pub fn wrote(
        &self,
        state: &RefCell<OpState>,
        id: ExchangeId,
        client: &verge_types::Session,
        session: Option<&SqlSession>,
        position: Position,
    ) {
        if !client.wrote(self.database.home().id(), position) {
            log::write(&mut state.borrow_mut(), Level::Warn, id, LATE_WRITE.to_owned());
        }
        advance(session, position);
    }

    /// A history that is gone does not lock the client out: its next request begins anew.
    pub fn gone(&self, client: &verge_types::Session, error: &SqlError) {
        if error.kind == ErrorKind::HistoryLost {
            client.forget(self.database.home().id());
        }
    }

    /// Says on `Server-Timing` where a read was served.
    fn time(&self, client: &verge_types::Session, primary: bool, took: Duration) {
        if !client.is_on() {
            return;
        }
        let lag = if primary { None } else { self.database.home().staleness().map(millis) };
        let mut note = self.note.borrow_mut();
        if note.2.is_empty() || (note.0, note.1) != (primary, lag) {
            let role = if primary { "primary" } else { "replica" };
            let lag_text = lag.map(|lag| format!(" lag={lag}ms")).unwrap_or_default();
            *note = (primary, lag, format!("{role} {}{lag_text}", self.region));
        }
        client.timing("db", &note.2, took);
    }

    fn meta(&self, stats: Stats, by_primary: bool) -> Meta {
        Meta { stats, served_by: self.served_by.clone(), region: self.region.clone(), by_primary }
    }
}

/// An app's own session goes on from `position`.
fn advance(session: Option<&SqlSession>, position: Position) {
    if let Some(session) = session {
        let mut known = session.session.get();
        known.saw(position);
        session.session.set(known);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Ends a statement on this thread when its request's CPU time is up.
pub fn stop_here(state: &OpState, id: ExchangeId) -> impl Fn() -> bool + use<> {
    let account = state.try_borrow::<LongOp>().cloned();
    move || account.as_ref().is_some_and(|account| account.0(id))
}

/// Ends a statement on another thread when it has run for as long as a request may.
pub fn stop_after(state: &OpState) -> SharedStop {
    let longest = host(state).map_or(30_000, |host| host.limits.cpu_time);
    let longest = Duration::from_millis(longest);
    // From when it runs: waiting for the writer is not its doing.
    let begun = std::sync::OnceLock::new();
    Arc::new(move || begun.get_or_init(Instant::now).elapsed() > longest)
}

/// Answers at once what can be read here and now; null if it has to go elsewhere or wait.
#[op2]
pub fn op_verge_sql_query_now<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    state: &mut OpState,
    #[cppgc] handle: &SqlHandle,
    #[smi] id: ExchangeId,
    #[cppgc] session: Option<&SqlSession>,
    #[string] sql: &str,
    #[scoped] params: Parameters,
    #[smi] mode: u32,
) -> v8::Local<'s, v8::Value> {
    let client = handle.client(state, id);
    let freshness = handle.freshness(&client, session);
    if state.try_borrow::<ColumnNames>().is_none() {
        state.put(ColumnNames::default());
    }
    let stop = stop_here(state, id);
    let known = state.borrow_mut::<ColumnNames>();
    let mut rows = JsRows::new(scope, known, if mode == FIRST { 1 } else { u32::MAX });
    match handle.database.read(&freshness, sql, &params.0, Some(&stop), &mut rows) {
        Ok(Local::Done { stats, position, primary }) => {
            handle.saw(&client, session, position);
            handle.time(&client, primary, stats.duration);
            if mode == FIRST {
                return rows.finish(|scope| v8::null(scope).into());
            }
            let meta = handle.meta(stats, primary);
            rows.finish(|scope| meta.array(scope))
        }
        Ok(Local::Writes | Local::Stale) => {
            drop(rows);
            v8::null(scope).into()
        }
        Err(error) => {
            drop(rows);
            failed(scope, &error)
        }
    }
}

/// One statement, wherever it must run.
#[op2]
#[allow(clippy::too_many_arguments, reason = "one argument a part of the query")]
pub async fn op_verge_sql_query(
    state: Rc<RefCell<OpState>>,
    #[cppgc] handle: &SqlHandle,
    #[smi] id: ExchangeId,
    #[cppgc] session: Option<&SqlSession>,
    #[string] sql: String,
    #[scoped] params: Parameters,
) -> Reply<OwnedReply> {
    let (client, stop) = {
        let state = &mut *state.borrow_mut();
        (handle.client(state, id), stop_after(state))
    };
    let freshness = handle.freshness(&client, session);
    let started = Instant::now();
    let query = Query { sql, params: params.0 };
    let answer = handle.database.query(&freshness, query, Some(stop)).await;
    let answer = answer.inspect_err(|error| handle.gone(&client, error));
    let done = answer.map(|answer| {
        let wrote = answer.value.stats.changed_db;
        if wrote {
            handle.wrote(&state, id, &client, session, answer.position);
        } else {
            handle.saw(&client, session, answer.position);
        }
        handle.time(&client, answer.served_by_primary, started.elapsed());
        reply_of(answer)
    });
    done.into()
}

fn reply_of(answer: Answer<Outcome>) -> OwnedReply {
    let Answer { value, node, served_by_primary, .. } = answer;
    let meta = Meta {
        stats: value.stats,
        served_by: node.served_by.as_str().into(),
        region: node.region.as_str().into(),
        by_primary: served_by_primary,
    };
    OwnedReply { outcome: value, meta }
}

/// The replies of an answer to several statements, in order.
pub fn replies_of(answer: Answer<Vec<Outcome>>) -> impl Iterator<Item = OwnedReply> {
    let Answer { value, position, node, served_by_primary } = answer;
    value.into_iter().map(move |value| {
        reply_of(Answer { value, position, node: node.clone(), served_by_primary })
    })
}

/// The replies of a batch.
pub struct Replies(Vec<OwnedReply>);

impl<'a> ToV8<'a> for Replies {
    type Error = Infallible;

    fn to_v8(
        self,
        scope: &mut v8::PinScope<'a, '_>,
    ) -> Result<v8::Local<'a, v8::Value>, Infallible> {
        let replies: Vec<_> =
            self.0.iter().map(|one| reply(scope, &one.outcome, &one.meta)).collect();
        Ok(v8::Array::new_with_elements(scope, &replies).into())
    }
}

/// Statements in one transaction.
#[op2]
#[allow(clippy::too_many_arguments, reason = "one argument a part of the batch")]
pub async fn op_verge_sql_batch(
    state: Rc<RefCell<OpState>>,
    #[cppgc] handle: &SqlHandle,
    #[smi] id: ExchangeId,
    #[cppgc] session: Option<&SqlSession>,
    #[serde] sql: Vec<String>,
    #[scoped] params: ManyParameters,
) -> Reply<Replies> {
    let (client, stop) = {
        let state = &mut *state.borrow_mut();
        (handle.client(state, id), stop_after(state))
    };
    let freshness = handle.freshness(&client, session);
    let started = Instant::now();
    let queries =
        sql.into_iter().zip(params.0).map(|(sql, params)| Query { sql, params }).collect();
    let answer = handle.database.batch(&freshness, queries, Some(stop)).await;
    let answer = answer.inspect_err(|error| handle.gone(&client, error));
    let done = answer.map(|answer| {
        let wrote = answer.value.iter().any(|outcome| outcome.stats.changed_db);
        if wrote {
            handle.wrote(&state, id, &client, session, answer.position);
        } else {
            handle.saw(&client, session, answer.position);
        }
        handle.time(&client, answer.served_by_primary, started.elapsed());
        Replies(replies_of(answer).collect())
    });
    done.into()
}

/// `[count, duration in ms]`.
pub struct Counted(u64, f64);

impl<'a> ToV8<'a> for Counted {
    type Error = Infallible;

    fn to_v8(
        self,
        scope: &mut v8::PinScope<'a, '_>,
    ) -> Result<v8::Local<'a, v8::Value>, Infallible> {
        let parts =
            [v8::Number::new(scope, self.0 as f64).into(), v8::Number::new(scope, self.1).into()];
        Ok(v8::Array::new_with_elements(scope, &parts).into())
    }
}

/// A text of statements.
#[op2]
pub async fn op_verge_sql_exec(
    state: Rc<RefCell<OpState>>,
    #[cppgc] handle: &SqlHandle,
    #[smi] id: ExchangeId,
    #[string] text: String,
) -> Reply<Counted> {
    let (client, stop) = {
        let state = &mut *state.borrow_mut();
        (handle.client(state, id), stop_after(state))
    };
    let started = Instant::now();
    let seen = handle.freshness(&client, None).at_least;
    let answer = handle.database.exec(seen, text, Some(stop)).await;
    let answer = answer.inspect_err(|error| handle.gone(&client, error));
    let done = answer.map(|answer| {
        handle.wrote(&state, id, &client, None, answer.position);
        handle.time(&client, answer.served_by_primary, started.elapsed());
        Counted(answer.value.count, answer.value.duration.as_secs_f64() * 1e3)
    });
    done.into()
}

/// Bytes of a database.
pub struct Dump(Vec<u8>);

impl<'a> ToV8<'a> for Dump {
    type Error = Infallible;

    fn to_v8(
        self,
        scope: &mut v8::PinScope<'a, '_>,
    ) -> Result<v8::Local<'a, v8::Value>, Infallible> {
        let length = self.0.len();
        let store = v8::ArrayBuffer::new_backing_store_from_vec(self.0).make_shared();
        let buffer = v8::ArrayBuffer::with_backing_store(scope, &store);
        let bytes = v8::Uint8Array::new(scope, buffer, 0, length);
        Ok(bytes.map_or_else(|| v8::null(scope).into(), Into::into))
    }
}

#[op2]
pub fn op_verge_sql_dump(#[cppgc] handle: &SqlHandle) -> Reply<Dump> {
    handle.database.dump(MAX_DUMP).map(Dump).into()
}

/// Begins a session; its constraint is checked here.
#[op2]
pub fn op_verge_sql_session<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    #[cppgc] handle: &SqlHandle,
    #[string] constraint: &str,
    strong: bool,
    max_staleness: f64,
) -> v8::Local<'s, v8::Value> {
    match Session::new(&handle.database, constraint, WAIT) {
        Ok(session) => {
            let max_staleness = Duration::try_from_secs_f64(max_staleness / 1e3).ok();
            let session = SqlSession { session: Cell::new(session), strong, max_staleness };
            deno_core::cppgc::make_cppgc_object(scope, session).into()
        }
        Err(error) => failed(scope, &error),
    }
}

/// Where a session stands; null before its first answer.
#[op2]
#[string]
pub fn op_verge_sql_bookmark(
    #[cppgc] handle: &SqlHandle,
    #[cppgc] session: &SqlSession,
) -> Option<String> {
    session.session.get().bookmark(&handle.database).map(|bookmark| bookmark.to_string())
}
