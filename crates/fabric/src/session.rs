//! The life of a link after the welcome: heartbeats, the member table, parked channels, goodbye.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use crate::Error;
use crate::channel::{Channel, Guard};
use crate::control::Message;
use crate::link::{Link, PARK, PARKED, request};
use crate::message::{MessageReceiver, MessageSender};
use crate::shared::Shared;

/// Control messages waiting to be sent.
pub(crate) const CONTROL_QUEUE: usize = 64;
/// Heartbeats between two tellings of an unchanged table.
const TELL_EVERY: u64 = 20;
/// Heartbeats whose answer is still awaited.
const PENDING_PINGS: usize = 16;
/// After the other side's goodbye, calls and streams may go on for so long.
const GOODBYE_GRACE: Duration = Duration::from_secs(30);

pub(crate) struct Session {
    pub link: Arc<Link>,
    pub tx: MessageSender,
    pub rx: MessageReceiver,
    pub outbox: mpsc::Receiver<Message>,
    /// The dialing side parks channels by this.
    pub parks: Option<SendRequest<Bytes>>,
}

impl Session {
    /// Tells the dialing side that it is in.
    pub async fn welcome(mut self, shared: &Shared) -> Result<Self, Error> {
        self.tx.send(Message::Welcome(shared.hello()).encode()?).await?;
        Ok(self)
    }

    /// Runs until the link ends, and says so.
    pub async fn run(self, shared: Arc<Shared>) {
        let Self { link, tx, rx, outbox, parks } = self;
        let slots = Arc::new(Semaphore::new(PARKED.min(link.wire.limits.max_channels)));
        shared.tasks.spawn(write(link.clone(), tx, outbox));
        if let Some(requests) = parks {
            shared.tasks.spawn(park(shared.clone(), link.clone(), requests, slots.clone()));
        }
        if let Err(error) = (Control { shared: &shared, link: &link, slots }).run(rx).await {
            link.wire.end(error.to_string());
        }
        link.wire.end("closed");
        shared.ended(&link);
    }
}

/// Sends what is queued.
async fn write(link: Arc<Link>, mut tx: MessageSender, mut outbox: mpsc::Receiver<Message>) {
    let wire = &link.wire;
    let all = async {
        while let Some(message) = outbox.recv().await {
            tx.send(message.encode()?).await?;
        }
        Ok::<(), Error>(())
    };
    tokio::select! {
        sent = all => if let Err(error) = sent { wire.end(error.to_string()) },
        () = wire.close.cancelled() => {}
    }
}

/// Keeps channels parked at the accepting side, and serves those it takes.
async fn park(
    shared: Arc<Shared>,
    link: Arc<Link>,
    requests: SendRequest<Bytes>,
    slots: Arc<Semaphore>,
) {
    loop {
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = link.wire.close.cancelled() => return,
        };
        let Ok(slot) = slot else { return };
        let parked = requests
            .clone()
            .ready()
            .await
            .and_then(|mut requests| requests.send_request(request(PARK), false));
        let Ok((answer, stream)) = parked else { return };
        let (shared, link) = (shared.clone(), link.clone());
        shared.tasks.clone().spawn(async move {
            let Ok(taken) = answer.await else { return };
            drop(slot);
            let guard = Guard::counted(&link.wire, None);
            let channel = Channel::open(guard, taken.into_body(), stream);
            shared.handlers.serve(&link, channel).await;
        });
    }
}

struct Control<'a> {
    shared: &'a Arc<Shared>,
    link: &'a Arc<Link>,
    slots: Arc<Semaphore>,
}

impl Control<'_> {
    async fn run(&self, mut rx: MessageReceiver) -> Result<(), Error> {
        let wire = &self.link.wire;
        let mut table = self.shared.table.subscribe();
        let mut beat = tokio::time::interval(self.shared.config.timing.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pings: VecDeque<(u64, Instant)> = VecDeque::new();
        let (mut beats, mut drained, mut they_drained) = (0u64, false, false);
        self.tell();
        loop {
            tokio::select! {
                () = wire.close.cancelled() => return Ok(()),
                message = rx.recv() => match message? {
                    Some(bytes) => match Message::decode(&bytes)? {
                        Message::Pong { seq } => {
                            if let Some(at) = pings.iter().position(|(sent, _)| *sent == seq) {
                                self.link.measured(pings[at].1.elapsed());
                                pings.drain(..=at);
                            }
                        }
                        Message::Drained => they_drained = true,
                        message => self.handle(message)?,
                    },
                    None => return Ok(()),
                },
                _ = beat.tick() => {
                    beats += 1;
                    pings.push_back((beats, Instant::now()));
                    if pings.len() > PENDING_PINGS {
                        pings.pop_front();
                    }
                    self.say(Message::Ping { seq: beats });
                    let news = table.has_changed().unwrap_or(false);
                    if news || beats % TELL_EVERY == 0 {
                        table.mark_unchanged();
                        self.tell();
                    }
                }
                () = wire.channels.wait(), if !drained => {
                    drained = true;
                    self.say(Message::Drained);
                }
            }
            if drained && they_drained {
                wire.end("goodbye");
                return Ok(());
            }
        }
    }

    fn handle(&self, message: Message) -> Result<(), Error> {
        match message {
            Message::Ping { seq } => self.say(Message::Pong { seq }),
            Message::Members { members } => {
                for hearsay in members.into_iter().take(crate::config::MAX_MEMBERS) {
                    self.shared.decide(|core, now| core.learned(now, hearsay));
                }
            }
            Message::Park { more } => {
                let most = self.link.wire.limits.max_channels;
                let room = most.saturating_sub(self.slots.available_permits());
                self.slots.add_permits(more.min(room));
            }
            Message::Goodbye { leaving } => {
                self.shared.retire(self.link, false, GOODBYE_GRACE);
                if leaving {
                    self.shared.decide(|core, now| core.left(now, &self.link.record.node));
                }
            }
            Message::Pong { .. } | Message::Drained => {}
            Message::Hello(_) | Message::Welcome(_) | Message::Refused { .. } => {
                return Err(Error::Protocol("a hello in the middle".to_owned()));
            }
        }
        Ok(())
    }

    /// A full queue means that the other side takes nothing; its silence will show.
    fn say(&self, message: Message) {
        let _ = self.link.control.try_send(message);
    }

    fn tell(&self) {
        let members = self.shared.core.lock().hearsay(self.shared.now());
        self.say(Message::Members { members });
    }
}
