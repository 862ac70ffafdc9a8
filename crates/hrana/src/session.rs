//! What a WebSocket's messages mean: a pure state machine.
//!
//! Messages go in, [`Effect`]s come out, for the driver to carry out in order. Knows which
//! streams, cursors and SQL texts the client has named, and what breaks the protocol. Waits for
//! nothing, reads no clock.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::stored_sql::{Step, StoreError, StoredSql, Work};
use crate::{
    Access, BatchCond, ClientMsg, Error, Limits, Request, Response, ServerMsg, StreamResponse,
    Tokens, codes,
};

/// Close codes, as RFC 6455 and its registry have them.
pub mod close {
    pub const NORMAL: u16 = 1000;
    pub const PROTOCOL: u16 = 1002;
    pub const UNSUPPORTED: u16 = 1003;
    pub const POLICY: u16 = 1008;
    pub const TOO_BIG: u16 = 1009;
    pub const INTERNAL: u16 = 1011;
}

/// What the driver has to do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    Send(ServerMsg),
    /// Open a stream; the client has its answer already.
    Open {
        stream_id: i32,
        access: Access,
    },
    /// Do this on the stream and answer the request.
    Work {
        stream_id: i32,
        request_id: i32,
        work: Work,
    },
    /// Close the stream (after its work) and forget it, then answer.
    CloseStream {
        stream_id: i32,
        request_id: i32,
    },
    OpenCursor {
        stream_id: i32,
        cursor_id: i32,
        request_id: i32,
        steps: Vec<(Option<BatchCond>, Step)>,
    },
    Fetch {
        cursor_id: i32,
        request_id: i32,
        max_count: usize,
    },
    /// Close the cursor and forget it. The answer is a [`Effect::Send`] of its own.
    CloseCursor {
        cursor_id: i32,
    },
    /// Close the WebSocket; nothing follows.
    Disconnect {
        code: u16,
        reason: String,
    },
}

/// The state of one WebSocket.
pub struct Session {
    tokens: Arc<dyn Tokens>,
    limits: Arc<Limits>,
    /// True if a browser's page opened the socket: then a hello without token is refused.
    from_page: bool,
    hello: Option<Hello>,
    ended: bool,
    streams: FxHashMap<i32, Slot>,
    open_streams: usize,
    cursors: FxHashMap<i32, Option<i32>>,
    stored: StoredSql,
}

struct Hello {
    jwt: Option<String>,
    access: Access,
}

/// A stream id in use.
enum Slot {
    Open,
    /// It could not be opened; the id is in use until closed all the same.
    Failed(Error),
}

impl Session {
    pub fn new(tokens: Arc<dyn Tokens>, limits: Arc<Limits>, from_page: bool) -> Self {
        Self {
            tokens,
            limits,
            from_page,
            hello: None,
            ended: false,
            streams: FxHashMap::default(),
            open_streams: 0,
            cursors: FxHashMap::default(),
            stored: StoredSql::default(),
        }
    }

    /// True once the client has said hello.
    pub fn is_known(&self) -> bool {
        self.hello.is_some()
    }

    /// Takes a message of the client.
    pub fn receive(&mut self, message: ClientMsg) -> Vec<Effect> {
        if self.ended {
            return Vec::new();
        }
        match message {
            ClientMsg::Hello { jwt } => self.hello(jwt),
            ClientMsg::Request { request_id, request } => match &self.hello {
                Some(hello) => {
                    let access = hello.access;
                    self.request(request_id, request, access)
                }
                None => self.violated("the first message has to be a hello".into()),
            },
        }
    }

    /// Looks at the token again; called now and then.
    pub fn verify_again(&mut self) -> Vec<Effect> {
        let Some(hello) = &self.hello else { return Vec::new() };
        match self.tokens.verify(hello.jwt.as_deref()) {
            Ok(access) if access == hello.access => Vec::new(),
            Ok(_) => self.disconnect(close::POLICY, "the token's access has changed".into()),
            Err(error) => self.disconnect(close::POLICY, error.message),
        }
    }

