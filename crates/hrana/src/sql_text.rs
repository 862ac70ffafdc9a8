//! What the text of SQL tells without compiling it: its parameters, in SQLite's numbering, and
//! where its statements end.
//!
//! A statement may only compile inside a transaction that is open elsewhere.

/// The name of each parameter 1, 2, … with its sign; `None` for `?` and for unused numbers.
/// Numbers beyond `most` are left out (SQLite refuses them).
pub fn parameters(sql: &str, most: usize) -> Vec<Option<String>> {
    let bytes = sql.as_bytes();
    let mut names: Vec<Option<String>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &sql[at..];
        if let Some(length) = skipped(rest) {
            at += length;
            continue;
        }
        let length = match byte {
            b'?' => {
                let digits = word(&bytes[at + 1..], |byte| byte.is_ascii_digit());
                let number = sql[at + 1..at + 1 + digits].parse::<usize>();
                if digits == 0 {
                    names.push(None);
                } else if let Ok(number @ 1..) = number
                    && number <= most
                {
                    if names.len() < number {
                        names.resize(number, None);
                    }
                    names[number - 1] = Some(format!("?{number}"));
                }
                digits + 1
            }
            b':' | b'@' | b'$' | b'#' => {
                let length = 1 + named(&bytes[at + 1..], byte == b'$');
                let name = &rest[..length];
                if length > 1 && !names.iter().any(|known| known.as_deref() == Some(name)) {
                    names.push(Some(name.to_owned()));
                }
                length
            }
            byte if is_word(byte) => word(&bytes[at..], is_word),
            _ => 1,
        };
        at += length;
        if names.len() > most {
            names.truncate(most);
            break;
        }
    }
    names
}

/// The statements of a script, without blank ones. Semicolons inside a trigger's body end nothing.
pub fn statements(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut at = 0;
    let mut words: Vec<String> = Vec::new();
    // Inside a trigger, `;` ends the statement only after `END`.
    let mut last_end = false;
    while at < sql.len() {
        let rest = &sql[at..];
        if let Some(length) = skipped(rest) {
            if !rest.starts_with("--") && !rest.starts_with("/*") {
                last_end = false;
                words.push(String::new());
            }
            at += length;
            continue;
        }
        let bytes = rest.as_bytes();
        if bytes[0] == b';' {
            at += 1;
            if !is_trigger(&words) || last_end {
                if !words.is_empty() {
                    found.push(&sql[start..at]);
                }
                (start, last_end) = (at, false);
                words.clear();
            }
        } else if bytes[0].is_ascii_whitespace() {
            at += 1;
        } else {
            let length = word(bytes, is_word).max(1);
            last_end = rest[..length.min(3)].eq_ignore_ascii_case("end") && length == 3;
            if words.len() < 4 {
                words.push(rest[..length].to_ascii_lowercase());
            }
            at += length;
        }
    }
    if !words.is_empty() {
        found.push(&sql[start..]);
    }
    found
}

fn is_trigger(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["create", "trigger", ..] | ["create", "temp" | "temporary", "trigger", ..]
    )
}

/// The length of a quoted text or a comment that begins here.
fn skipped(rest: &str) -> Option<usize> {
    let quote = *rest.as_bytes().first()?;
    match quote {
        b'\'' | b'"' | b'`' => Some(quoted(rest.as_bytes(), quote)),
        b'[' => Some(rest.find(']').map_or(rest.len(), |end| end + 1)),
        b'-' if rest.starts_with("--") => Some(rest.find('\n').unwrap_or(rest.len())),
        b'/' if rest.starts_with("/*") => {
            Some(rest[2..].find("*/").map_or(rest.len(), |end| end + 4))
        }
        _ => None,
    }
}

/// `$` and what is not ASCII belong to words.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn word(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| of(**byte)).count()
}

/// A name's length; after `$`, also `::` and a suffix in brackets, as Tcl has them.
fn named(bytes: &[u8], tcl: bool) -> usize {
    let mut length = word(bytes, is_word);
    while tcl && length > 0 {
        if bytes[length..].starts_with(b"::") {
            length += 2 + word(&bytes[length + 2..], is_word);
        } else if bytes.get(length) == Some(&b'(') {
            let suffix =
                word(&bytes[length + 1..], |byte| byte != b')' && !byte.is_ascii_whitespace());
            let closed = bytes.get(length + 1 + suffix) == Some(&b')');
            return if closed { length + suffix + 2 } else { length };
        } else {
            break;
        }
    }
    length
}

/// A quoted text's length: the quote doubled is a part of it.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == quote {
            if bytes.get(at) != Some(&quote) {
                break;
            }
            at += 1;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<String> {
        parameters(sql, 100).into_iter().map(|name| name.unwrap_or_default()).collect()
    }

    #[test]
    fn parameters_are_numbered_as_sqlite_does() {
        for (sql, expected) in [
            ("SELECT 1", vec![]),
            ("SELECT ?, ?", vec!["", ""]),
            ("SELECT :a, @b, $c, :a, ?", vec![":a", "@b", "$c", ""]),
            ("SELECT ?3, ?", vec!["", "", "?3", ""]),
            ("SELECT ?2, :a, ?1", vec!["?1", "?2", ":a"]),
            ("SELECT $a::b(c), $d(e", vec!["$a::b(c)", "$d"]),
            ("SELECT ':a''?', \":b\", `?`, [?], x:c -- ?\n, ? /* ? */", vec![":c", ""]),
            ("SELECT a$b, :é, '", vec![":é"]),
            ("SELECT '?", vec![]),
            ("SELECT ?0, ?101", vec![]),
        ] {
            assert_eq!(names(sql), expected, "{sql}");
        }
        assert_eq!(parameters(&"?,".repeat(500), 100).len(), 100);
    }

    #[test]
    fn scripts_are_taken_apart_at_their_statements() {
        for (sql, expected) in [
            ("", vec![]),
            (" ; -- a\n;", vec![]),
            ("SELECT 1", vec!["SELECT 1"]),
            ("SELECT ';'; SELECT [;];", vec!["SELECT ';';", " SELECT [;];"]),
            (
                "CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; SELECT 2; END; SELECT 3",
                vec![
                    "CREATE TRIGGER a AFTER INSERT ON b BEGIN SELECT 1; SELECT 2; END;",
                    " SELECT 3",
                ],
            ),
            (
                "create /* ; */ temp trigger é begin select case when 1 then 2 end; end;x",
                vec![
                    "create /* ; */ temp trigger é begin select case when 1 then 2 end;",
                    " end;",
                    "x",
                ],
            ),
            ("BEGIN; COMMIT; END", vec!["BEGIN;", " COMMIT;", " END"]),
            ("'abc", vec!["'abc"]),
        ] {
            assert_eq!(statements(sql), expected, "{sql}");
        }
    }

    #[test]
    fn sqlite_agrees() {
        let sqlite = rusqlite::Connection::open_in_memory().unwrap();
        for sql in [
            "SELECT ?, ?2, :a, @b, $c, :a",
            "SELECT ?5, ?, :x",
            "SELECT $a::b, $a::b(c), $x",
            "SELECT 'it''s ?', \"a:b\" FROM (SELECT 1 AS \"a:b\"), (SELECT 2 AS [?]) WHERE ?=1",
            "SELECT 1 - -?, 4/?, '--', ?  -- ? :a",
        ] {
            let statement = sqlite.prepare(sql).unwrap();
            let known: Vec<_> = (1..=statement.parameter_count())
                .map(|number| statement.parameter_name(number).map(str::to_owned))
                .collect();
            assert_eq!(parameters(sql, 100), known, "{sql}");
        }
    }
}
