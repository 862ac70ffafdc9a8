//! Moves the messages of an accepted WebSocket between the client and the app's queues.
//!
//! Framing, masking, UTF-8 and close codes are tungstenite's. Ours are: back-pressure both
//! ways (a full queue stops reading, a full socket stops taking from the app), pings, idle
//! limit, the end.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::Response;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use verge_types::{Body, WebSocketMessage};

use crate::connection::{Connection, Stage};
use crate::handshake::Offer;
use crate::vitals::Progress;

type Ends = (mpsc::Sender<WebSocketMessage>, mpsc::Receiver<WebSocketMessage>);
type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// No close frame, or one without a code (RFC 6455, section 7.1.5).
const NO_CODE: u16 = 1005;
const GOING_AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const INVALID_TEXT: u16 = 1007;
const TOO_BIG: u16 = 1009;
const INTERNAL_ERROR: u16 = 1011;
/// What a control frame's 125 bytes leave beside the code.
const MAX_REASON: usize = 123;
/// Outgoing bytes collected before they are written.
const WRITE_BUFFER: usize = 16 * 1024;

/// Answers the handshake and starts moving messages as soon as the protocol has switched.
pub fn accept(
    connection: &Arc<Connection>,
    offer: Offer,
    mut response: Response<Body>,
    ends: Ends,
    max_message: Option<usize>,
) -> Response<Body> {
    offer.confirm(&mut response);
    let connection = Arc::clone(connection);
    tokio::spawn(async move {
        // An error here is a client that left before the 101: the ends drop, the app sees it.
        if let Ok(upgraded) = offer.on_upgrade.await {
            connection.config().metrics.websocket_opened();
            run(&connection, upgraded, ends, max_message).await;
            connection.config().metrics.websocket_closed();
        }
    });
    response
}

/// Why the reader stopped.
enum ReadEnd {
    /// The client closed; the answer is on its way.
    Closed,
    /// The client went away without a close frame.
    Gone,
    /// The client broke a rule: the code to close with.
    Failed(u16, &'static str),
}

/// Why the writer stopped.
enum WriteEnd {
    /// The app sent its close frame.
    Closed,
    /// The app dropped its end without one.
    Dropped,
    /// The client is gone, or takes no bytes, or says nothing.
    Dead,
    /// The listener stops.
    Draining,
}

/// When the client was last heard of, as the reader tells the writer.
struct Pulse(std::sync::Mutex<(Instant, bool)>);

impl Pulse {
    fn beat(&self, app_is_slow: bool) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            (Instant::now(), app_is_slow);
    }

    /// How long nothing came although we were reading.
    fn silence(&self) -> Duration {
        let (last, app_is_slow) = *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if app_is_slow { Duration::ZERO } else { last.elapsed() }
    }
}

async fn run(
    connection: &Connection,
    upgraded: Upgraded,
    (to_app, mut from_app): Ends,
    max_message: Option<usize>,
) {
    let config = connection.config();
    let max_message = max_message.unwrap_or(config.ws_max_message);
    let limits = WebSocketConfig::default()
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(2 * WRITE_BUFFER + max_message);
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let (mut sink, mut stream) = socket.split();
    let pulse = Pulse(std::sync::Mutex::new((Instant::now(), false)));

    let progress = connection.progress();
    let mut reading = Box::pin(read(&mut stream, to_app.clone(), &pulse, &progress));
    let cutting = connection.shared().reaches(Stage::Cutting);
    tokio::pin!(cutting);
    let mut write_end = None;
    let mut read_end = None;
    {
        let writing = write(&mut sink, &mut from_app, connection, &pulse);
        tokio::pin!(writing);
        tokio::select! {
            end = &mut reading => read_end = Some(end),
            end = &mut writing => write_end = Some(end),
            () = &mut cutting => return,
        }
    }
    let patience = config.ws_close_timeout;
    match (read_end, write_end) {
        (Some(ReadEnd::Closed), _) => {
            // What the app still says is for nobody; tungstenite has queued the echo.
            drop(from_app);
            let _ = timeout(patience, sink.close()).await;
        }
        (Some(ReadEnd::Failed(code, why)), _) => {
            let told = WebSocketMessage::Close { code, reason: why.to_owned() };
            let _ = timeout(patience, to_app.send(told)).await;
            let _ = timeout(patience, close(&mut sink, code, why)).await;
        }
        (Some(ReadEnd::Gone), _) | (_, Some(WriteEnd::Dead | WriteEnd::Dropped)) => {}
        (_, Some(WriteEnd::Draining)) => {
            let _ = timeout(patience, close(&mut sink, GOING_AWAY, "the server stops")).await;
            let _ = timeout(patience, &mut reading).await;
        }
        (_, Some(WriteEnd::Closed)) => {
            let _ = timeout(patience, &mut reading).await;
        }
        (None, None) => {}
    }
    drop(reading);
    // Ends the transport in good order; dropping alone would reset an HTTP/2 stream.
    if let Ok(mut socket) = sink.reunite(stream) {
        let _ = timeout(patience, socket.get_mut().shutdown()).await;
    }
}

