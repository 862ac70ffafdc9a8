//! What tenants' SQL may cost, each limit with a name, a unit and a reason; set on a connection
//! before their first statement.

use rusqlite::ffi;

/// The limits of one database. `Default` is what apps get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Bytes of one text, blob or row. D1 allows 2 MB.
    pub value_bytes: i32,
    /// Bytes of one statement. D1 allows 100 kB.
    pub sql_bytes: i32,
    /// Columns of a table, a result, or an index. D1 allows 100.
    pub columns: i32,
    /// Depth of an expression's tree: the parser recurses on it.
    pub expression_depth: i32,
    /// Depth of the parser's own stack: brackets in brackets.
    pub parser_depth: i32,
    /// Terms of a compound select (`UNION` …). D1 allows 5.
    pub compound_selects: i32,
    /// Instructions of one compiled statement.
    pub vdbe_ops: i32,
    /// Arguments of one function.
    pub function_args: i32,
    /// Bytes of a `LIKE` or `GLOB` pattern: matching is quadratic. D1 allows 50.
    pub like_pattern_bytes: i32,
    /// Highest parameter number. D1 allows 100.
    pub variables: i32,
    /// How deep triggers may call triggers.
    pub trigger_depth: i32,
    /// Rows of one result that is collected, not iterated.
    pub result_rows: u64,
    /// Bytes of one result that is collected, not iterated.
    pub result_bytes: u64,
    /// Statements of one batch or script.
    pub statements: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            value_bytes: 4 * 1024 * 1024,
            sql_bytes: 100_000,
            columns: 200,
            expression_depth: 100,
            parser_depth: 1_000,
            compound_selects: 50,
            vdbe_ops: 25_000,
            function_args: 127,
            like_pattern_bytes: 256,
            variables: 1_000,
            trigger_depth: 10,
            result_rows: 1_000_000,
            result_bytes: 64 * 1024 * 1024,
            statements: 10_000,
        }
    }
}

impl Policy {
    /// For imports of the database's owner: longer statements, everything else as for apps.
    pub fn import() -> Self {
        Self {
            sql_bytes: 16 * 1024 * 1024,
            value_bytes: 32 * 1024 * 1024,
            statements: usize::MAX,
            ..Self::default()
        }
    }

    /// SQLite's number of each limit that SQLite itself holds, with its value.
    pub(crate) fn sqlite_limits(&self) -> [(i32, i32); 13] {
        [
            (ffi::SQLITE_LIMIT_LENGTH, self.value_bytes),
            (ffi::SQLITE_LIMIT_SQL_LENGTH, self.sql_bytes),
            (ffi::SQLITE_LIMIT_COLUMN, self.columns),
            (ffi::SQLITE_LIMIT_EXPR_DEPTH, self.expression_depth),
            (ffi::SQLITE_LIMIT_PARSER_DEPTH, self.parser_depth),
            (ffi::SQLITE_LIMIT_COMPOUND_SELECT, self.compound_selects),
            (ffi::SQLITE_LIMIT_VDBE_OP, self.vdbe_ops),
            (ffi::SQLITE_LIMIT_FUNCTION_ARG, self.function_args),
            (ffi::SQLITE_LIMIT_ATTACHED, 0),
            (ffi::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, self.like_pattern_bytes),
            (ffi::SQLITE_LIMIT_VARIABLE_NUMBER, self.variables),
            (ffi::SQLITE_LIMIT_TRIGGER_DEPTH, self.trigger_depth),
            (ffi::SQLITE_LIMIT_WORKER_THREADS, 0),
        ]
    }
}
