//! The state machine of a WebSocket, without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use proptest::prelude::*;
use verge_hrana::{
    Access, Batch, ClientMsg, Effect, Error, Limits, Request, Response, ServerMsg, Session, SqlRef,
    Stmt, StreamResponse, Tokens, Work, close, codes,
};

/// `full` and `read` are good, until revoked.
#[derive(Default)]
struct Known {
    revoked: AtomicBool,
}

impl Tokens for Known {
    fn verify(&self, bearer: Option<&str>) -> Result<Access, Error> {
        match bearer {
            _ if self.revoked.load(Relaxed) => Err(Error::caller(codes::AUTH_INVALID, "revoked")),
            Some("full") => Ok(Access::Full),
            Some("read") => Ok(Access::ReadOnly),
            Some(_) => Err(Error::caller(codes::AUTH_INVALID, "unknown")),
            None => Err(Error::caller(codes::AUTH_MISSING, "missing")),
        }
    }
}

fn limits() -> Limits {
    Limits { streams_per_connection: 2, cursors_per_connection: 2, ..Limits::default() }
}

fn fresh() -> Session {
    Session::new(Arc::new(Known::default()), Arc::new(limits()), false)
}

fn known() -> Session {
    let mut session = fresh();
    assert_eq!(session.receive(hello("full")), [Effect::Send(ServerMsg::HelloOk)]);
    session
}

fn hello(jwt: &str) -> ClientMsg {
    ClientMsg::Hello { jwt: Some(jwt.into()) }
}

fn request(session: &mut Session, request: Request) -> Vec<Effect> {
    session.receive(ClientMsg::Request { request_id: 9, request })
}

fn told(response: Response) -> Effect {
    Effect::Send(ServerMsg::ResponseOk { request_id: 9, response })
}

/// The code of the only effect, a refusal.
fn refused(effects: &[Effect]) -> &str {
    match effects {
        [Effect::Send(ServerMsg::ResponseError { request_id: 9, error })] => &error.code,
        other => panic!("{other:?}"),
    }
}

fn violates(effects: &[Effect]) -> bool {
    matches!(effects, [Effect::Disconnect { code: close::PROTOCOL, .. }])
}

fn execute(stream_id: i32, sql: SqlRef) -> Request {
    let stmt = Stmt { sql, args: vec![], named_args: vec![], want_rows: true };
    Request::Execute { stream_id, stmt }
}

fn text(sql: &str) -> SqlRef {
    SqlRef { sql: Some(sql.into()), sql_id: None }
}

#[test]
fn nothing_goes_before_hello() {
    let mut session = fresh();
    assert!(violates(&request(&mut session, Request::OpenStream { stream_id: 0 })));
    assert_eq!(session.receive(hello("full")), [], "and nothing after the end");
}

