//! Cuts SQL into statements as it streams in, so that a file of any length is read with one
//! statement in memory. Where a statement ends is SQLite's rule (`sqlite3_complete`): at a
//! semicolon outside of quotes and comments, and in a trigger at `; END ;`.

use std::io::{BufRead, ErrorKind as IoKind};

use super::error::{ErrorKind, SqlError};
use super::lexer;

/// Longest statement that is read, bytes. `Policy::import` allows a little less.
const MAX_STATEMENT: usize = 17 << 20;
/// Longest of the words that matter.
const MAX_WORD: usize = 9;

/// What the bytes so far stand in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Plain,
    /// After one `-` or one `/`, which may open a comment.
    Dash,
    Slash,
    LineComment,
    BlockComment,
    /// In a block comment, after `*`.
    Star,
    /// Until this byte. A doubled quote closes and opens again, which comes to the same.
    Quoted(u8),
}

/// What the words so far begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Clause {
    #[default]
    Nothing,
    Explain,
    Create,
    Other,
    /// In a trigger: its body's statements end nothing.
    Trigger,
    TriggerSemicolon,
    TriggerEnd,
}

/// Finds where statements end, byte by byte.
#[derive(Clone, Debug, Default)]
struct Cut {
    within: Within,
    clause: Clause,
    word: Vec<u8>,
}

impl Cut {
    /// Takes the next byte; true if a statement ends with it.
    fn push(&mut self, byte: u8) -> bool {
        match self.within {
            Within::LineComment if byte == b'\n' => self.within = Within::Plain,
            Within::BlockComment if byte == b'*' => self.within = Within::Star,
            Within::Star if byte == b'/' => self.within = Within::Plain,
            Within::Star if byte != b'*' => self.within = Within::BlockComment,
            Within::Quoted(close) if byte == close => self.within = Within::Plain,
            Within::LineComment | Within::BlockComment | Within::Star | Within::Quoted(_) => {}
            Within::Dash if byte == b'-' => self.within = Within::LineComment,
            Within::Slash if byte == b'*' => self.within = Within::BlockComment,
            Within::Dash | Within::Slash => {
                self.within = Within::Plain;
                self.token();
                return self.plain(byte);
            }
            Within::Plain => return self.plain(byte),
        }
        false
    }

    fn plain(&mut self, byte: u8) -> bool {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80 {
            if self.word.len() <= MAX_WORD {
                self.word.push(byte.to_ascii_uppercase());
            }
            return false;
        }
        self.end_word();
        match byte {
            b'-' => self.within = Within::Dash,
            b'/' => self.within = Within::Slash,
            b'"' | b'\'' | b'`' => {
                self.token();
                self.within = Within::Quoted(byte);
            }
            b'[' => {
                self.token();
                self.within = Within::Quoted(b']');
            }
            b';' => return self.semicolon(),
            _ if byte.is_ascii_whitespace() => {}
            _ => self.token(),
        }
        false
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let clause = match (self.clause, self.word.as_slice()) {
            (Clause::Nothing, b"EXPLAIN") => Clause::Explain,
            (Clause::Explain, b"QUERY" | b"PLAN") => Clause::Explain,
            (Clause::Nothing | Clause::Explain, b"CREATE") => Clause::Create,
            (Clause::Create, b"TEMP" | b"TEMPORARY") => Clause::Create,
            (Clause::Create, b"TRIGGER") => Clause::Trigger,
            (Clause::TriggerSemicolon, b"END") => Clause::TriggerEnd,
            (Clause::Trigger | Clause::TriggerSemicolon | Clause::TriggerEnd, _) => Clause::Trigger,
            _ => Clause::Other,
        };
        self.clause = clause;
        self.word.clear();
    }

    /// Something that is neither a word nor a semicolon.
    fn token(&mut self) {
        self.clause = match self.clause {
            Clause::Trigger | Clause::TriggerSemicolon | Clause::TriggerEnd => Clause::Trigger,
            _ => Clause::Other,
        };
    }

