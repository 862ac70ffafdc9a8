//! A message stream: length-prefixed messages of bounded size, both ways, with back-pressure
//! from the reading application to the sending one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use verge_types::PopName;

use crate::channel::{Channel, Receiver, Sender};
use crate::frame::{self, Decoder};
use crate::metrics::Counters;
use crate::{Error, NodeId, Peer};

/// A long-lived stream of messages to or from another node.
pub struct MessageStream {
    peer: Peer,
    sender: MessageSender,
    receiver: MessageReceiver,
}

impl MessageStream {
    pub(crate) fn new(peer: Peer, channel: Channel, limit: usize, rest: Bytes) -> Self {
        let counters = Some(channel.tx.wire().counters.clone());
        let sender =
            MessageSender { tx: channel.tx, limit, broken: false, counters: counters.clone() };
        let receiver = MessageReceiver::new(channel.rx, limit, rest, counters);
        Self { peer, sender, receiver }
    }

    /// Who is at the other end.
    pub fn node(&self) -> &NodeId {
        &self.peer.node
    }

    pub fn pop(&self) -> &PopName {
        &self.peer.pop
    }

    /// See [`MessageSender::send`].
    pub async fn send(&mut self, message: Bytes) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// See [`MessageReceiver::recv`].
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        self.receiver.recv().await
    }

    /// Ends this direction and waits for the other side to end its own: then everything has
    /// arrived. What still comes is dropped. Put a deadline around it.
    pub async fn close(self) -> Result<(), Error> {
        let (sender, mut receiver) = self.split();
        let _open = sender.finish()?;
        while receiver.recv().await?.is_some() {}
        Ok(())
    }

    /// Two halves, for two tasks. Either end resets the stream when both its halves are dropped
    /// before both ends have finished.
    pub fn split(self) -> (MessageSender, MessageReceiver) {
        (self.sender, self.receiver)
    }
}

/// The sending half.
pub struct MessageSender {
    tx: Sender,
    limit: usize,
    /// A message was sent in part.
    broken: bool,
    counters: Option<Arc<Counters>>,
}

impl MessageSender {
    pub(crate) fn control(tx: Sender, limit: usize) -> Self {
        Self { tx, limit, broken: false, counters: None }
    }

    /// Waits until the other side has room for the whole message. Not cancel-safe: if the future
    /// is dropped half-way the stream is of no more use, and the next send says so.
    ///
    /// A message over the limit is refused ([`Error::TooLarge`]) and the stream goes on. A reader
    /// that takes nothing for `send_stall` ends it ([`Error::Stalled`]).
    pub async fn send(&mut self, message: Bytes) -> Result<(), Error> {
        if self.broken {
            self.tx.reset();
            return Err(Error::Interrupted);
        }
        let (head, tail) = frame::encode(message, self.limit).inspect_err(|_| {
            self.counters.iter().for_each(|counters| counters.messages_refused.one());
        })?;
        self.broken = true;
        self.tx.send(head).await?;
        self.tx.send(tail).await?;
        self.broken = false;
        self.counters.iter().for_each(|counters| counters.messages_out.one());
        Ok(())
    }

    /// The clean end of this direction; the other one goes on. Keep what is returned or the
    /// receiver until the other side has ended too: dropping both resets the stream, and what
    /// has not been read yet is lost.
    pub fn finish(mut self) -> Result<Finished, Error> {
        self.tx.finish()?;
        Ok(Finished(self.tx))
    }

    /// Returns when the other side gave the stream up or the connection ended.
    pub async fn closed(&mut self) -> Error {
        self.tx.reset_by_peer().await
    }
}

/// A direction that has ended cleanly.
#[must_use = "dropped together with the receiver it resets the stream"]
pub struct Finished(#[expect(dead_code, reason = "kept for its drop")] Sender);

/// The receiving half.
pub struct MessageReceiver {
    rx: Receiver,
    decoder: Decoder,
    stall: Duration,
    counters: Option<Arc<Counters>>,
}

impl MessageReceiver {
    pub(crate) fn new(
        rx: Receiver,
        limit: usize,
        rest: Bytes,
        counters: Option<Arc<Counters>>,
    ) -> Self {
        let mut decoder = Decoder::new(limit);
        decoder.push(rest);
        Self { rx, decoder, stall: crate::config::SEND_STALL, counters }
    }

    /// The next message; `None` is the clean end. Cancel-safe. Waits without limit between
    /// messages (a dead connection is found by its heartbeats), but a message that has begun
    /// must go on.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => {
                    self.counters.iter().for_each(|counters| counters.messages_in.one());
                    return Ok(Some(message));
                }
                Ok(None) => {}
                Err(error) => {
                    self.counters.iter().for_each(|counters| counters.messages_refused.one());
                    return Err(error.into());
                }
            }
            let data = if self.decoder.is_between_messages() {
                self.rx.data().await
            } else {
                tokio::time::timeout(self.stall, self.rx.data())
                    .await
                    .map_err(|_| Error::Stalled(self.stall))?
            };
            match data {
                Some(bytes) => self.decoder.push(bytes?),
                None if self.decoder.is_between_messages() => return Ok(None),
                None => return Err(Error::Truncated),
            }
        }
    }
}
