//! Writes that wait at a place which is cut off from their dataset's primary, where the app wants
//! them to wait instead of being refused.
//!
//! What waits has certainly not begun anywhere. It is bounded in time, number and bytes; beyond
//! that it is refused as if nobody waited.

use std::time::Duration;

use parking_lot::Mutex;
use verge_types::CutOff;

/// Writes of one dataset that may wait on one node.
pub(crate) const MAX_WAITING: usize = 1_000;
/// And their bytes.
pub(crate) const MAX_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<Inside>);

#[derive(Debug, Default)]
struct Inside {
    when_cut_off: CutOff,
    waiting: usize,
    bytes: usize,
}

/// One write that waits.
pub(crate) struct Seat<'q> {
    queue: &'q Queue,
    bytes: usize,
}

impl Queue {
    pub(crate) fn set(&self, when_cut_off: CutOff) {
        self.0.lock().when_cut_off = when_cut_off;
    }

    /// How long writes may wait; `None` where they are refused.
    pub(crate) fn longest(&self) -> Option<Duration> {
        match self.0.lock().when_cut_off {
            CutOff::Refuse => None,
            CutOff::Queue { wait_ms } => Some(Duration::from_millis(wait_ms)),
        }
    }

    /// `None` if too much waits already.
    pub(crate) fn enter(&self, bytes: usize) -> Option<Seat<'_>> {
        let mut inside = self.0.lock();
        if inside.waiting >= MAX_WAITING || inside.bytes.saturating_add(bytes) > MAX_BYTES {
            return None;
        }
        inside.waiting += 1;
        inside.bytes += bytes;
        Some(Seat { queue: self, bytes })
    }

    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().waiting
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut inside = self.queue.0.lock();
        inside.waiting -= 1;
        inside.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_and_emptied() {
        let queue = Queue::default();
        assert_eq!(queue.longest(), None, "writes are refused until somebody says otherwise");
        queue.set(CutOff::Queue { wait_ms: 5 });
        assert_eq!(queue.longest(), Some(Duration::from_millis(5)));
        let seats: Vec<_> = (0..MAX_WAITING).map_while(|_| queue.enter(1)).collect();
        assert_eq!((seats.len(), queue.waiting()), (MAX_WAITING, MAX_WAITING));
        assert!(queue.enter(1).is_none());
        drop(seats);
        assert_eq!(queue.waiting(), 0);
        let large = queue.enter(MAX_BYTES);
        assert!(large.is_some() && queue.enter(1).is_none());
    }
}
