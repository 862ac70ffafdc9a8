//! How a finding looks on the terminal: what is wrong, where, the line itself, what to do.

use std::fmt::Write as _;

use verge_bundle::{Diagnostic, Severity};

use crate::terminal::{Paint, Style};

/// Several lines, without a newline at the end.
pub fn to_text(diagnostic: &Diagnostic, paint: Paint) -> String {
    let (word, style) = match diagnostic.severity {
        Severity::Error => ("error", Style::Bad),
        Severity::Warning => ("warning", Style::Warn),
    };
    let mut text = format!(
        "{}: {}",
        paint.paint(style, word),
        paint.paint(Style::Strong, &printable(&diagnostic.message))
    );
    if let Some(place) = place(diagnostic) {
        let _ = write!(text, "\n  {} {place}", paint.paint(Style::Accent, "-->"));
    }
    if let Some(excerpt) = &diagnostic.excerpt {
        let number = diagnostic.line.map(|line| line.to_string()).unwrap_or_default();
        let width = number.len().max(2);
        for (at, line) in excerpt.lines().enumerate() {
            let label = if at == 0 { number.as_str() } else { "" };
            let gutter = paint.paint(Style::Accent, &format!("{label:>width$} |"));
            let line = printable(line);
            let line = if at == 0 { line } else { paint.paint(style, &line) };
            let _ = write!(text, "\n  {gutter} {line}");
        }
    }
    for note in &diagnostic.notes {
        let _ = write!(text, "\n  {} {}", paint.paint(Style::Accent, "="), printable(note));
    }
    text
}

/// `src/index.ts:3:9`.
pub fn place(diagnostic: &Diagnostic) -> Option<String> {
    let mut place = diagnostic.file.as_ref()?.display().to_string();
    if let Some(line) = diagnostic.line {
        let _ = write!(place, ":{line}");
        if let Some(column) = diagnostic.column {
            let _ = write!(place, ":{column}");
        }
    }
    Some(place)
}

/// Without control characters: what stands in a file must not steer the terminal.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_shows_the_place_and_the_line() {
        let text = "{\n  \"mian\": 1\n}\n";
        let diagnostic = Diagnostic::error("`mian` is no key")
            .at("wrangler.jsonc".as_ref(), text, &(4..10))
            .note("did you mean `main`?");
        let shown = to_text(&diagnostic, Paint::PLAIN);
        assert_eq!(
            shown,
            "error: `mian` is no key\n  --> wrangler.jsonc:2:3\n   2 |   \"mian\": 1\n     |   ^^^^^^\n  = did you mean `main`?"
        );
    }

    #[test]
    fn escape_codes_of_a_file_do_not_reach_the_terminal() {
        let shown = to_text(&Diagnostic::error("\u{1b}[2J\u{7}x"), Paint::PLAIN);
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    }
}
