//! What an isolate's thread has been sent and not yet begun.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::app::App;
use crate::event::{Command, Event};

pub(super) struct Inbox {
    commands: UnboundedReceiver<Command>,
    /// The rest of the parcel that was opened last.
    opened: VecDeque<Box<Event>>,
}

/// One thing to do.
pub(super) enum Next {
    Event(Box<Event>),
    /// Never [`Command::Events`].
    Command(Command),
}

impl Inbox {
    pub fn new(commands: UnboundedReceiver<Command>) -> Self {
        Self { commands, opened: VecDeque::new() }
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Next>> {
        loop {
            if let Some(event) = self.opened.pop_front() {
                return Poll::Ready(Some(Next::Event(event)));
            }
            match std::task::ready!(self.commands.poll_recv(cx)) {
                Some(Command::Events(events)) => self.opened = events.into(),
                Some(command) => return Poll::Ready(Some(Next::Command(command))),
                None => return Poll::Ready(None),
            }
        }
    }

    pub async fn next(&mut self) -> Option<Next> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    pub fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.commands.is_empty()
    }

    /// Takes nothing more, and empties it.
    pub fn close(&mut self) -> Vec<Box<Event>> {
        self.commands.close();
        let mut left: Vec<_> = self.opened.drain(..).collect();
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Events(events) = command {
                left.extend(events);
            }
        }
        left
    }

    /// Gives back to the app what was never begun.
    pub fn give_back(&mut self, app: Option<&Arc<App>>) {
        for event in self.close() {
            match app {
                Some(app) => app.requeue(*event),
                None => event.fail(super::run::gone()),
            }
        }
    }
}
