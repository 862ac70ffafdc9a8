//! Isolates that are booted before anybody needs them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use verge_engine::Surface;
use verge_telemetry::IsolateStart;

use crate::isolate::{self, Boot, IsolateRef};

const REFILL_DELAY: Duration = Duration::from_millis(10);

/// A few booted, unclaimed isolates of one heap size. They have all built-ins, for any app.
pub(crate) struct Pool {
    boot: Arc<Boot>,
    want: usize,
    ready: Mutex<Vec<IsolateRef>>,
}

impl Pool {
    pub fn new(boot: Arc<Boot>, want: usize) -> io::Result<Self> {
        let pool = Self { boot, want, ready: Mutex::default() };
        pool.fill(Duration::ZERO)?;
        Ok(pool)
    }

    pub fn heap(&self) -> u64 {
        self.boot.heap
    }

    /// A booted isolate if there is one, else one that is booting, with what `surface` has.
    pub fn take(&self, surface: Surface) -> io::Result<(IsolateRef, IsolateStart)> {
        let ready = self.ready.lock().pop();
        match ready {
            Some(isolate) => Ok((isolate, IsolateStart::pooled)),
            None => {
                let isolate = isolate::spawn(self.boot.clone(), surface, Duration::ZERO)?;
                Ok((isolate, IsolateStart::cold))
            }
        }
    }

    /// Starts as many as are missing; they boot on their own threads, a moment later, so as
    /// not to compete with the request that made room.
    pub fn refill(&self) -> io::Result<()> {
        self.fill(REFILL_DELAY)
    }

    fn fill(&self, delay: Duration) -> io::Result<()> {
        let missing = self.want.saturating_sub(self.ready.lock().len());
        for _ in 0..missing {
            let isolate = isolate::spawn(self.boot.clone(), Surface::Node, delay)?;
            self.ready.lock().push(isolate);
        }
        Ok(())
    }

    /// One isolate outside the pool, for an app whose heap limit is not the pool's.
    pub fn take_with_heap(
        &self,
        heap: u64,
        surface: Surface,
    ) -> io::Result<(IsolateRef, IsolateStart)> {
        let boot = &self.boot;
        let boot = Arc::new(Boot {
            permissions: boot.permissions.clone(),
            resolver: boot.resolver.clone(),
            outbound: boot.outbound.clone(),
            roots: boot.roots.clone(),
            heap,
        });
        Ok((isolate::spawn(boot, surface, Duration::ZERO)?, IsolateStart::cold))
    }
}
