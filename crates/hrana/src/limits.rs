//! Every limit of the protocol, its default, its unit and what it is against.

use std::time::Duration;

/// Most streams one WebSocket may have open: each may hold a reader.
pub const STREAMS_PER_CONNECTION: usize = 128;
/// Most streams that HTTP clients of one database may have open at a time, running or idle.
pub const HTTP_STREAMS: usize = 1024;
/// Most requests of one WebSocket that are not answered yet; reading stops there.
pub const OUTSTANDING_REQUESTS: usize = 128;
/// Most SQL texts kept for a WebSocket, or for an HTTP stream. `@libsql/client` keeps 100.
pub const STORED_SQL_COUNT: usize = 512;
/// Most bytes of those texts together.
pub const STORED_SQL_BYTES: usize = 4 << 20;
/// Most open cursors of one WebSocket.
pub const CURSORS_PER_CONNECTION: usize = 64;
/// Largest WebSocket message in either direction and largest request body, in bytes. The
/// listener has to let as much pass.
pub const MESSAGE_BYTES: usize = 16 << 20;
/// Most requests in one HTTP pipeline.
pub const PIPELINE_REQUESTS: usize = 1024;
/// Most steps of a batch.
pub const BATCH_STEPS: usize = 10_000;
/// Deepest nesting of a condition.
pub const CONDITION_DEPTH: usize = 32;
/// Most operators and leaves in all conditions of a batch.
pub const CONDITION_NODES: usize = 100_000;
/// Most rows of one response; a cursor has no such limit.
pub const RESPONSE_ROWS: usize = 100_000;
/// Most bytes of the rows of one response; a cursor has no such limit.
pub const RESPONSE_BYTES: usize = 10 << 20;
/// Most bytes of rows a cursor holds that nobody has fetched yet; the statement waits there.
pub const CURSOR_BYTES: usize = 1 << 20;
/// Most entries of one `fetch_cursor` response, whatever the client asks for.
pub const FETCH_ENTRIES: usize = 10_000;
/// How long a statement waits for its cursor to be fetched from.
pub const CURSOR_STALL: Duration = Duration::from_secs(10);
/// How long a transaction may hold the writer. `libsql-server` uses the same five seconds.
pub const WRITE_TRANSACTION: Duration = Duration::from_secs(5);
/// How long a transaction may pin a snapshot, which keeps the write-ahead log from shrinking.
pub const READ_TRANSACTION: Duration = Duration::from_secs(60);
/// How long one statement may run.
pub const STATEMENT: Duration = Duration::from_secs(30);
/// How long an HTTP stream lives without a request: its client cannot tell that it left.
pub const HTTP_STREAM_IDLE: Duration = Duration::from_secs(10);
/// How long a stream of a WebSocket may do nothing.
pub const WS_STREAM_IDLE: Duration = Duration::from_secs(300);
/// How long a WebSocket may take to say hello.
pub const HELLO: Duration = Duration::from_secs(10);
/// How often the token of an open WebSocket is looked at again, so that a revoked one ends it.
pub const REVERIFY: Duration = Duration::from_secs(30);

/// The limits of one database's service. [`Default`] takes the constants of this module.
#[derive(Clone, Debug)]
pub struct Limits {
    pub streams_per_connection: usize,
    pub http_streams: usize,
    pub outstanding_requests: usize,
    pub stored_sql_count: usize,
    pub stored_sql_bytes: usize,
    pub cursors_per_connection: usize,
    pub message_bytes: usize,
    pub pipeline_requests: usize,
    pub batch_steps: usize,
    pub condition_depth: usize,
    pub condition_nodes: usize,
    pub response_rows: usize,
    pub response_bytes: usize,
    pub cursor_bytes: usize,
    pub fetch_entries: usize,
    pub cursor_stall: Duration,
    pub write_transaction: Duration,
    pub read_transaction: Duration,
    pub statement: Duration,
    pub http_stream_idle: Duration,
    pub ws_stream_idle: Duration,
    pub hello: Duration,
    pub reverify: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_connection: STREAMS_PER_CONNECTION,
            http_streams: HTTP_STREAMS,
            outstanding_requests: OUTSTANDING_REQUESTS,
            stored_sql_count: STORED_SQL_COUNT,
            stored_sql_bytes: STORED_SQL_BYTES,
            cursors_per_connection: CURSORS_PER_CONNECTION,
            message_bytes: MESSAGE_BYTES,
            pipeline_requests: PIPELINE_REQUESTS,
            batch_steps: BATCH_STEPS,
            condition_depth: CONDITION_DEPTH,
            condition_nodes: CONDITION_NODES,
            response_rows: RESPONSE_ROWS,
            response_bytes: RESPONSE_BYTES,
            cursor_bytes: CURSOR_BYTES,
            fetch_entries: FETCH_ENTRIES,
            cursor_stall: CURSOR_STALL,
            write_transaction: WRITE_TRANSACTION,
            read_transaction: READ_TRANSACTION,
            statement: STATEMENT,
            http_stream_idle: HTTP_STREAM_IDLE,
            ws_stream_idle: WS_STREAM_IDLE,
            hello: HELLO,
            reverify: REVERIFY,
        }
    }
}
