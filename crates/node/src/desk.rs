//! What is known of a dataset on this node right now, shared by its driver, which decides it, and
//! by readers and writers, which only look.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use verge_replicate::{Coverage, Lineage, Moment, NodeId};
use verge_types::{DatasetId, Position};

use crate::clock::Clock;
use crate::queue::Queue;

/// A dataset's state as its driver sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Who is primary, as far as is known.
    pub(crate) primary: Option<NodeId>,
    /// The replica that is followed instead of the primary.
    pub(crate) relay: Option<NodeId>,
    /// The epoch in which this node is.
    pub(crate) ours: Option<u64>,
    /// The data here may not be used.
    pub(crate) quarantined: bool,
    /// The data here was whole at some time: it may be shown though it may be old.
    pub(crate) has_history: bool,
    /// A follower in a session, with all that its upstream had at some time of this process.
    pub(crate) synced: bool,
    pub(crate) lineage: Lineage,
    /// What each follower of this node has durably.
    pub(crate) followers: Vec<(NodeId, Position)>,
    /// A driver runs; without one nothing of the above is brought up to date.
    pub(crate) awake: bool,
    /// Tails that this process set aside for this dataset.
    pub(crate) quarantines: u64,
}

/// Lets writes in while this node is primary; closed, it tells when those inside have left.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    open: AtomicBool,
    inside: AtomicUsize,
    left: Notify,
}

/// A write inside the gate.
#[derive(Debug)]
pub(crate) struct Pass<G: AsRef<Desk>> {
    desk: G,
}

impl<G: AsRef<Desk>> Drop for Pass<G> {
    fn drop(&mut self) {
        let gate = &self.desk.as_ref().gate;
        if gate.inside.fetch_sub(1, Ordering::SeqCst) == 1 {
            gate.left.notify_waiters();
        }
    }
}

impl<G: AsRef<Desk>> Pass<G> {
    pub(crate) fn at(&self) -> &G {
        &self.desk
    }
}

impl Gate {
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }

    /// Returns once nobody is inside. Only of use while the gate is closed.
    pub(crate) async fn empty(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.inside.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

/// One dataset's desk.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) id: DatasetId,
    clock: Clock,
    pub(crate) gate: Gate,
    /// The lease: acknowledging is allowed before this moment. `u64::MAX` without leases.
    until: AtomicU64,
    /// The moment of which the data is at least; 0 if that is not known.
    as_of: AtomicU64,
    /// When somebody last wanted something of the dataset here, or on another node.
    used: AtomicU64,
    wanted: AtomicU64,
    standing: watch::Sender<Standing>,
    pub(crate) queue: Queue,
}

impl Desk {
    pub(crate) fn new(id: DatasetId, clock: Clock) -> Self {
        let now = clock.now().0;
        Self {
            id,
            clock,
            gate: Gate::default(),
            until: AtomicU64::new(0),
            as_of: AtomicU64::new(0),
            used: AtomicU64::new(now),
            wanted: AtomicU64::new(now),
            standing: watch::Sender::new(Standing::default()),
            queue: Queue::default(),
        }
    }

    /// May writes begin here now?
    pub(crate) fn is_primary(&self) -> bool {
        self.gate.is_open() && self.clock.now().0 < self.until.load(Ordering::SeqCst)
    }

    /// Lets a write in, if this node is primary.
    pub(crate) fn enter<G: AsRef<Self>>(desk: G) -> Option<Pass<G>> {
        desk.as_ref().gate.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass { desk };
        // Looked at after having been counted: whoever closed the gate before sees us leave.
        pass.desk.as_ref().is_primary().then_some(pass)
    }

    pub(crate) fn set_until(&self, until: Moment) {
        self.until.store(until.0, Ordering::SeqCst);
    }

    pub(crate) fn set_as_of(&self, as_of: Option<Moment>) {
        self.as_of.store(as_of.map_or(0, |moment| moment.0), Ordering::Relaxed);
    }

    /// How old the data may be at most.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        if self.is_primary() {
            return Some(Duration::ZERO);
        }
        match self.as_of.load(Ordering::Relaxed) {
            0 => None,
            as_of => Some(self.clock.now().since(Moment(as_of))),
        }
    }

    /// Somebody here wants something.
    pub(crate) fn touch(&self) {
        let now = self.clock.now().0;
        self.used.store(now, Ordering::Relaxed);
        self.wanted.store(now, Ordering::Relaxed);
    }

    /// Somebody elsewhere does.
    pub(crate) fn want(&self) {
        self.wanted.store(self.clock.now().0, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> Moment {
        Moment(self.used.load(Ordering::Relaxed))
    }

    pub(crate) fn wanted(&self) -> Moment {
        Moment(self.wanted.load(Ordering::Relaxed))
    }

    pub(crate) fn standing(&self) -> watch::Ref<'_, Standing> {
        self.standing.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(change);
    }

    /// What this node's history, which stands at `txid`, says of a position.
    pub(crate) fn coverage(&self, position: Position, txid: u64) -> Coverage {
        self.standing.borrow().lineage.covers(position, txid)
    }

    /// Asked on the writer's thread, right before a write runs: the same term still.
    pub(crate) fn still_leads(&self, ours: Option<u64>) -> bool {
        self.is_primary() && self.standing.borrow().ours == ours
    }
}

impl AsRef<Desk> for Desk {
    fn as_ref(&self) -> &Desk {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    struct Shared(Arc<Desk>);

    impl AsRef<Desk> for Shared {
        fn as_ref(&self) -> &Desk {
            &self.0
        }
    }

    #[tokio::test]
    async fn a_closed_gate_tells_when_the_last_write_has_left() {
        let desk = Arc::new(Desk::new("a".parse().unwrap(), Clock::new()));
        assert!(Desk::enter(Shared(desk.clone())).is_none());
        desk.set_until(Moment(u64::MAX));
        desk.gate.open();
        let first = Desk::enter(Shared(desk.clone())).unwrap();
        let second = Desk::enter(Shared(desk.clone())).unwrap();
        desk.gate.close();
        assert!(Desk::enter(Shared(desk.clone())).is_none());
        let waiting = tokio::spawn({
            let desk = desk.clone();
            async move { desk.gate.empty().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }

    #[test]
    fn a_lease_that_ran_out_lets_nobody_in() {
        let desk = Desk::new("a".parse().unwrap(), Clock::new());
        desk.gate.open();
        desk.set_until(Moment(1));
        assert!(!desk.is_primary());
        assert_eq!(desk.staleness(), None);
    }
}
