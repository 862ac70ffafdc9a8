//! What waits for a dataset's writer, and the thread that works it off.
//!
//! There is no thread while there is nothing to do: the first command starts one, and it ends
//! after a while without work. So idle datasets cost no thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use verge_types::Position;

use crate::core::{Core, GroupJob};
use crate::error::Error;
use crate::shared::Shared;
use crate::transaction::Opening;

/// Largest batch of segments that a replica applies in one transaction, bytes.
const MAX_APPLY_BYTES: usize = 8 << 20;
/// And how many.
const MAX_APPLY: usize = 256;

/// Something of the node's own between two groups. An error that it returns is looked at: see
/// [`Error::is_fatal`].
pub(crate) type Control =
    Box<dyn FnOnce(Result<&mut Core, Error>, &Arc<Shared>) -> Result<(), Error> + Send>;

pub(crate) enum Command {
    Write(Box<dyn GroupJob>),
    Begin(Opening),
    Apply { segments: Vec<Bytes>, reply: oneshot::Sender<Result<Position, Error>> },
    Control(Control),
}

/// Segments, and whom to tell.
pub(crate) type Apply = (Vec<Bytes>, oneshot::Sender<Result<Position, Error>>);

/// What the thread takes at once.
pub(crate) enum Work {
    Writes(Vec<Box<dyn GroupJob>>),
    Begin(Opening),
    Applies(Vec<Apply>),
    Control(Control),
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Command>,
    /// A thread is there and will look again.
    running: bool,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

impl Queue {
    /// Puts a command behind the others and sees to it that a thread works.
    pub(crate) fn push(shared: &Arc<Shared>, command: Command) -> Result<(), Error> {
        let queue = &shared.queue;
        let limit = shared.settings().max_waiting;
        let mut waiting = queue.waiting.lock();
        if waiting.closed {
            return Err(Error::Closed);
        }
        // Controls are the node's own and few; without them a full queue could not be left.
        if waiting.commands.len() >= limit && !matches!(command, Command::Control(_)) {
            return Err(Error::Overloaded { what: "max_waiting", limit: limit as u64 });
        }
        waiting.commands.push_back(command);
        if waiting.running {
            drop(waiting);
            queue.wake.notify_one();
            return Ok(());
        }
        let for_thread = shared.clone();
        match thread::Builder::new().name("dataset-writer".into()).spawn(move || work(&for_thread))
        {
            Ok(_) => {
                waiting.running = true;
                Ok(())
            }
            Err(error) => {
                waiting.commands.pop_back();
                Err(Error::io("starting a writer thread")(error))
            }
        }
    }

    /// Refuses further commands. Those that wait are still carried out.
    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        // The thread is not to wait for more.
        self.wake.notify_all();
    }

    pub(crate) fn is_idle(&self) -> bool {
        let waiting = self.waiting.lock();
        waiting.commands.is_empty()
    }

    /// The next work; `None` after `writer_idle` without any.
    fn take(&self, shared: &Shared) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        if waiting.commands.is_empty() && !waiting.closed {
            self.wake.wait_for(&mut waiting, shared.settings().writer_idle);
        }
        match waiting.commands.pop_front()? {
            Command::Begin(opening) => Some(Work::Begin(opening)),
            Command::Control(control) => Some(Work::Control(control)),
            Command::Write(first) => {
                let mut jobs = vec![first];
                while jobs.len() < shared.settings().max_group {
                    match waiting.commands.pop_front() {
                        Some(Command::Write(job)) => jobs.push(job),
                        Some(other) => {
                            waiting.commands.push_front(other);
                            break;
                        }
                        None => break,
                    }
                }
                Some(Work::Writes(jobs))
            }
            Command::Apply { segments, reply } => {
                let size = |segments: &[Bytes]| segments.iter().map(Bytes::len).sum::<usize>();
                let (mut bytes, mut count) = (size(&segments), segments.len());
                let mut batch = vec![(segments, reply)];
                while bytes < MAX_APPLY_BYTES && count < MAX_APPLY {
                    match waiting.commands.pop_front() {
                        Some(Command::Apply { segments, reply }) => {
                            bytes += size(&segments);
                            count += segments.len();
                            batch.push((segments, reply));
                        }
                        Some(other) => {
                            waiting.commands.push_front(other);
                            break;
                        }
                        None => break,
                    }
                }
                Some(Work::Applies(batch))
            }
        }
    }

    /// Ends the thread if nothing came meanwhile.
    fn leave(&self) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.commands.is_empty() {
            waiting.running = false;
            return true;
        }
        false
    }
}

/// The thread's life.
fn work(shared: &Arc<Shared>) {
    loop {
        match shared.queue.take(shared) {
            Some(work) => shared.carry_out(work),
            None => {
                shared.rest();
                if shared.queue.leave() {
                    return;
                }
            }
        }
    }
}
