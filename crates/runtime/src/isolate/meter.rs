//! What an isolate tells the metrics of itself.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use deno_core::v8;
use verge_telemetry::{AppIsolates, IsolateStart};

use crate::limits::cpu::Ledger;

/// One isolate's part of its app's series. It takes itself out of them once, whichever way
/// the isolate ends.
pub(super) struct Meter {
    series: Option<Arc<AppIsolates>>,
    /// Heap bytes that are in the gauge for this isolate.
    heap: Cell<i64>,
    ended: Cell<bool>,
}

impl Meter {
    /// The isolate is ready for its first request.
    pub fn start(series: Option<Arc<AppIsolates>>, start: IsolateStart, asked: Instant) -> Self {
        if let Some(series) = &series {
            series.started(start, asked.elapsed());
        }
        Self { series, heap: Cell::new(0), ended: Cell::new(false) }
    }

    pub fn look(&self, ledger: &Ledger, isolate: &mut v8::Isolate) {
        let Some(series) = &self.series else { return };
        self.charge(ledger);
        let used = isolate.get_heap_statistics().used_heap_size();
        let used = i64::try_from(used).unwrap_or(i64::MAX);
        series.heap_changed(used - self.heap.replace(used));
    }

    /// Hands over the CPU time that was used since the last time.
    pub fn charge(&self, ledger: &Ledger) {
        let (total, requests) = ledger.take_used();
        let Some(series) = &self.series else { return };
        series.cpu_used(total);
        for cpu in requests {
            series.request_used(cpu);
        }
    }

    pub fn end(&self) {
        let Some(series) = &self.series else { return };
        if !self.ended.replace(true) {
            series.heap_changed(-self.heap.replace(0));
            series.ended();
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end();
    }
}
