//! Large segments: a group of transactions whose pages are too many to hold in memory.
//!
//! The log has a small record of it, a segment's header whose body says where the pages are: in a
//! file of their own beside the log, `<epoch>-<txid>.big`, as a chain of *parts* of about 1 MiB.
//! The file is synced before the record is written, so a record that counts has its file; a file
//! without a record is what a crash left, and is removed when the log is opened.
//!
//! Whoever makes, ships, receives, applies or recovers one has one part of it in memory at a time.

mod part;
mod read;
mod receive;
mod record;
mod write;

pub use read::LargeFile;
pub(crate) use read::Reader;
pub use receive::Receiving;
pub(crate) use record::Place;
pub(crate) use write::Writer;

#[cfg(test)]
mod tests;