#[test]
fn a_wrong_hello_ends_the_connection_with_its_code() {
    for (jwt, code) in [(None, codes::AUTH_MISSING), (Some("x"), codes::AUTH_INVALID)] {
        let effects = fresh().receive(ClientMsg::Hello { jwt: jwt.map(str::to_owned) });
        match &effects[..] {
            [
                Effect::Send(ServerMsg::HelloError(error)),
                Effect::Disconnect { code: close::POLICY, .. },
            ] => assert_eq!(error.code, code),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_hello_may_renew_the_token_and_not_change_what_it_allows() {
    let mut session = known();
    assert_eq!(session.receive(hello("full")), [Effect::Send(ServerMsg::HelloOk)]);
    let effects = session.receive(hello("read"));
    assert!(matches!(&effects[0], Effect::Send(ServerMsg::HelloError(_))), "{effects:?}");
    assert!(matches!(effects[1], Effect::Disconnect { .. }));
}

#[test]
fn a_revoked_token_ends_the_connection() {
    let tokens = Arc::new(Known::default());
    let mut session = Session::new(Arc::clone(&tokens) as _, Arc::new(limits()), false);
    session.receive(hello("read"));
    assert_eq!(session.verify_again(), []);
    tokens.revoked.store(true, Relaxed);
    let effects = session.verify_again();
    assert!(matches!(effects[..], [Effect::Disconnect { code: close::POLICY, .. }]));
}

#[test]
fn a_page_in_a_browser_needs_a_token() {
    let tokens = Arc::new(verge_hrana::Open);
    let mut session = Session::new(tokens, Arc::new(limits()), true);
    match &session.receive(ClientMsg::Hello { jwt: None })[0] {
        Effect::Send(ServerMsg::HelloError(error)) => assert_eq!(error.code, codes::ORIGIN),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_is_opened_used_and_closed() {
    let mut session = known();
    assert_eq!(
        request(&mut session, Request::OpenStream { stream_id: -3 }),
        [Effect::Open { stream_id: -3, access: Access::Full }, told(Response::OpenStream),]
    );
    match &request(&mut session, execute(-3, text("SELECT 1")))[..] {
        [Effect::Work { stream_id: -3, request_id: 9, work: Work::Execute(step) }] => {
            assert_eq!(&*step.statement.sql, "SELECT 1");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        request(&mut session, Request::CloseStream { stream_id: -3 }),
        [Effect::CloseStream { stream_id: -3, request_id: 9 }]
    );
    let effects = request(&mut session, execute(-3, text("SELECT 1")));
    assert_eq!(refused(&effects), codes::STREAM_UNKNOWN);
    let closed = told(Response::Stream(StreamResponse::Close));
    assert_eq!(request(&mut session, Request::CloseStream { stream_id: -3 }), [closed]);
}

#[test]
fn an_id_in_use_is_a_violation() {
    let mut session = known();
    request(&mut session, Request::OpenStream { stream_id: 1 });
    assert!(violates(&request(&mut session, Request::OpenStream { stream_id: 1 })));
    let store = || Request::StoreSql { sql_id: 1, sql: "x".into() };
    let mut session = known();
    assert_eq!(request(&mut session, store()), [told(Response::Stream(StreamResponse::StoreSql))]);
    assert!(violates(&request(&mut session, store())));
}

#[test]
fn streams_are_limited_and_a_refused_id_is_in_use_until_closed() {
    let mut session = known();
    for stream_id in 0..2 {
        request(&mut session, Request::OpenStream { stream_id });
    }
    let effects = request(&mut session, Request::OpenStream { stream_id: 2 });
    assert_eq!(refused(&effects), codes::STREAM_LIMIT);
    let effects = request(&mut session, execute(2, text("SELECT 1")));
    assert_eq!(refused(&effects), codes::STREAM_LIMIT);
    request(&mut session, Request::CloseStream { stream_id: 0 });
    request(&mut session, Request::CloseStream { stream_id: 2 });
    let effects = request(&mut session, Request::OpenStream { stream_id: 2 });
    assert_eq!(effects.len(), 2, "there is room again");
    let ended = (3..100)
        .any(|stream_id| violates(&request(&mut session, Request::OpenStream { stream_id })));
    assert!(ended, "what is remembered is bounded");
}

#[test]
fn stored_sql_is_resolved_when_the_request_comes() {
    let mut session = known();
    request(&mut session, Request::OpenStream { stream_id: 0 });
    request(&mut session, Request::StoreSql { sql_id: 5, sql: "SELECT 5".into() });
    let by_id = SqlRef { sql: None, sql_id: Some(5) };
    let effects = request(&mut session, Request::Describe { stream_id: 0, sql: by_id.clone() });
    request(&mut session, Request::CloseSql { sql_id: 5 });
    let work = Work::Describe("SELECT 5".into());
    assert_eq!(effects, [Effect::Work { stream_id: 0, request_id: 9, work }]);
    let effects = request(&mut session, Request::Sequence { stream_id: 0, sql: by_id });
    assert_eq!(refused(&effects), codes::SQL_ID_UNKNOWN);
}

#[test]
fn cursors_close_with_their_stream_and_their_ids_stay_in_use() {
    let mut session = known();
    request(&mut session, Request::OpenStream { stream_id: 0 });
    let open = |cursor_id| Request::OpenCursor { stream_id: 0, cursor_id, batch: Batch::default() };
    let fetch = |cursor_id| Request::FetchCursor { cursor_id, max_count: u32::MAX };
    assert!(matches!(
        request(&mut session, open(7))[..],
        [Effect::OpenCursor { stream_id: 0, cursor_id: 7, .. }]
    ));
    let max_count = limits().fetch_entries;
    assert_eq!(
        request(&mut session, fetch(7)),
        [Effect::Fetch { cursor_id: 7, request_id: 9, max_count }]
    );
    assert_eq!(
        request(&mut session, Request::CloseStream { stream_id: 0 }),
        [Effect::CloseCursor { cursor_id: 7 }, Effect::CloseStream { stream_id: 0, request_id: 9 },]
    );
    assert_eq!(refused(&request(&mut session, fetch(7))), codes::CURSOR_UNKNOWN);
    assert!(matches!(
        request(&mut session, Request::CloseCursor { cursor_id: 7 })[..],
        [Effect::CloseCursor { cursor_id: 7 }, Effect::Send(_)]
    ));
    assert_eq!(refused(&request(&mut session, open(7))), codes::STREAM_UNKNOWN);
    assert!(violates(&request(&mut session, open(7))));
}

/// Small ids, so that requests meet.
fn any_request() -> impl Strategy<Value = Request> {
    let id = || 0..4_i32;
    prop_oneof![
        id().prop_map(|stream_id| Request::OpenStream { stream_id }),
        id().prop_map(|stream_id| Request::CloseStream { stream_id }),
        id().prop_map(|stream_id| execute(stream_id, text("SELECT 1"))),
        (id(), id()).prop_map(|(stream_id, sql_id)| {
            execute(stream_id, SqlRef { sql: None, sql_id: Some(sql_id) })
        }),
        id().prop_map(|sql_id| Request::StoreSql { sql_id, sql: "x".into() }),
        id().prop_map(|sql_id| Request::CloseSql { sql_id }),
        (id(), id()).prop_map(|(stream_id, cursor_id)| {
            Request::OpenCursor { stream_id, cursor_id, batch: Batch::default() }
        }),
        id().prop_map(|cursor_id| Request::CloseCursor { cursor_id }),
        id().prop_map(|cursor_id| Request::FetchCursor { cursor_id, max_count: 1 }),
    ]
}

proptest! {
    /// Whatever comes: each request is answered once, streams and cursors are opened before
    /// they are used, and never beyond the limits.
    #[test]
    fn effects_always_fit_together(requests in prop::collection::vec(any_request(), 0..60)) {
        let mut session = known();
        let mut streams = std::collections::HashSet::new();
        let mut cursors = std::collections::HashSet::new();
        for one in requests {
            let effects = request(&mut session, one);
            let mut answers = 0;
            for effect in &effects {
                match effect {
                    Effect::Send(_) => answers += 1,
                    Effect::Open { stream_id, .. } => {
                        prop_assert!(streams.insert(*stream_id) && streams.len() <= 2);
                    }
                    Effect::Work { stream_id, .. } => {
                        prop_assert!(streams.contains(stream_id));
                        answers += 1;
                    }
                    Effect::CloseStream { stream_id, .. } => {
                        prop_assert!(streams.remove(stream_id));
                        answers += 1;
                    }
                    Effect::OpenCursor { stream_id, cursor_id, .. } => {
                        prop_assert!(streams.contains(stream_id));
                        prop_assert!(cursors.insert(*cursor_id) && cursors.len() <= 2);
                        answers += 1;
                    }
                    Effect::Fetch { cursor_id, .. } => {
                        prop_assert!(cursors.contains(cursor_id));
                        answers += 1;
                    }
                    Effect::CloseCursor { cursor_id } => {
                        cursors.remove(cursor_id);
                    }
                    Effect::Disconnect { .. } => return Ok(()),
                }
            }
            prop_assert_eq!(answers, 1, "{:?}", effects);
        }
    }
}
