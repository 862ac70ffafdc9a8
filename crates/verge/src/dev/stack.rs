//! From a stack trace to the line of the user's file that it is about.

use std::path::{Component, Path, PathBuf};

use verge_bundle::{AppConfig, Diagnostic};
use verge_types::Fault;

use crate::failure::Failure;

/// Where an app's files seem to be, seen from inside.
const INSIDE: &str = "/app";
/// A source file longer than this is not read for an excerpt.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// One place named by a stack trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub line: u32,
    pub column: u32,
}

/// An app whose top-level code failed.
pub fn start_failure(fault: &Fault, config: &AppConfig) -> Failure {
    let detail = fault.detail.as_deref().unwrap_or(&fault.message);
    let mut diagnostic = Diagnostic::error(headline(detail));
    if let Some((place, text)) = own_place(detail, &config.root) {
        let offset = offset_of(&text, place.line, place.column);
        diagnostic = diagnostic.at(&place.file, &text, &(offset..offset));
    }
    diagnostic.notes = detail.lines().skip(1).map(|line| line.trim().to_owned()).collect();
    Failure {
        diagnostics: vec![diagnostic],
        ..Failure::new(fault.code, format!("{} does not start: {}", config.name, fault.message))
    }
}

/// The first line: the exception's own words.
pub fn headline(detail: &str) -> &str {
    detail.lines().next().unwrap_or(detail).trim()
}

/// The first place in a file of the project, relative to it, and the file's text.
pub fn own_place(detail: &str, root: &Path) -> Option<(Place, String)> {
    detail.lines().filter_map(place).find_map(|mut place| {
        let path = place
            .file
            .strip_prefix(root)
            .or_else(|_| place.file.strip_prefix(INSIDE))
            .unwrap_or(&place.file)
            .to_owned();
        let inside = path.is_relative()
            && path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
            && !path.components().any(|c| c.as_os_str() == "node_modules");
        if !inside {
            return None;
        }
        let full = root.join(&path);
        if !std::fs::metadata(&full).is_ok_and(|data| data.is_file() && data.len() <= MAX_FILE) {
            return None;
        }
        let text = std::fs::read_to_string(&full).ok()?;
        place.file = path;
        Some((place, text))
    })
}

/// `    at name (src/index.ts:3:9)` or `    at file:///src/index.ts:3:9`.
pub fn place(line: &str) -> Option<Place> {
    let line = line.trim();
    let rest = line.strip_prefix("at ")?;
    let spot = match rest.rfind('(') {
        Some(open) => rest[open + 1..].strip_suffix(')')?,
        None => rest.strip_prefix("async ").unwrap_or(rest),
    };
    let (rest, column) = spot.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    let file = file.strip_prefix("file://").unwrap_or(file);
    let not_a_file = ["ext:", "node:", "data:"].iter().any(|scheme| file.starts_with(scheme));
    if file.is_empty() || file.contains("://") || not_a_file {
        return None;
    }
    Some(Place { file: file.into(), line: line.parse().ok()?, column: column.parse().ok()? })
}

fn offset_of(text: &str, line: u32, column: u32) -> usize {
    let mut start = 0;
    for _ in 1..line {
        match text[start..].find('\n') {
            Some(end) => start += end + 1,
            None => return text.len(),
        }
    }
    let column = usize::try_from(column).unwrap_or(1).saturating_sub(1);
    let line = text[start..].lines().next().unwrap_or_default();
    start + line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
}

/// The lines around a place, with their numbers: what an error page shows.
pub fn around(text: &str, line: u32, context: u32) -> Vec<(u32, &str)> {
    (1u32..)
        .zip(text.lines())
        .skip_while(|(number, _)| number + context < line)
        .take_while(|(number, _)| *number <= line + context)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_all_their_spellings() {
        for (line, file, at) in [
            ("    at fetch (src/index.ts:3:9)", "src/index.ts", (3, 9)),
            ("at async file:///src/a b.ts:10:1", "/src/a b.ts", (10, 1)),
            ("  at new X (file:///x.js:1:2)", "/x.js", (1, 2)),
        ] {
            let place = place(line).expect(line);
            assert_eq!(place.file, Path::new(file));
            assert_eq!((place.line, place.column), at);
        }
        for line in
            ["Error: at x:1:2", "at f (ext:core/01_core.js:1:2)", "at <anonymous>", "at (:1:2)"]
        {
            assert_eq!(place(line), None, "{line}");
        }
    }

    #[test]
    fn context_stays_inside_the_file() {
        let text = "a\nb\nc\nd";
        assert_eq!(around(text, 1, 1), [(1, "a"), (2, "b")]);
        assert_eq!(around(text, 4, 1), [(3, "c"), (4, "d")]);
        assert_eq!(around(text, 9, 1), []);
    }

    #[test]
    fn the_users_own_file_is_preferred_and_nothing_outside_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("a.ts"), "let x;\nboom();\n").expect("written");
        let detail = "Error: boom\n  at f (../../etc/passwd:1:1)\n  at g (node_modules/x/i.js:1:1)\n  at h (file:///app/a.ts:2:1)";
        let (place, text) = own_place(detail, dir.path()).expect("a place");
        assert_eq!((place.line, place.column), (2, 1));
        assert_eq!(&text[offset_of(&text, 2, 1)..][..4], "boom");
    }
}
