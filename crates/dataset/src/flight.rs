//! Commits that SQLite's readers can see already and that are not durable yet, or not yet told.
//!
//! SQLite shows a commit at once; our log has it on the disk a little later. Nobody may be told
//! what he read in between before the disk has it: a crash would undo it, and another transaction
//! would take its position.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

pub(crate) struct Flight {
    /// Odd from before the first such commit until all of them are durable and the head is told.
    count: AtomicU64,
    landed: watch::Sender<u64>,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Default for Flight {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            landed: watch::Sender::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }
}

impl Flight {
    /// To be called by the writer before each commit.
    pub(crate) fn begin(&self) {
        self.count.fetch_or(1, Ordering::SeqCst);
    }

    /// To be called by the writer once all is durable and told, or is never going to be.
    pub(crate) fn land(&self) {
        let count = self.count.load(Ordering::SeqCst);
        if count & 1 == 0 {
            return;
        }
        {
            let _held = self.lock.lock();
            self.count.store(count + 1, Ordering::SeqCst);
        }
        self.wake.notify_all();
        self.landed.send_replace(count + 1);
    }

    /// Tells two moments apart if a commit came between them; `None` while one is on its way.
    pub(crate) fn calm(&self) -> Option<Calm> {
        let count = self.count.load(Ordering::SeqCst);
        (count & 1 == 0).then_some(Calm(count))
    }

    /// Begins a new calm without a commit: what was read in the one before is not gone on with.
    /// For the writer; does nothing while a commit is on its way.
    pub(crate) fn turn(&self) {
        if !self.is_under_way() {
            self.count.fetch_add(2, Ordering::SeqCst);
        }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.count.load(Ordering::SeqCst) & 1 == 1
    }

    /// What must have landed before something read until now may be told.
    pub(crate) fn mark(&self) -> Mark {
        let count = self.count.load(Ordering::SeqCst);
        Mark(count + (count & 1))
    }

    /// Blocks the thread until what was marked has landed; `false` if `longest` passed first.
    pub(crate) fn block(&self, mark: Mark, longest: Duration) -> bool {
        let landed = || self.count.load(Ordering::SeqCst) >= mark.0;
        if landed() {
            return true;
        }
        let mut held = self.lock.lock();
        self.wake.wait_while_for(&mut held, |()| !landed(), longest);
        landed()
    }

    pub(crate) async fn wait(&self, mark: Mark) {
        if self.count.load(Ordering::SeqCst) >= mark.0 {
            return;
        }
        // The sender lives as long as this does.
        let _ = self.landed.subscribe().wait_for(|landed| *landed >= mark.0).await;
    }
}

/// A time without a commit on its way: two that are equal are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Calm(u64);

/// A point in the row of flights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_began_before_a_mark_is_waited_for_and_what_begins_later_is_not() {
        let flight = Flight::default();
        assert!(flight.block(flight.mark(), Duration::ZERO), "nothing is under way");
        flight.begin();
        flight.begin();
        let mark = flight.mark();
        assert!(!flight.block(mark, Duration::from_millis(5)));
        flight.land();
        flight.land();
        flight.begin();
        assert!(flight.block(mark, Duration::ZERO));
        flight.wait(mark).await;
        assert!(flight.is_under_way());
    }
}
