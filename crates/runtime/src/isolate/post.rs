//! Requests on their way to an isolate, and its answers on their way back, in parcels.
//!
//! To wake another thread costs more than a small request's work, so neither side wakes the
//! other once a request. What one turn of the listener's event loop has taken in goes to the
//! isolate together, at the end of the turn; what one slice has answered comes back together.
//!
//! Only a listener's event loop, one with several threads' worth of tasks, carries parcels.
//! An isolate's own loop (of an app that calls another one) never does: it may be busy, or
//! stopped for good, while the answers are none of its business.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Notify, mpsc};
use verge_engine::{Courier, Outgoing};

use crate::app::App;
use crate::event::{Command, Event};

/// Events that leave before the end of the turn, so that both sides work at the same time.
const MAX_PARCEL: usize = 16;

/// The way to one isolate.
pub(crate) struct Post {
    commands: mpsc::UnboundedSender<Command>,
    waiting: Mutex<Waiting>,
    rung: Notify,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    /// A task on a listener's event loop takes them away.
    carried: bool,
}

/// The isolate takes nothing any more.
pub(crate) struct Gone;

impl Post {
    pub fn new(commands: mpsc::UnboundedSender<Command>) -> Arc<Self> {
        Arc::new(Self { commands, waiting: Mutex::default(), rung: Notify::new() })
    }

    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Sends a command at once, after the events that wait.
    pub fn send(&self, command: Command) -> Result<(), Gone> {
        let mut waiting = self.waiting.lock();
        self.hand_over(&mut waiting);
        self.commands.send(command).map_err(|_| Gone)
    }

    /// Sends an event with the others of this turn of the caller's event loop, if that is a
    /// listener's, else at once.
    pub fn submit(&self, event: Event) -> Result<(), Gone> {
        if self.is_closed() {
            return Err(Gone);
        }
        let mut waiting = self.waiting.lock();
        if !waiting.carried || !on_listener() {
            return self.commands.send(Command::Events(vec![event])).map_err(|_| Gone);
        }
        waiting.events.push(event);
        match waiting.events.len() {
            1 => self.rung.notify_one(),
            MAX_PARCEL => self.hand_over(&mut waiting),
            _ => {}
        }
        Ok(())
    }

    /// True if no event waits to be carried.
    pub fn is_empty(&self) -> bool {
        self.waiting.lock().events.is_empty()
    }

    /// Hands over what waits. The events that nobody takes any more come back.
    fn flush(&self, carried: bool) -> Vec<Event> {
        let mut waiting = self.waiting.lock();
        waiting.carried = carried;
        self.hand_over(&mut waiting);
        std::mem::take(&mut waiting.events)
    }

    /// Sends what waits, under the lock: an event is always seen either here or in the queue.
    /// What the isolate does not take stays here, for the carrier to give back to the app.
    fn hand_over(&self, waiting: &mut Waiting) {
        if waiting.events.is_empty() {
            return;
        }
        // The next parcel is likely to be as large.
        let room = Vec::with_capacity(waiting.events.len());
        let events = std::mem::replace(&mut waiting.events, room);
        if let Err(mpsc::error::SendError(Command::Events(events))) =
            self.commands.send(Command::Events(events))
        {
            waiting.events = events;
        }
    }

    /// Begins to carry on the caller's event loop, if that is a listener's.
    pub fn carry(self: &Arc<Self>, app: Weak<App>) -> Option<Courier> {
        if !on_listener() {
            return None;
        }
        let listener = Handle::current();
        self.waiting.lock().carried = true;
        listener.spawn(depart(Carrier { post: self.clone(), app }));
        let (courier, parcels) = mpsc::unbounded_channel();
        listener.spawn(arrive(parcels));
        Some(courier)
    }
}

fn on_listener() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

/// Stops carrying when its task ends, also when that is because the listener's loop does.
struct Carrier {
    post: Arc<Post>,
    app: Weak<App>,
}

impl Carrier {
    fn flush(&self, carried: bool) {
        for event in self.post.flush(carried) {
            match self.app.upgrade() {
                Some(app) => app.requeue(event),
                // Dropped, it tells whoever waits that it was lost.
                None => drop(event),
            }
        }
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.flush(false);
    }
}

async fn depart(carrier: Carrier) {
    let post = carrier.post.clone();
    loop {
        tokio::select! {
            () = post.rung.notified() => {
                // Back when the loop has seen to all that is ready.
                tokio::task::yield_now().await;
                carrier.flush(true);
            }
            () = post.commands.closed() => return,
        }
    }
}

/// Hands out what an isolate has answered: the wakes are local ones, without a system call.
async fn arrive(mut parcels: mpsc::UnboundedReceiver<Vec<Outgoing>>) {
    while let Some(parcel) = parcels.recv().await {
        for outgoing in parcel {
            outgoing.deliver();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::Request;
    use tokio::sync::oneshot;
    use verge_engine::Reply;
    use verge_types::{Body, RequestContext, RequestId};

    use super::*;
    use crate::event::Target;

    fn event() -> Event {
        let (sender, _) = oneshot::channel();
        Event {
            request: Request::new(Body::Empty),
            from_client: true,
            cx: RequestContext {
                id: RequestId(1),
                client: Arc::new(verge_types::ClientInfo {
                    addr: ([127, 0, 0, 1], 1).into(),
                    scheme: verge_types::Scheme::Http,
                    http_protocol: "HTTP/1.1",
                    tls_version: "",
                    tls_cipher: "",
                }),
                geo: Arc::default(),
                trace: verge_types::TraceContext {
                    trace_id: 1,
                    span_id: 2,
                    parent_id: None,
                    sampled: false,
                },
                session: verge_types::Session::off(),
            },
            target: Target::Fetch,
            reply: Reply::Http(sender),
            arrived: Instant::now(),
            tries: 0,
        }
    }

    #[test]
    fn what_an_isolate_that_ended_does_not_take_is_given_back() {
        let (commands, inbox) = mpsc::unbounded_channel();
        let post = Post::new(commands);
        post.waiting.lock().events = vec![event(), event()];
        drop(inbox);
        // A whole parcel, and a command after it, meet an isolate that ended just now.
        post.hand_over(&mut post.waiting.lock());
        assert!(post.send(Command::Retire).is_err());
        assert_eq!(post.flush(false).len(), 2);
    }
}