    fn semicolon(&mut self) -> bool {
        match self.clause {
            Clause::Trigger | Clause::TriggerSemicolon => {
                self.clause = Clause::TriggerSemicolon;
                false
            }
            _ => {
                self.clause = Clause::Nothing;
                true
            }
        }
    }

    /// Nothing of a statement is open: what follows begins anew.
    fn is_between(&self) -> bool {
        let plain = matches!(self.within, Within::Plain | Within::LineComment);
        plain && self.clause == Clause::Nothing && self.word.is_empty()
    }
}

/// True if a text ends with a whole statement, so that a shell may run it.
pub fn is_complete(text: &str) -> bool {
    let mut cut = Cut::default();
    let mut any = false;
    for byte in text.bytes() {
        any |= cut.push(byte);
    }
    any && cut.is_between()
}

/// One statement of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// With the comments before it, and its semicolon if it has one.
    pub sql: String,
    /// The line on which `sql` begins, from 1, and the column.
    pub line: usize,
    pub column: usize,
}

/// The statements of a stream; pieces with nothing but comments are passed over.
pub struct Statements<R> {
    input: R,
    cut: Cut,
    /// Where the next piece begins, both from 1.
    line: usize,
    column: usize,
    /// Bytes taken from the input.
    read: u64,
}

impl<R: BufRead> Statements<R> {
    pub fn new(input: R) -> Self {
        Self { input, cut: Cut::default(), line: 1, column: 1, read: 0 }
    }

    /// Bytes of the input that were read so far.
    pub fn position(&self) -> u64 {
        self.read
    }

    /// The next statement, `None` at the end.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, SqlError> {
        loop {
            let (line, column) = (self.line, self.column);
            let (bytes, ended) = self.next_bytes()?;
            self.line += bytes.iter().filter(|byte| **byte == b'\n').count();
            let tail = bytes.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let width = tail.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
            self.column = if self.line > line { width + 1 } else { column + width };
            let sql = String::from_utf8(bytes)
                .map_err(|_| failed(line, "the text is not UTF-8; is this a SQL file?"))?;
            if !lexer::is_blank(&sql) {
                return Ok(Some(Piece { sql, line, column }));
            }
            if !ended {
                return Ok(None);
            }
        }
    }

    /// Up to the next end of a statement (true), or the end of the input (false).
    fn next_bytes(&mut self) -> Result<(Vec<u8>, bool), SqlError> {
        let mut bytes = Vec::new();
        loop {
            let chunk = match self.input.fill_buf() {
                Ok([]) => return Ok((bytes, false)),
                Ok(chunk) => chunk,
                Err(error) if error.kind() == IoKind::Interrupted => continue,
                Err(error) => return Err(failed(self.line, &format!("cannot read on: {error}"))),
            };
            let end = chunk.iter().position(|byte| self.cut.push(*byte));
            let used = end.map_or(chunk.len(), |end| end + 1);
            bytes.extend_from_slice(&chunk[..used]);
            self.input.consume(used);
            self.read += used as u64;
            if end.is_some() {
                return Ok((bytes, true));
            }
            if bytes.len() > MAX_STATEMENT {
                let why = format!("a statement is longer than {MAX_STATEMENT} bytes");
                return Err(failed(self.line, &why));
            }
        }
    }
}

fn failed(line: usize, why: &str) -> SqlError {
    SqlError::new(ErrorKind::Exec, format!("line {line}, column 1: {why}"))
}

