//! Drives a [`Session`]: messages of a WebSocket in, streams, cursors and answers out.
//!
//! Back-pressure: each request holds a permit until its answer is in the outgoing queue, and
//! nothing is read without one, so a client that does not read stops being read.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Duration, Instant, sleep_until};
use verge_types::WebSocketMessage;

use crate::rows::{Budget, CursorQueue};
use crate::session::{Effect, Session, close};
use crate::stored_sql::Work;
use crate::stream::{self, Cancel, Reply, StreamHandle};
use crate::{Backend, ClientMsg, Encoding, Error, Limits, Response, ServerMsg, Tokens, codes};

/// What a connection needs.
pub struct Parts {
    pub backend: Arc<dyn Backend>,
    pub tokens: Arc<dyn Tokens>,
    pub limits: Arc<Limits>,
    pub encoding: Encoding,
    pub from_page: bool,
}

/// Runs until either side closes. Dropping what it owns ends the streams.
pub async fn run(
    parts: Parts,
    mut from_client: mpsc::Receiver<WebSocketMessage>,
    to_client: mpsc::Sender<WebSocketMessage>,
) {
    let Parts { backend, tokens, limits, encoding, from_page } = parts;
    let outstanding = Arc::new(Semaphore::new(limits.outstanding_requests.max(1)));
    let mut session = Session::new(tokens, Arc::clone(&limits), from_page);
    let mut driver = Driver {
        backend,
        limits: Arc::clone(&limits),
        outbox: Outbox { encoding, max_bytes: limits.message_bytes, to_client },
        cancel: Cancel::default(),
        streams: FxHashMap::default(),
        cursors: FxHashMap::default(),
    };
    let hello_by = Instant::now() + limits.hello;
    let mut verify_at = Instant::now() + limits.reverify;
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&outstanding).acquire_owned() => permit,
            () = driver.outbox.to_client.closed() => return,
        };
        let Ok(permit) = permit else { return };
        let effects = tokio::select! {
            message = from_client.recv() => match message {
                None => return,
                Some(message) => match read(encoding, &limits, message) {
                    Incoming::Message(message) => session.receive(message),
                    Incoming::Broken(code, reason) => session.disconnect(code, reason),
                    Incoming::Closed => {
                        driver.outbox.close(close::NORMAL, String::new()).await;
                        return;
                    }
                },
            },
            () = sleep_until(hello_by), if !session.is_known() => {
                session.disconnect(close::POLICY, "no hello came".into())
            }
            () = sleep_until(verify_at) => {
                verify_at = Instant::now() + limits.reverify.max(Duration::from_millis(1));
                session.verify_again()
            }
            () = driver.outbox.to_client.closed() => return,
        };
        if driver.carry_out(effects, permit).await.is_err() {
            return;
        }
    }
}

enum Incoming {
    Message(ClientMsg),
    Broken(u16, String),
    Closed,
}

fn read(encoding: Encoding, limits: &Limits, message: WebSocketMessage) -> Incoming {
    let (bytes, fits) = match message {
        WebSocketMessage::Text(text) => {
            (bytes::Bytes::from(text.into_bytes()), encoding == Encoding::Json)
        }
        WebSocketMessage::Binary(bytes) => (bytes, encoding == Encoding::Protobuf),
        WebSocketMessage::Close { .. } => return Incoming::Closed,
    };
    if !fits {
        let reason = match encoding {
            Encoding::Json => "this subprotocol has text messages only",
            Encoding::Protobuf => "this subprotocol has binary messages only",
        };
        return Incoming::Broken(close::UNSUPPORTED, reason.into());
    }
    if bytes.len() > limits.message_bytes {
        let reason = format!("a message may have {} bytes", limits.message_bytes);
        return Incoming::Broken(close::TOO_BIG, reason);
    }
    match encoding.read_client(&bytes) {
        Ok(message) => Incoming::Message(message),
        Err(malformed) => Incoming::Broken(close::PROTOCOL, malformed.to_string()),
    }
}

/// Where answers go.
#[derive(Clone)]
struct Outbox {
    encoding: Encoding,
    max_bytes: usize,
    to_client: mpsc::Sender<WebSocketMessage>,
}

/// The client is gone.
struct Gone;

impl Outbox {
    async fn send(&self, message: ServerMsg) -> Result<(), Gone> {
        let request_id = match &message {
            ServerMsg::ResponseOk { request_id, .. } => *request_id,
            _ => 0,
        };
        let mut bytes = self.encoding.write_server(message);
        // The limits of rows keep this rare: JSON of control characters is six times as long.
        // Only an answer to a request can be that large.
        if bytes.len() > self.max_bytes {
            let error = Error::caller(
                codes::RESPONSE_TOO_LARGE,
                "the result is too large for one message: use a cursor, or ask for less",
            );
            bytes = self.encoding.write_server(ServerMsg::ResponseError { request_id, error });
        }
        let message = match self.encoding {
            // What is written is UTF-8 by construction.
            Encoding::Json => match String::from_utf8(bytes) {
                Ok(text) => WebSocketMessage::Text(text),
                Err(_) => return Err(Gone),
            },
            Encoding::Protobuf => WebSocketMessage::Binary(bytes.into()),
        };
        self.to_client.send(message).await.map_err(|_| Gone)
    }

