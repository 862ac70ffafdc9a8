//! What the shell's line editor knows: when a statement is whole, and which names complete.

use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use verge_node::is_complete_sql;

const COMMANDS: [&str; 5] = [".help", ".mode", ".quit", ".schema", ".tables"];
const MODES: [&str; 4] = ["csv", "json", "line", "table"];
const WORDS: [&str; 36] = [
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CREATE",
    "DEFAULT",
    "DELETE",
    "DESC",
    "DISTINCT",
    "DROP",
    "EXISTS",
    "EXPLAIN",
    "FROM",
    "GROUP",
    "HAVING",
    "INDEX",
    "INSERT",
    "INTO",
    "JOIN",
    "LIMIT",
    "NOT",
    "NULL",
    "ORDER",
    "PRAGMA",
    "PRIMARY",
    "REFERENCES",
    "RETURNING",
    "SELECT",
    "TABLE",
    "UNIQUE",
    "UPDATE",
    "VALUES",
    "VIEW",
    "WHERE",
];

pub struct Line {
    names: Vec<String>,
}

impl Line {
    pub fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    pub fn learn(&mut self, names: Vec<String>) {
        self.names = names;
    }

    /// Where the word before the cursor begins, and what it may become.
    fn candidates(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let before = &line[..at];
        if before.starts_with('.') && !before.contains(' ') {
            let fits = COMMANDS.iter().filter(|command| command.starts_with(before));
            return (0, fits.map(|command| (*command).to_owned()).collect());
        }
        let begin = before
            .char_indices()
            .rev()
            .find(|(_, c)| !(c.is_alphanumeric() || *c == '_'))
            .map_or(0, |(at, c)| at + c.len_utf8());
        let word = &before[begin..];
        let fits =
            |name: &str| name.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word));
        if before.starts_with(".mode ") {
            let modes = MODES.iter().filter(|mode| fits(mode));
            return (begin, modes.map(|mode| (*mode).to_owned()).collect());
        }
        let mut found: Vec<String> = self.names.iter().filter(|name| fits(name)).cloned().collect();
        if !word.is_empty() && !before.starts_with('.') {
            let lower = word.chars().all(char::is_lowercase);
            let words = WORDS.iter().filter(|word| fits(word));
            found
                .extend(words.map(|word| if lower { word.to_lowercase() } else { (*word).into() }));
        }
        (begin, found)
    }
}

impl Validator for Line {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let whole = text.is_empty() || text.starts_with('.') || is_complete_sql(text);
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for Line {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (begin, found) = self.candidates(line, at);
        let pair = |text: String| Pair { display: text.clone(), replacement: text };
        Ok((begin, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Line {
    type Hint = String;
}

impl Highlighter for Line {}

impl Helper for Line {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_words_and_commands_complete() {
        let line = Line::new(vec!["users".into(), "Uploads".into()]);
        let of = |text: &str| line.candidates(text, text.len());
        assert_eq!(
            of("SELECT * FROM u"),
            (14, vec!["users".into(), "Uploads".into(), "unique".into(), "update".into()])
        );
        assert_eq!(of("SEL"), (0, vec!["SELECT".into()]));
        assert_eq!(of("sel").1, ["select"]);
        assert_eq!(of(".sc"), (0, vec![".schema".into()]));
        assert_eq!(of(".schema us"), (8, vec!["users".into()]));
        assert_eq!(of(".mode j"), (6, vec!["json".into()]));
        assert_eq!(of("SELECT 'ü").1, Vec::<String>::new());
    }
}