/// Client to app. Reads only while the app's queue has room.
async fn read(
    stream: &mut SplitStream<Socket>,
    to_app: mpsc::Sender<WebSocketMessage>,
    pulse: &Pulse,
    progress: &Progress,
) -> ReadEnd {
    // Once the app no longer listens, messages are read and dropped until the close frame.
    let mut listening = true;
    loop {
        let room = if listening {
            if to_app.capacity() == 0 {
                pulse.beat(true);
            }
            let room = to_app.reserve().await.ok();
            pulse.beat(false);
            listening = room.is_some();
            room
        } else {
            None
        };
        let message = match next(stream, pulse).await {
            Ok(message) => message,
            Err(end) => return end,
        };
        progress.made();
        let closed = matches!(message, WebSocketMessage::Close { .. });
        if let Some(room) = room {
            room.send(message);
        }
        if closed {
            return ReadEnd::Closed;
        }
    }
}

/// The next message that is the app's business.
async fn next(
    stream: &mut SplitStream<Socket>,
    pulse: &Pulse,
) -> Result<WebSocketMessage, ReadEnd> {
    loop {
        let message = match stream.next().await {
            None => return Err(ReadEnd::Gone),
            Some(Err(error)) => return Err(failure(&error)),
            Some(Ok(message)) => message,
        };
        pulse.beat(false);
        return Ok(match message {
            Message::Text(text) => WebSocketMessage::Text(text.as_str().to_owned()),
            Message::Binary(bytes) => WebSocketMessage::Binary(bytes),
            Message::Close(Some(frame)) => WebSocketMessage::Close {
                code: frame.code.into(),
                reason: frame.reason.as_str().to_owned(),
            },
            Message::Close(None) => {
                WebSocketMessage::Close { code: NO_CODE, reason: String::new() }
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        });
    }
}

fn failure(error: &WsError) -> ReadEnd {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
            ReadEnd::Failed(TOO_BIG, "the message is too long")
        }
        WsError::Utf8(_) => ReadEnd::Failed(INVALID_TEXT, "the text is not UTF-8"),
        WsError::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => ReadEnd::Gone,
        WsError::Protocol(_) => ReadEnd::Failed(PROTOCOL_ERROR, "the frame breaks the protocol"),
        _ => ReadEnd::Gone,
    }
}

/// App to client. Takes from the app only while the socket takes from us.
async fn write(
    sink: &mut SplitSink<Socket, Message>,
    from_app: &mut mpsc::Receiver<WebSocketMessage>,
    connection: &Connection,
    pulse: &Pulse,
) -> WriteEnd {
    let config = connection.config();
    let stall = config.write_stall_timeout;
    let mut ping_at = TokioInstant::now() + config.ws_ping_interval;
    let mut changed = std::pin::pin!(connection.shared().stage_changed.notified());
    loop {
        if connection.draining() {
            return WriteEnd::Draining;
        }
        let sent = tokio::select! {
            biased;
            message = from_app.recv() => match message {
                None => return WriteEnd::Dropped,
                Some(WebSocketMessage::Close { code, reason }) => {
                    let _ = timeout(stall, close(sink, sendable(code), &reason)).await;
                    return WriteEnd::Closed;
                }
                Some(message) => timeout(stall, sink.send(outgoing(message))).await,
            },
            () = sleep_until(ping_at) => {
                if pulse.silence() >= config.ws_idle_timeout {
                    return WriteEnd::Dead;
                }
                ping_at = TokioInstant::now() + config.ws_ping_interval;
                timeout(stall, sink.send(Message::Ping(Vec::new().into()))).await
            },
            () = &mut changed => {
                changed.set(connection.shared().stage_changed.notified());
                continue;
            }
        };
        match sent {
            Ok(Ok(())) => connection.moved(),
            Ok(Err(_)) | Err(_) => return WriteEnd::Dead,
        }
    }
}

fn outgoing(message: WebSocketMessage) -> Message {
    match message {
        WebSocketMessage::Text(text) => Message::Text(text.into()),
        WebSocketMessage::Binary(bytes) => Message::Binary(bytes),
        WebSocketMessage::Close { code, reason } => Message::Close(Some(frame(code, &reason))),
    }
}

async fn close(
    sink: &mut SplitSink<Socket, Message>,
    code: u16,
    reason: &str,
) -> Result<(), WsError> {
    let frame = (code != NO_CODE).then(|| frame(code, reason));
    sink.send(Message::Close(frame)).await
}

fn frame(code: u16, reason: &str) -> CloseFrame {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    CloseFrame {
        code: CloseCode::from(code),
        reason: Cow::Borrowed(&reason[..end]).as_ref().into(),
    }
}

/// The app's close code if it may be sent, else one that says it erred.
fn sendable(code: u16) -> u16 {
    match code {
        1000..=1003 | NO_CODE | 1007..=1014 | 3000..=4999 => code,
        _ => INTERNAL_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_a_control_frame_and_stay_text() {
        assert_eq!(frame(1000, "bye").reason.as_str(), "bye");
        let long = "é".repeat(100);
        assert_eq!(frame(1000, &long).reason.as_str().len(), 122);
    }

    #[test]
    fn codes_that_may_not_be_sent_are_not() {
        for (given, sent) in [(1000, 1000), (1006, 1011), (0, 1011), (1015, 1011), (4999, 4999)] {
            assert_eq!(sendable(given), sent);
        }
    }
}
