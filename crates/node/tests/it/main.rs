//! Nodes over real sockets and real files.

mod alone;
mod control;
mod failover;
mod fleet;
mod world;
