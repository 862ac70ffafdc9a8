//! Counters the owner can read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub $name: Counter,)* }

        /// Totals since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct FabricMetrics { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub fn read(&self) -> FabricMetrics {
                FabricMetrics { $($name: self.$name.get(),)* }
            }
        }
    };
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn one(&self) {
        self.add(1);
    }

    /// For a count that is kept elsewhere.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Connections that were made and welcomed, in either direction.
    links_made,
    /// Of these, the ones that ended.
    links_lost,
    /// Second connections of a pair that were closed in favour of the other.
    duplicates,
    /// Attempts to connect.
    dials,
    /// Attempts that failed.
    dial_failures,
    /// Incoming connections that were turned away: bad bytes, bad certificate, wrong fleet, too slow.
    handshakes_refused,
    /// Bytes on the wire below TLS framing, above the simulated link.
    bytes_in,
    bytes_out,
    calls_made,
    calls_served,
    streams_opened,
    streams_served,
    messages_out,
    messages_in,
    /// Messages over the limit, of either side.
    messages_refused,
    /// Channels for a name nobody serves.
    names_unknown,
    /// Calls and streams that found all channels taken.
    busy,
    /// Nodes that found the member table full.
    members_refused,
}
