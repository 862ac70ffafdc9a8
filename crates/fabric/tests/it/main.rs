//! Nodes over real sockets on loopback. Waits are bounded and tolerant: nothing here fails
//! because the machine is slow, short of half a minute.

mod calls;
mod conditions;
mod hostile;
mod identity;
mod lifecycle;
mod streams;
mod world;
