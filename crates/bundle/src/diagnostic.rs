//! What went wrong in the user's own files, with the place, for the terminal and the browser.
//!
//! Lines and columns count from 1; columns count characters. Messages never hold escape codes.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Relative to the project where it lies inside it.
    pub file: Option<PathBuf>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    pub message: String,
    /// The source line and a line that points at the place in it.
    pub excerpt: Option<String>,
    pub notes: Vec<String>,
}

impl Diagnostic {
    pub fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: None,
            line: None,
            column: None,
            message: message.into(),
            excerpt: None,
            notes: Vec::new(),
        }
    }

    pub fn in_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Points at a byte range of `text`.
    pub fn at(mut self, file: &Path, text: &str, span: &Range<usize>) -> Self {
        let (line, column) = line_and_column(text, span.start);
        self.file = Some(file.to_owned());
        self.line = Some(line);
        self.column = Some(column);
        self.excerpt = Some(excerpt(text, span)).filter(|e| !e.trim_start().starts_with('^'));
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        if let Some(excerpt) = &self.excerpt {
            for line in excerpt.lines() {
                write!(f, "\n  {line}")?;
            }
        }
        for note in &self.notes {
            write!(f, "\n  note: {note}")?;
        }
        Ok(())
    }
}

/// Line and column (from 1, in characters) of a byte offset; an offset inside a character or
/// beyond the end is moved back to a boundary.
pub(crate) fn line_and_column(text: &str, offset: usize) -> (u32, u32) {
    let offset = floor_boundary(text, offset);
    let before = &text[..offset];
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    let column = before[before.rfind('\n').map_or(0, |at| at + 1)..].chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// Longest excerpt line, in characters; minified files have lines of a megabyte.
const EXCERPT_WIDTH: usize = 120;

fn excerpt(text: &str, span: &Range<usize>) -> String {
    let start = floor_boundary(text, span.start);
    let end = floor_boundary(text, span.end).max(start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let line = text[line_start..line_end].trim_end_matches('\r');
    let before = text[line_start..start].chars().count();
    let marked = text[start..end.min(line_end)].chars().count().max(1);
    // Cut long lines so that the place stays visible.
    let skip = before.saturating_sub(EXCERPT_WIDTH / 2);
    let shown: String = line.chars().skip(skip).take(EXCERPT_WIDTH).collect();
    let shown = shown.replace('\t', " ");
    let marked = marked.min(EXCERPT_WIDTH - (before - skip).min(EXCERPT_WIDTH - 1));
    format!("{shown}\n{}{}", " ".repeat(before - skip), "^".repeat(marked))
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Why there is no deployment.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The user's code or configuration is wrong.
    #[error("{}", join(.0))]
    Diagnostics(Vec<Diagnostic>),
    /// No bundler where one is needed.
    #[error("{0}")]
    NoBundler(String),
    #[error(
        "{what} did not finish within {seconds} s and was ended (`build.timeout` sets the time)"
    )]
    TimedOut { what: String, seconds: u64 },
    #[error("the build was cancelled")]
    Cancelled,
    #[error(
        "the modules together are {size} bytes, more than the script size limit of {limit} bytes (`limits.script_size`)"
    )]
    ScriptSize { size: u64, limit: u64 },
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    /// The bundler did something that its contract does not allow.
    #[error("the bundler failed: {0}")]
    Bundler(String),
    #[error(transparent)]
    Folder(#[from] crate::FolderError),
}

impl BuildError {
    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self::Diagnostics(vec![diagnostic])
    }

    /// What an overlay can show; errors without a place become one diagnostic each.
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Self::Diagnostics(list) => list.clone(),
            other => vec![Diagnostic::error(other.to_string())],
        }
    }
}

pub(crate) fn join(list: &[Diagnostic]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let text = "aé\nüb = 1\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 4), (2, 1));
        assert_eq!(line_and_column(text, 5), (2, 1), "inside a character");
        assert_eq!(line_and_column(text, 6), (2, 2));
        assert_eq!(line_and_column(text, 999), (3, 1));
    }

    #[test]
    fn an_excerpt_of_a_huge_line_is_short_and_shows_the_place() {
        let text = format!("{}BAD{}", "x".repeat(5000), "y".repeat(5000));
        let shown = excerpt(&text, &(5000..5003));
        assert!(shown.lines().all(|l| l.len() <= EXCERPT_WIDTH), "{shown}");
        assert!(shown.contains("BAD") && shown.ends_with("^^^"), "{shown}");
    }
}
