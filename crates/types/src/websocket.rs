//! How an accepted WebSocket travels between the listener and an isolate.

use std::fmt;

use bytes::Bytes;
use tokio::sync::mpsc;

/// Messages buffered in each direction before the sender waits.
pub const WEBSOCKET_QUEUE: usize = 64;

/// One whole message. Ping and pong are the listener's business and never pass here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebSocketMessage {
    Text(String),
    Binary(Bytes),
    /// The last message of its direction.
    Close {
        code: u16,
        reason: String,
    },
}

/// Put into the extensions of a `101` response to accept a WebSocket.
///
/// Dropping either end without a `Close` is an abnormal closure (1006 for whoever is left).
#[derive(Clone)]
pub struct WebSocketAccept {
    ends: std::sync::Arc<std::sync::Mutex<Option<Ends>>>,
    max_message: Option<usize>,
}

/// The listener's ends of the two queues.
type Ends = (mpsc::Sender<WebSocketMessage>, mpsc::Receiver<WebSocketMessage>);

impl WebSocketAccept {
    /// `to_app` takes what the client sent; `from_app` yields what the app sends.
    pub fn new(
        to_app: mpsc::Sender<WebSocketMessage>,
        from_app: mpsc::Receiver<WebSocketMessage>,
    ) -> Self {
        let ends = std::sync::Arc::new(std::sync::Mutex::new(Some((to_app, from_app))));
        Self { ends, max_message: None }
    }

    /// The largest message of either direction, in bytes, where the listener's own limit is not
    /// what this protocol needs.
    #[must_use]
    pub fn with_max_message(self, bytes: usize) -> Self {
        Self { max_message: Some(bytes), ..self }
    }

    pub fn max_message(&self) -> Option<usize> {
        self.max_message
    }

    /// Takes the ends; `None` the second time. (Extensions must be `Clone`, queues are not.)
    pub fn take(&self) -> Option<Ends> {
        self.ends.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

impl fmt::Debug for WebSocketAccept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebSocketAccept")
    }
}
