//! What a node's errors say to somebody at a terminal.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use verge_bundle::Diagnostic;
use verge_node::Code;
use verge_types::PopName;

use crate::failure::Failure;

/// Longest line that is shown of a file, bytes.
const MAX_EXCERPT: u64 = 4096;

/// What D1 tells apps of BEGIN and COMMIT, which does not help at a terminal.
const NO_TRANSACTIONS: &str = "To execute a transaction, please use";

pub fn no_pop(pop: &PopName) -> Failure {
    Failure::new("no_pop", format!("`{pop}` does not run here"))
}

/// A node's error, which may have come over a socket.
pub fn of_node(error: &verge_node::Error) -> Failure {
    let text = error.to_string();
    for prefix in ["D1_EXEC_ERROR: ", "D1_ERROR: ", "D1_DUMP_ERROR: ", "D1_TYPE_ERROR: "] {
        if let Some(message) = text.strip_prefix(prefix) {
            return of_sql(message);
        }
    }
    match error.code() {
        Code::NoDataset => Failure::new("no_database", "there is no such database"),
        Code::NotEmpty => Failure::new("not_empty", text)
            .hint("--replace removes what is there first; `verge db export` keeps it before"),
        Code::InUse => Failure::new("in_use", text).hint("wait for that process, or end it"),
        Code::ShuttingDown => ended(),
        Code::NotRetained => Failure::new("not_retained", text),
        Code::Exists => Failure::new("exists", text),
        _ => Failure::new("data", text),
    }
}

/// The code of [`ended`].
pub const ENDED: &str = "ended";

/// Nothing was done: the process that had the data was about to end.
pub fn ended() -> Failure {
    Failure::new(ENDED, "the running `verge` has just ended").hint("run the command again")
}

fn of_sql(message: &str) -> Failure {
    let (place, text) = split(message);
    if text.contains(NO_TRANSACTIONS) {
        let what = "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not for scripts";
        let message = match place {
            Some((line, column)) => format!("line {line}, column {column}: {what}"),
            None => what.to_owned(),
        };
        return Failure::new("sql", message)
            .hint("leave them out: all statements are one transaction already");
    }
    // The general code says nothing that the text does not.
    Failure::new("sql", message.strip_suffix(": SQLITE_ERROR").unwrap_or(message))
}

/// `line 3, column 8: no such table`, or `line 3: too many fields`, as its place and the rest.
fn split(message: &str) -> (Option<(u32, u32)>, &str) {
    let parsed = message.strip_prefix("line ").and_then(|rest| {
        let (place, rest) = rest.split_once(": ")?;
        let (line, column) = place.split_once(", column ").unwrap_or((place, "1"));
        Some(((line.parse().ok()?, column.parse().ok()?), rest))
    });
    match parsed {
        Some((place, rest)) => (Some(place), rest),
        None => (None, message),
    }
}

/// What SQL came from.
pub enum Origin<'a> {
    Text(&'a str),
    File(&'a Path),
}

/// Shows the place that an error names, if it names one.
pub fn placed(failure: Failure, summary: impl Into<String>, origin: &Origin<'_>) -> Failure {
    let (Some((line, column)), text) = split(&failure.message) else { return failure };
    let source = match origin {
        Origin::Text(text) => text.lines().nth(line as usize - 1).map(str::to_owned),
        Origin::File(path) => line_of(path, line),
    };
    let mut diagnostic = Diagnostic::error(text);
    let one_line = matches!(origin, Origin::Text(text) if text.trim_end().lines().count() < 2);
    if let Some(source) = source {
        let at = source.chars().take(column as usize - 1);
        let space: String = at.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        diagnostic.excerpt = Some(format!("{source}\n{space}^"));
    }
    diagnostic.line = Some(line);
    diagnostic.column = Some(column);
    diagnostic.file = match origin {
        Origin::Text(_) if one_line => None,
        Origin::Text(_) => Some("command".into()),
        Origin::File(path) => Some(path.into()),
    };
    Failure { message: summary.into(), diagnostics: vec![diagnostic], ..failure }
}

fn line_of(path: &Path, line: u32) -> Option<String> {
    let mut reader = BufReader::new(std::fs::File::open(path).ok()?);
    for _ in 1..line {
        if reader.skip_until(b'\n').ok()? == 0 {
            return None;
        }
    }
    let mut bytes = Vec::new();
    reader.take(MAX_EXCERPT).read_until(b'\n', &mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_out_of_the_message_and_shown() {
        let error = verge_node::Error::Command(
            "D1_EXEC_ERROR: line 2, column 8: no such column: nmae: SQLITE_ERROR".to_owned(),
        );
        let text = "SELECT 1;\nSELECT nmae FROM t;";
        let failure = placed(of_node(&error), "nothing was changed", &Origin::Text(text));
        assert_eq!((failure.code, failure.message.as_str()), ("sql", "nothing was changed"));
        let diagnostic = &failure.diagnostics[0];
        assert_eq!(diagnostic.message, "no such column: nmae");
        assert_eq!(diagnostic.excerpt.as_deref(), Some("SELECT nmae FROM t;\n       ^"));
    }

    #[test]
    fn what_helps_apps_is_not_what_helps_at_a_terminal() {
        let text = format!("D1_EXEC_ERROR: line 1, column 1: {NO_TRANSACTIONS} the APIs");
        let failure = of_node(&verge_node::Error::Command(text));
        assert!(failure.message.starts_with("line 1, column 1: BEGIN"), "{}", failure.message);
        assert!(failure.hint.is_some_and(|hint| hint.contains("leave them out")));
    }
}
