//! Where leases are kept: one compare-and-swap register a dataset.

mod file;
mod record;

use verge_replicate::lease::{Record, RegisterAnswer};
use verge_types::{BoxFuture, DatasetId};

pub use file::FileRegister;

/// A register with compare-and-swap, the same for all nodes of a fleet.
///
/// Swaps of one dataset are atomic and durable before they are answered, but for a renewal (only
/// `sequence` differs), which may be lost with the register's power.
pub trait LeaseRegister: Send + Sync + 'static {
    /// [`RegisterAnswer::Value`], or `Unknown` where it cannot be reached.
    fn read(&self, dataset: &DatasetId) -> BoxFuture<RegisterAnswer>;

    /// Puts `new` in place of `expected`: `Swapped`, `Conflict` with what is there, or `Unknown`.
    fn swap(
        &self,
        dataset: &DatasetId,
        expected: Option<Record>,
        new: Record,
    ) -> BoxFuture<RegisterAnswer>;

    /// Forgets a dataset of which no copy is left; true if nothing is there now. Whoever makes one
    /// of its name begins anew.
    fn forget(&self, dataset: &DatasetId) -> BoxFuture<bool>;
}
