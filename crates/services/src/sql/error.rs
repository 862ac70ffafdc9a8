//! What can go wrong with SQL, in D1's words: who is to blame, whether a retry helps, and what
//! the app may read.

use std::fmt;

/// The class of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ErrorKind {
    /// SQLite refused or failed the statement: syntax, constraint, missing table.
    Sqlite = 0,
    /// The policy refuses it: a function, a pragma, a reserved name, a transaction statement.
    Refused = 1,
    /// A parameter of a type that SQL has not.
    Type = 2,
    /// `first(column)` named a column that the result has not.
    ColumnNotFound = 3,
    /// A statement of `exec` failed; the text names its line.
    Exec = 4,
    /// `dump` failed.
    Dump = 5,
    /// A bookmark or constraint of `withSession` that is none, or of another database.
    Session = 6,
    /// The result is larger than the policy allows.
    TooLarge = 7,
    /// The statement ran longer than its budget of CPU time.
    CpuLimit = 8,
    /// A transaction was open for longer than its deadline.
    Deadline = 9,
    /// The primary cannot be reached, or the replica is older than the read allows.
    Unavailable = 10,
    /// A migration or an import failed and changed nothing.
    Migration = 11,
    /// Bytes that are no request or result of ours.
    Malformed = 12,
    /// Our own fault.
    Internal = 13,
    /// A write may or may not be kept: its primary was lost, or lost its office, before it could
    /// tell. Nobody may send it again without a look.
    OutcomeUnknown = 14,
    /// What the session has seen was cut off by a failover or a restore. Only a new session helps.
    HistoryLost = 15,
}

impl ErrorKind {
    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        const ALL: [ErrorKind; 16] = [
            ErrorKind::Sqlite,
            ErrorKind::Refused,
            ErrorKind::Type,
            ErrorKind::ColumnNotFound,
            ErrorKind::Exec,
            ErrorKind::Dump,
            ErrorKind::Session,
            ErrorKind::TooLarge,
            ErrorKind::CpuLimit,
            ErrorKind::Deadline,
            ErrorKind::Unavailable,
            ErrorKind::Migration,
            ErrorKind::Malformed,
            ErrorKind::Internal,
            ErrorKind::OutcomeUnknown,
            ErrorKind::HistoryLost,
        ];
        ALL.get(usize::from(byte)).copied()
    }
}

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The app's SQL or its parameters.
    App,
    /// Who called: a foreign bookmark, bytes that do not decode.
    Caller,
    /// This platform.
    Platform,
}

/// A failure. `Display` is the whole text an app reads, with D1's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub kind: ErrorKind,
    /// SQLite's extended result code; 0 where SQLite was not asked.
    pub code: i32,
    /// Without the prefix: the `cause` of D1's errors.
    pub message: String,
}

impl std::error::Error for SqlError {}

