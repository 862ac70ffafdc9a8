//! One binary, a module a topic.

mod counts;
mod hostile;
mod statements;
mod support;
