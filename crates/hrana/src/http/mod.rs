//! Hrana over HTTP.

mod cursor;
mod pipeline;
mod streams;

pub use cursor::answer_cursor;
pub use pipeline::answer_pipeline;
pub use streams::HttpStreams;
