//! Holding an isolate to its limits: memory, CPU time.

pub(crate) mod cpu;
pub(crate) mod fatal;
pub(crate) mod memory;
