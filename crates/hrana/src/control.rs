//! Statements that begin and end transactions, told from all others by their words.
//!
//! A backend has to know them before SQLite does: a transaction may need another connection,
//! and `BEGIN … READONLY`, which `@libsql/client` sends for `transaction("read")`, is libSQL's
//! and no syntax of SQLite.

/// What a statement does to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Reads until it first writes.
    BeginDeferred,
    /// May write, from now on (`IMMEDIATE`, `EXCLUSIVE`).
    BeginWrite,
    /// May not write.
    BeginReadOnly,
    Commit,
    Rollback,
}

impl Control {
    /// `None` for every other statement, also for `ROLLBACK TO` and what has an error.
    pub fn of(sql: &str) -> Option<Self> {
        let words = words(sql)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Some(match words.as_slice() {
            ["begin"] | ["begin", "transaction"] => Self::BeginDeferred,
            ["begin", kind] | ["begin", kind, "transaction"] => match *kind {
                "deferred" => Self::BeginDeferred,
                "immediate" | "exclusive" => Self::BeginWrite,
                "readonly" => Self::BeginReadOnly,
                _ => return None,
            },
            ["begin", "transaction", "readonly"] => Self::BeginReadOnly,
            ["commit" | "end"] | ["commit" | "end", "transaction"] => Self::Commit,
            ["rollback"] | ["rollback", "transaction"] => Self::Rollback,
            _ => return None,
        })
    }
}

/// The words of a statement in lower case, if it has up to three and nothing else but space,
/// comments and semicolons at its end.
fn words(sql: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = sql;
    let mut ended = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
        let Some(first) = rest.chars().next() else { return Some(words) };
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.find("*/").map_or("", |end| &comment[end + 2..]);
        } else if first == ';' {
            ended = true;
            rest = &rest[1..];
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
            if ended || end == 0 || words.len() == 3 {
                return None;
            }
            words.push(rest[..end].to_ascii_lowercase());
            rest = &rest[end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libsql_client_sends_is_known() {
        for (sql, control) in [
            ("BEGIN IMMEDIATE", Control::BeginWrite),
            ("BEGIN TRANSACTION READONLY", Control::BeginReadOnly),
            ("BEGIN DEFERRED", Control::BeginDeferred),
            ("COMMIT", Control::Commit),
            ("ROLLBACK", Control::Rollback),
        ] {
            assert_eq!(Control::of(sql), Some(control), "{sql}");
        }
    }

    #[test]
    fn every_spelling_is_known_and_nothing_else() {
        for (sql, control) in [
            ("begin", Control::BeginDeferred),
            (" /* a */ Begin -- b\n transaction ; ; -- c", Control::BeginDeferred),
            ("BEGIN EXCLUSIVE TRANSACTION;", Control::BeginWrite),
            ("BEGIN READONLY", Control::BeginReadOnly),
            ("end transaction", Control::Commit),
            ("ROLLBACK TRANSACTION", Control::Rollback),
        ] {
            assert_eq!(Control::of(sql), Some(control), "{sql}");
        }
        for sql in [
            "",
            ";",
            "SELECT 1",
            "BEGIN; SELECT",
            "BEGIN 1",
            "BEGINS",
            "BEGIN IMMEDIATE READONLY",
            "ROLLBACK TO a",
            "ROLLBACK TRANSACTION TO a",
            "SAVEPOINT a",
            "\"BEGIN\"",
            "COMMIT é",
        ] {
            assert_eq!(Control::of(sql), None, "{sql}");
        }
    }
}
