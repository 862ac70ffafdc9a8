//! The streams of HTTP clients, between their requests.
//!
//! A stream is in the table only while no request uses it, and only under the sequence number
//! that its latest baton names: a baton opens it once.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Duration;

use crate::baton::Baton;
use crate::service::Shared;
use crate::stored_sql::StoredSql;
use crate::stream::{self, Cancel, StreamHandle};
use crate::{Access, Error, codes};

/// One HTTP client's stream. Dropping it closes the connection.
pub struct HttpStream {
    id: u64,
    sequence: u64,
    access: Access,
    pub handle: StreamHandle,
    pub stored: StoredSql,
    _cancel: Cancel,
    _permit: OwnedSemaphorePermit,
}

pub struct HttpStreams {
    waiting: Mutex<FxHashMap<u64, HttpStream>>,
    room: Arc<Semaphore>,
}

impl HttpStreams {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::default(), room: Arc::new(Semaphore::new(limit)) })
    }
}

/// The stream of a request: a new one without a baton, else the one it names.
pub fn take(shared: &Shared, baton: Option<&str>, access: Access) -> Result<HttpStream, Error> {
    let Some(baton) = baton else { return open(shared, access) };
    let baton = shared.batons.verify(baton, now())?;
    let mut waiting = shared.streams.waiting.lock();
    match waiting.get(&baton.stream) {
        Some(stream) if stream.sequence != baton.sequence => Err(Error::caller(
            codes::BATON_USED,
            "the baton was used before: send a stream's requests one after the other",
        )),
        Some(stream) if stream.access != access => Err(Error::caller(
            codes::AUTH_CHANGED,
            "the stream was opened with a token that allows something else",
        )),
        Some(_) => waiting.remove(&baton.stream).ok_or_else(unknown),
        None => Err(unknown()),
    }
}

fn unknown() -> Error {
    Error::caller(
        codes::STREAM_EXPIRED,
        "the stream is not here: it has expired, is closed, or has another request running",
    )
}

fn open(shared: &Shared, access: Access) -> Result<HttpStream, Error> {
    let permit = Arc::clone(&shared.streams.room).try_acquire_owned().map_err(|_| {
        Error::platform(codes::STREAM_LIMIT, "too many streams are open on this database")
            .retryable()
    })?;
    let id = getrandom::u64()
        .map_err(|_| Error::platform("INTERNAL", "the system gives no random bytes"))?;
    let cancel = Cancel::default();
    let streams = Arc::downgrade(&shared.streams);
    let on_end = Box::new(move || {
        // Bound first: the lock must be free when the stream is dropped.
        let ended = streams.upgrade().and_then(|streams| streams.waiting.lock().remove(&id));
        drop(ended);
    });
    let idle = shared.limits.http_stream_idle;
    let handle = stream::open(&shared.backend, access, &shared.limits, idle, &cancel, Some(on_end));
    Ok(HttpStream {
        id,
        sequence: 0,
        access,
        handle,
        stored: StoredSql::default(),
        _cancel: cancel,
        _permit: permit,
    })
}

/// Keeps a stream for its next request. `longest` is how much longer than the idle time the
/// client may need until it can use the baton.
pub fn keep(shared: &Shared, mut stream: HttpStream, longest: Duration) -> String {
    stream.sequence += 1;
    let lives = shared.limits.http_stream_idle + longest;
    let expires = now() + u64::try_from(lives.as_millis()).unwrap_or(u64::MAX / 2);
    let baton = Baton { stream: stream.id, sequence: stream.sequence, expires };
    let mut waiting = shared.streams.waiting.lock();
    if !stream.handle.is_closed() {
        waiting.insert(stream.id, stream);
    }
    drop(waiting);
    shared.batons.sign(baton)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX / 2)
}