/// An error of a statement, with its place in the text that it is part of: `line 3, column 8: no
/// such table: x: SQLITE_ERROR`. Without an offset of SQLite's, where the statement begins.
pub(crate) fn placed(piece: &Piece, error: SqlError) -> SqlError {
    let sql = &piece.sql;
    let (message, offset) = take_offset(&error.message);
    let at = offset.filter(|at| sql.is_char_boundary(*at)).unwrap_or_else(|| lexer::begin(sql));
    let before = &sql[..at];
    let lines = before.matches('\n').count();
    let width = before.rsplit('\n').next().unwrap_or_default().chars().count();
    let column = if lines == 0 { piece.column + width } else { width + 1 };
    SqlError {
        kind: ErrorKind::Exec,
        code: error.code,
        message: format!("line {}, column {column}: {message}", piece.line + lines),
    }
}

/// Takes ` at offset 12` out of a message that `error::from_sqlite` made.
fn take_offset(message: &str) -> (String, Option<usize>) {
    const WORDS: &str = " at offset ";
    if let Some((before, rest)) = message.rsplit_once(WORDS)
        && let Some((digits, after)) = rest.split_once(": ")
        && let Ok(offset) = digits.parse()
    {
        return (format!("{before}: {after}"), Some(offset));
    }
    (message.to_owned(), None)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn cut(text: &str, capacity: usize) -> Vec<(String, usize)> {
        let mut statements = Statements::new(BufReader::with_capacity(capacity, text.as_bytes()));
        let mut all = Vec::new();
        while let Some(piece) = statements.next_piece().unwrap() {
            all.push((piece.sql.trim().to_owned(), piece.line));
        }
        assert_eq!(statements.position(), text.len() as u64);
        all
    }

    #[test]
    fn statements_end_where_sqlite_ends_them() {
        let text = "SELECT ';' ; -- a;b\n/* ; */ SELECT \"x;\";;\n\
            CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT CASE WHEN 1 THEN 2 END; END;\n\
            SELECT a - - 1, b / 2, [;] FROM c;\n\nSELECT 'it''s;'";
        for capacity in [1, 2, 3, 7, 4096] {
            let all = cut(text, capacity);
            let heads: Vec<_> = all.iter().map(|(sql, line)| (&sql[..8], *line)).collect();
            assert_eq!(
                heads,
                [
                    ("SELECT '", 1),
                    ("-- a;b\n/", 1),
                    ("CREATE T", 2),
                    ("SELECT a", 3),
                    ("SELECT '", 4)
                ]
            );
            assert!(all[2].0.ends_with("END; END;"), "{all:?}");
        }
    }

    #[test]
    fn an_open_statement_is_not_complete() {
        for text in ["SELECT 1;", "SELECT 1; -- done", "SELECT ';';\n", "SELECT 1;;"] {
            assert!(is_complete(text), "{text}");
        }
        let open = [
            "",
            "SELECT 1",
            "SELECT '1;",
            "SELECT 1; SELECT",
            "SELECT /* ;",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1;",
            "-- nothing",
        ];
        for text in open {
            assert!(!is_complete(text), "{text}");
        }
    }

    #[test]
    fn an_error_has_a_line_and_a_column() {
        let place = |text: &str, nth: usize, message: &str| {
            let mut pieces = Statements::new(text.as_bytes());
            let mut piece = pieces.next_piece().unwrap().unwrap();
            for _ in 0..nth {
                piece = pieces.next_piece().unwrap().unwrap();
            }
            placed(&piece, SqlError::new(ErrorKind::Sqlite, message)).message
        };
        let text = "SELECT 1;\n SELECT\n ü; -- ä\n SELECT 2; INSERT";
        assert_eq!(
            place(text, 1, "no such column: ü at offset 10: SQLITE_ERROR"),
            "line 3, column 2: no such column: ü: SQLITE_ERROR"
        );
        assert_eq!(place(text, 2, "locked: SQLITE"), "line 4, column 2: locked: SQLITE");
        assert_eq!(place(text, 3, "UNIQUE failed: S"), "line 4, column 12: UNIQUE failed: S");
        assert_eq!(place("SELECT 'ä'; x", 1, "y at offset 1: S"), "line 1, column 13: y: S");
    }
}