    /// The client broke the protocol: also for what the driver finds.
    pub fn violated(&mut self, reason: String) -> Vec<Effect> {
        self.disconnect(close::PROTOCOL, reason)
    }

    pub fn disconnect(&mut self, code: u16, reason: String) -> Vec<Effect> {
        self.ended = true;
        vec![Effect::Disconnect { code, reason }]
    }

    fn hello(&mut self, jwt: Option<String>) -> Vec<Effect> {
        let verified = self.tokens.verify(jwt.as_deref()).and_then(|access| {
            if self.from_page && jwt.is_none() {
                return Err(page());
            }
            match &self.hello {
                Some(before) if before.access != access => Err(Error::caller(
                    codes::AUTH_CHANGED,
                    "another token has to allow the same; open another connection",
                )),
                _ => Ok(access),
            }
        });
        match verified {
            Ok(access) => {
                self.hello = Some(Hello { jwt, access });
                vec![Effect::Send(ServerMsg::HelloOk)]
            }
            Err(error) => {
                let reason = error.message.clone();
                let mut effects = vec![Effect::Send(ServerMsg::HelloError(error))];
                effects.extend(self.disconnect(close::POLICY, reason));
                effects
            }
        }
    }

    fn request(&mut self, request_id: i32, request: Request, access: Access) -> Vec<Effect> {
        let answered = match request {
            Request::OpenStream { stream_id } => {
                return self.open_stream(request_id, stream_id, access);
            }
            Request::CloseStream { stream_id } => {
                return self.close_stream(request_id, stream_id);
            }
            Request::StoreSql { sql_id, sql } => {
                match self.stored.store(sql_id, sql, &self.limits) {
                    Ok(()) => {
                        Ok(Effect::Send(ok(request_id, Response::Stream(StreamResponse::StoreSql))))
                    }
                    Err(StoreError::Full(error)) => Err(error),
                    Err(StoreError::InUse) => {
                        return self.violated(format!("SQL id {sql_id} is in use"));
                    }
                }
            }
            Request::CloseSql { sql_id } => {
                self.stored.close(sql_id);
                Ok(Effect::Send(ok(request_id, Response::Stream(StreamResponse::CloseSql))))
            }
            Request::Execute { stream_id, stmt } => self.on_stream(stream_id).and_then(|()| {
                let work = Work::Execute(self.stored.step(stmt)?);
                Ok(Effect::Work { stream_id, request_id, work })
            }),
            Request::Batch { stream_id, batch } => self.on_stream(stream_id).and_then(|()| {
                let work = Work::Batch(self.stored.steps(batch)?);
                Ok(Effect::Work { stream_id, request_id, work })
            }),
            Request::Sequence { stream_id, sql } => self.on_stream(stream_id).and_then(|()| {
                let work = Work::Sequence(self.stored.text(sql)?);
                Ok(Effect::Work { stream_id, request_id, work })
            }),
            Request::Describe { stream_id, sql } => self.on_stream(stream_id).and_then(|()| {
                let work = Work::Describe(self.stored.text(sql)?);
                Ok(Effect::Work { stream_id, request_id, work })
            }),
            Request::GetAutocommit { stream_id } => self
                .on_stream(stream_id)
                .map(|()| Effect::Work { stream_id, request_id, work: Work::GetAutocommit }),
            Request::OpenCursor { stream_id, cursor_id, batch } => {
                if self.cursors.contains_key(&cursor_id) {
                    return self.violated(format!("cursor id {cursor_id} is in use"));
                }
                let ready = self.on_stream(stream_id).and_then(|()| {
                    if self.cursors.len() >= self.limits.cursors_per_connection {
                        return Err(Error::caller(
                            codes::CURSOR_LIMIT,
                            format!("{} cursors are open", self.cursors.len()),
                        ));
                    }
                    self.stored.steps(batch)
                });
                // A failed cursor keeps its id, but not beyond the limit of what is remembered.
                if self.cursors.len() < self.limits.cursors_per_connection {
                    self.cursors.insert(cursor_id, ready.is_ok().then_some(stream_id));
                }
                ready.map(|steps| Effect::OpenCursor { stream_id, cursor_id, request_id, steps })
            }
            Request::FetchCursor { cursor_id, max_count } => match self.cursors.get(&cursor_id) {
                Some(Some(_)) => {
                    let max_count = (max_count as usize).min(self.limits.fetch_entries);
                    Ok(Effect::Fetch { cursor_id, request_id, max_count })
                }
                Some(None) | None => Err(Error::caller(
                    codes::CURSOR_UNKNOWN,
                    format!("cursor {cursor_id} is not open"),
                )),
            },
            Request::CloseCursor { cursor_id } => {
                self.cursors.remove(&cursor_id);
                return vec![
                    Effect::CloseCursor { cursor_id },
                    Effect::Send(ok(request_id, Response::CloseCursor)),
                ];
            }
        };
        vec![
            answered.unwrap_or_else(|error| {
                Effect::Send(ServerMsg::ResponseError { request_id, error })
            }),
        ]
    }