impl SqlError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, code: 0, message: message.into() }
    }

    /// A parameter that JavaScript has and SQL has not; `kind` is its `typeof`.
    pub fn unsupported_type(kind: &str, value: &str) -> Self {
        Self::new(ErrorKind::Type, format!("Type '{kind}' not supported for value '{value}'"))
    }

    /// `first(column)` on a result without that column.
    pub fn column_not_found(column: &str) -> Self {
        Self::new(ErrorKind::ColumnNotFound, format!("Column not found ({column})"))
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Refused,
            code: verge_dataset::rusqlite::ffi::SQLITE_AUTH,
            message: message.into(),
        }
    }

    pub(crate) fn malformed(what: &str) -> Self {
        Self::new(ErrorKind::Malformed, format!("malformed message: {what}"))
    }

    pub fn blame(&self) -> Blame {
        match self.kind {
            ErrorKind::Sqlite => match self.code & 0xff {
                verge_dataset::rusqlite::ffi::SQLITE_IOERR
                | verge_dataset::rusqlite::ffi::SQLITE_CORRUPT
                | verge_dataset::rusqlite::ffi::SQLITE_FULL
                | verge_dataset::rusqlite::ffi::SQLITE_CANTOPEN
                | verge_dataset::rusqlite::ffi::SQLITE_NOTADB
                | verge_dataset::rusqlite::ffi::SQLITE_BUSY
                | verge_dataset::rusqlite::ffi::SQLITE_NOMEM
                | verge_dataset::rusqlite::ffi::SQLITE_MISUSE => Blame::Platform,
                _ => Blame::App,
            },
            ErrorKind::Session | ErrorKind::Malformed => Blame::Caller,
            ErrorKind::Dump
            | ErrorKind::Unavailable
            | ErrorKind::Internal
            | ErrorKind::OutcomeUnknown
            | ErrorKind::HistoryLost => Blame::Platform,
            _ => Blame::App,
        }
    }

    /// True where the same call may succeed a little later and has changed nothing.
    pub fn retryable(&self) -> bool {
        use verge_dataset::rusqlite::ffi::{SQLITE_BUSY, SQLITE_FULL};
        match self.kind {
            ErrorKind::Unavailable => true,
            // A disk that is full at this moment: the transaction was rolled back.
            ErrorKind::Sqlite => matches!(self.code & 0xff, SQLITE_BUSY | SQLITE_FULL),
            _ => false,
        }
    }

    /// A stable name for what an app may want to tell apart, beyond D1's texts.
    pub fn name(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::OutcomeUnknown => Some("write_outcome_unknown"),
            ErrorKind::HistoryLost => Some("history_lost"),
            ErrorKind::Unavailable => Some("database_unavailable"),
            _ => None,
        }
    }

    /// For a write of which nobody knows whether it was kept.
    pub fn outcome_unknown(why: impl fmt::Display) -> Self {
        Self::new(ErrorKind::OutcomeUnknown, format!("the write may or may not be kept: {why}"))
    }

    /// For a session that has seen what was cut off.
    pub fn history_lost(seen: verge_types::Position) -> Self {
        let why = "was lost when another primary took over, or in a restore";
        Self::new(ErrorKind::HistoryLost, format!("what this session has seen ({seen}) {why}"))
    }

    /// D1's prefix.
    pub fn prefix(&self) -> &'static str {
        match self.kind {
            ErrorKind::Type => "D1_TYPE_ERROR",
            ErrorKind::ColumnNotFound => "D1_COLUMN_NOTFOUND",
            ErrorKind::Exec => "D1_EXEC_ERROR",
            ErrorKind::Dump => "D1_DUMP_ERROR",
            ErrorKind::Session => "D1_SESSION_ERROR",
            _ => "D1_ERROR",
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.prefix(), self.message)
    }
}

impl From<verge_dataset::rusqlite::Error> for SqlError {
    /// For the platform's own statements; tenants' go through [`from_sqlite`].
    fn from(error: verge_dataset::rusqlite::Error) -> Self {
        match error {
            verge_dataset::rusqlite::Error::SqliteFailure(code, message) => {
                let text = message.unwrap_or_else(|| code.to_string());
                Self {
                    kind: ErrorKind::Sqlite,
                    code: code.extended_code,
                    message: from_sqlite(&text, code.extended_code, -1),
                }
            }
            other => Self::new(ErrorKind::Internal, other.to_string()),
        }
    }
}

/// SQLite's message with where it points and the code's names, as D1 writes them.
pub(crate) fn from_sqlite(message: &str, extended: i32, offset: i32) -> String {
    let mut text = message.to_owned();
    if offset >= 0 {
        text.push_str(&format!(" at offset {offset}"));
    }
    text.push_str(": ");
    text.push_str(primary_name(extended));
    if let Some(name) = extended_name(extended) {
        text.push_str(&format!(" (extended: {name})"));
    }
    text
}

