//! The start-up snapshot and the sources it left out. Made by this crate's build script from
//! the extensions of `verge-engine`; an isolate must be given the same list.

include!(concat!(env!("OUT_DIR"), "/lazy_sources.rs"));

/// The heap of a fresh isolate, with everything evaluated that does not depend on an app.
pub static SNAPSHOT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/snapshot.bin"));