    fn open_stream(&mut self, request_id: i32, stream_id: i32, access: Access) -> Vec<Effect> {
        if self.streams.contains_key(&stream_id) {
            return self.violated(format!("stream id {stream_id} is in use"));
        }
        if self.open_streams >= self.limits.streams_per_connection {
            // Failed ids are remembered too; a client that only opens is cut off.
            if self.streams.len() >= 2 * self.limits.streams_per_connection {
                return self.violated("too many stream ids are in use".into());
            }
            let error = Error::caller(
                codes::STREAM_LIMIT,
                format!("{} streams are open on this connection", self.open_streams),
            );
            self.streams.insert(stream_id, Slot::Failed(error.clone()));
            return vec![Effect::Send(ServerMsg::ResponseError { request_id, error })];
        }
        self.streams.insert(stream_id, Slot::Open);
        self.open_streams += 1;
        // The answer does not wait for the connection: if it cannot be opened, each request on
        // the stream says why, as the protocol allows.
        vec![Effect::Open { stream_id, access }, Effect::Send(ok(request_id, Response::OpenStream))]
    }

    fn close_stream(&mut self, request_id: i32, stream_id: i32) -> Vec<Effect> {
        match self.streams.remove(&stream_id) {
            Some(Slot::Open) => {
                self.open_streams -= 1;
                let of_stream = |of: &Option<i32>| *of == Some(stream_id);
                let mut cursors: Vec<i32> = self
                    .cursors
                    .iter()
                    .filter_map(|(id, of)| of_stream(of).then_some(*id))
                    .collect();
                cursors.sort_unstable();
                let mut effects = Vec::with_capacity(cursors.len() + 1);
                for cursor_id in cursors {
                    // The id stays in use until the client closes it.
                    self.cursors.insert(cursor_id, None);
                    effects.push(Effect::CloseCursor { cursor_id });
                }
                effects.push(Effect::CloseStream { stream_id, request_id });
                effects
            }
            Some(Slot::Failed(_)) | None => {
                vec![Effect::Send(ok(request_id, Response::Stream(StreamResponse::Close)))]
            }
        }
    }

    fn on_stream(&self, stream_id: i32) -> Result<(), Error> {
        match self.streams.get(&stream_id) {
            Some(Slot::Open) => Ok(()),
            Some(Slot::Failed(error)) => Err(error.clone()),
            None => {
                Err(Error::caller(codes::STREAM_UNKNOWN, format!("stream {stream_id} is not open")))
            }
        }
    }
}

/// Why a page in a browser gets nothing from a database that wants no token: any page could
/// reach it on its visitor's machine.
pub(crate) fn page() -> Error {
    Error::caller(codes::ORIGIN, "a page in a browser needs a token for this database")
}

fn ok(request_id: i32, response: Response) -> ServerMsg {
    ServerMsg::ResponseOk { request_id, response }
}
