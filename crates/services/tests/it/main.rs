//! One binary, a module a topic.

mod counts;
mod databases;
mod files;
mod hostile;
mod statements;
mod support;
mod wire;
