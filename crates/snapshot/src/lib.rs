//! The start-up snapshots and the sources they left out. Made by this crate's build script from
//! the extensions of `verge-engine`; an isolate must be given the same list.

/// What isolates of one surface start from.
pub struct Start {
    /// The heap of a fresh isolate, with everything evaluated that does not depend on an app.
    pub snapshot: &'static [u8],
    /// Scripts and modules, by specifier, that are evaluated when first asked for.
    pub scripts: &'static [(&'static str, &'static str)],
    pub modules: &'static [(&'static str, &'static str)],
}

pub static WEB: Start = include!(concat!(env!("OUT_DIR"), "/web/start.rs"));
pub static NODE: Start = include!(concat!(env!("OUT_DIR"), "/node/start.rs"));