/// The name of a primary result code, such as `SQLITE_CONSTRAINT`.
pub fn primary_name(code: i32) -> &'static str {
    const NAMES: [&str; 29] = [
        "SQLITE_OK",
        "SQLITE_ERROR",
        "SQLITE_INTERNAL",
        "SQLITE_PERM",
        "SQLITE_ABORT",
        "SQLITE_BUSY",
        "SQLITE_LOCKED",
        "SQLITE_NOMEM",
        "SQLITE_READONLY",
        "SQLITE_INTERRUPT",
        "SQLITE_IOERR",
        "SQLITE_CORRUPT",
        "SQLITE_NOTFOUND",
        "SQLITE_FULL",
        "SQLITE_CANTOPEN",
        "SQLITE_PROTOCOL",
        "SQLITE_EMPTY",
        "SQLITE_SCHEMA",
        "SQLITE_TOOBIG",
        "SQLITE_CONSTRAINT",
        "SQLITE_MISMATCH",
        "SQLITE_MISUSE",
        "SQLITE_NOLFS",
        "SQLITE_AUTH",
        "SQLITE_FORMAT",
        "SQLITE_RANGE",
        "SQLITE_NOTADB",
        "SQLITE_NOTICE",
        "SQLITE_WARNING",
    ];
    NAMES.get((code & 0xff) as usize).copied().unwrap_or("SQLITE_ERROR")
}

/// The name of an extended code, of those that an app can meet.
pub fn extended_name(code: i32) -> Option<&'static str> {
    use verge_dataset::rusqlite::ffi;
    Some(match code {
        ffi::SQLITE_CONSTRAINT_CHECK => "SQLITE_CONSTRAINT_CHECK",
        ffi::SQLITE_CONSTRAINT_COMMITHOOK => "SQLITE_CONSTRAINT_COMMITHOOK",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "SQLITE_CONSTRAINT_DATATYPE",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "SQLITE_CONSTRAINT_FOREIGNKEY",
        ffi::SQLITE_CONSTRAINT_FUNCTION => "SQLITE_CONSTRAINT_FUNCTION",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "SQLITE_CONSTRAINT_NOTNULL",
        ffi::SQLITE_CONSTRAINT_PINNED => "SQLITE_CONSTRAINT_PINNED",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "SQLITE_CONSTRAINT_PRIMARYKEY",
        ffi::SQLITE_CONSTRAINT_ROWID => "SQLITE_CONSTRAINT_ROWID",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "SQLITE_CONSTRAINT_TRIGGER",
        ffi::SQLITE_CONSTRAINT_UNIQUE => "SQLITE_CONSTRAINT_UNIQUE",
        ffi::SQLITE_CONSTRAINT_VTAB => "SQLITE_CONSTRAINT_VTAB",
        ffi::SQLITE_BUSY_SNAPSHOT => "SQLITE_BUSY_SNAPSHOT",
        ffi::SQLITE_BUSY_RECOVERY => "SQLITE_BUSY_RECOVERY",
        ffi::SQLITE_READONLY_DBMOVED => "SQLITE_READONLY_DBMOVED",
        ffi::SQLITE_CORRUPT_VTAB => "SQLITE_CORRUPT_VTAB",
        ffi::SQLITE_IOERR_READ => "SQLITE_IOERR_READ",
        ffi::SQLITE_IOERR_WRITE => "SQLITE_IOERR_WRITE",
        ffi::SQLITE_IOERR_FSYNC => "SQLITE_IOERR_FSYNC",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_d1s() {
        assert_eq!(
            SqlError::unsupported_type("undefined", "undefined").to_string(),
            "D1_TYPE_ERROR: Type 'undefined' not supported for value 'undefined'"
        );
        assert_eq!(
            SqlError::column_not_found("x").to_string(),
            "D1_COLUMN_NOTFOUND: Column not found (x)"
        );
        assert_eq!(
            from_sqlite("UNIQUE constraint failed: t.id", 1555, -1),
            "UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT \
             (extended: SQLITE_CONSTRAINT_PRIMARYKEY)"
        );
    }

    #[test]
    fn what_changed_nothing_and_may_pass_is_retried() {
        let of = |code| SqlError { code, ..SqlError::new(ErrorKind::Sqlite, "") };
        // A full disk: SQLite itself may meet it before our log does.
        for (code, retryable) in [(5, true), (517, true), (13, true), (1, false), (19, false)] {
            assert_eq!(of(code).retryable(), retryable, "{code}");
        }
    }

    #[test]
    fn kinds_survive_their_number() {
        for byte in 0..=255 {
            if let Some(kind) = ErrorKind::from_u8(byte) {
                assert_eq!(kind as u8, byte);
            } else {
                assert!(byte > ErrorKind::HistoryLost as u8);
            }
        }
    }
}