    async fn close(&self, code: u16, reason: String) {
        let _ = self.to_client.send(WebSocketMessage::Close { code, reason }).await;
    }

    /// Answers a request with what a stream says; holds the permit until then.
    fn reply(&self, request_id: i32, permit: Option<OwnedSemaphorePermit>) -> Reply {
        let outbox = self.clone();
        Box::new(move |answer| {
            Box::pin(async move {
                let message = match answer {
                    Ok(told) => {
                        ServerMsg::ResponseOk { request_id, response: Response::Stream(told) }
                    }
                    Err(error) => ServerMsg::ResponseError { request_id, error },
                };
                let _ = outbox.send(message).await;
                drop(permit);
            })
        })
    }
}

struct Driver {
    backend: Arc<dyn Backend>,
    limits: Arc<Limits>,
    outbox: Outbox,
    cancel: Cancel,
    streams: FxHashMap<i32, StreamHandle>,
    cursors: FxHashMap<i32, Cursor>,
}

impl Driver {
    async fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Gone> {
        let mut permit = Some(permit);
        for effect in effects {
            match effect {
                Effect::Send(message) => self.outbox.send(message).await?,
                Effect::Open { stream_id, access } => {
                    let idle = self.limits.ws_stream_idle;
                    let handle =
                        stream::open(&self.backend, access, &self.limits, idle, &self.cancel, None);
                    self.streams.insert(stream_id, handle);
                }
                Effect::Work { stream_id, request_id, work } => {
                    let reply = self.outbox.reply(request_id, permit.take());
                    if let Some(stream) = self.streams.get(&stream_id)
                        && let Err((reply, error)) =
                            stream.work(work, Budget::new(&self.limits), reply)
                    {
                        reply(Err(error)).await;
                    }
                }
                Effect::CloseStream { stream_id, request_id } => {
                    let reply = self.outbox.reply(request_id, permit.take());
                    if let Some(stream) = self.streams.remove(&stream_id)
                        && let Err((reply, _)) =
                            stream.work(Work::Close, Budget::new(&self.limits), reply)
                    {
                        // Ended by itself before: closed is what the client wants.
                        reply(Ok(crate::StreamResponse::Close)).await;
                    }
                }
                Effect::OpenCursor { stream_id, cursor_id, request_id, steps } => {
                    let queue = CursorQueue::new(&self.limits);
                    let reply = cursor_reply(&self.outbox, request_id, permit.take());
                    if let Some(stream) = self.streams.get(&stream_id)
                        && let Err((reply, error)) = stream.cursor(steps, Arc::clone(&queue), reply)
                    {
                        reply(Err(error)).await;
                        queue.finish();
                    }
                    self.cursors.insert(cursor_id, Cursor::new(queue, self.outbox.clone()));
                }
                Effect::Fetch { cursor_id, request_id, max_count } => {
                    if let Some(cursor) = self.cursors.get(&cursor_id) {
                        cursor.fetch(Fetch { request_id, max_count, permit: permit.take() });
                    }
                }
                Effect::CloseCursor { cursor_id } => {
                    self.cursors.remove(&cursor_id);
                }
                Effect::Disconnect { code, reason } => {
                    self.outbox.close(code, reason).await;
                    return Err(Gone);
                }
            }
        }
        Ok(())
    }
}

/// `open_cursor` is answered when its batch begins to run, or cannot.
fn cursor_reply(outbox: &Outbox, request_id: i32, permit: Option<OwnedSemaphorePermit>) -> Reply {
    let outbox = outbox.clone();
    Box::new(move |begun| {
        Box::pin(async move {
            let message = match begun {
                Ok(_) => ServerMsg::ResponseOk { request_id, response: Response::OpenCursor },
                Err(error) => ServerMsg::ResponseError { request_id, error },
            };
            let _ = outbox.send(message).await;
            drop(permit);
        })
    })
}

struct Fetch {
    request_id: i32,
    max_count: usize,
    permit: Option<OwnedSemaphorePermit>,
}

/// An open cursor: a task that answers its fetches in order. Dropping closes the cursor.
struct Cursor {
    fetches: mpsc::UnboundedSender<Fetch>,
    queue: Arc<CursorQueue>,
}

impl Cursor {
    fn new(queue: Arc<CursorQueue>, outbox: Outbox) -> Self {
        let (fetches, mut wanted) = mpsc::unbounded_channel::<Fetch>();
        let cursor = Self { fetches, queue: Arc::clone(&queue) };
        tokio::spawn(async move {
            while let Some(Fetch { request_id, max_count, permit }) = wanted.recv().await {
                let (entries, done) = queue.fetch(max_count).await;
                let response = Response::FetchCursor { entries, done };
                if outbox.send(ServerMsg::ResponseOk { request_id, response }).await.is_err() {
                    break;
                }
                drop(permit);
            }
        });
        cursor
    }

    fn fetch(&self, fetch: Fetch) {
        // The task ends early only if the client is gone.
        let _ = self.fetches.send(fetch);
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.queue.stop(closed());
        self.queue.finish();
    }
}

pub(crate) fn closed() -> Error {
    Error::caller(codes::CURSOR_CLOSED, "the cursor was closed")
}
