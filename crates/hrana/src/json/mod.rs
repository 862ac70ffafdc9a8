//! The canonical encoding.

mod read;
mod write;

pub use read::{read_client, read_cursor, read_pipeline};
pub use write::{
    append_cursor_entry, append_cursor_response, write_error, write_pipeline, write_server,
};
