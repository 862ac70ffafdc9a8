//! esbuild's messages as diagnostics.
//!
//! A message is a heading (`✘ [ERROR] text`), an indented place with its source line and marker,
//! and notes indented by two.

use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Severity};

pub fn parse(output: &str) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    let mut excerpt: Vec<String> = Vec::new();
    let mut in_note = false;
    for line in output.lines() {
        if let Some((severity, text)) = heading(line) {
            finish(&mut found, &mut excerpt);
            let mut diagnostic = Diagnostic::error(text);
            diagnostic.severity = severity;
            found.push(diagnostic);
            in_note = false;
            continue;
        }
        let Some(current) = found.last_mut() else { continue };
        if let Some(indented) = line.strip_prefix("    ") {
            if let Some((file, row, column)) = place(indented) {
                if in_note || current.file.is_some() {
                    if let Some(note) = current.notes.last_mut() {
                        note.push_str(&format!(" ({file}:{row}:{column})"));
                    }
                } else {
                    current.file = Some(PathBuf::from(file));
                    current.line = Some(row);
                    current.column = Some(column);
                }
                continue;
            }
            if in_note {
                continue;
            }
            // `      3 │ code` and `        ╵   ^`
            if let Some((_, code)) = indented.split_once(['│', '╵']) {
                excerpt.push(code.strip_prefix(' ').unwrap_or(code).replace('~', "^"));
            }
        } else if let Some(note) = line.strip_prefix("  ").filter(|n| !n.trim().is_empty()) {
            in_note = true;
            current.notes.push(note.trim().to_owned());
        }
    }
    finish(&mut found, &mut excerpt);
    found
}

fn finish(found: &mut [Diagnostic], excerpt: &mut Vec<String>) {
    if let Some(last) = found.last_mut()
        && !excerpt.is_empty()
    {
        last.excerpt = Some(excerpt.join("\n"));
    }
    excerpt.clear();
}

fn heading(line: &str) -> Option<(Severity, String)> {
    let (severity, at) = if let Some(at) = line.find("[ERROR] ") {
        (Severity::Error, at + "[ERROR] ".len())
    } else {
        (Severity::Warning, line.find("[WARNING] ")? + "[WARNING] ".len())
    };
    let starts = line.trim_start().starts_with(['✘', '▲', 'X']);
    starts.then(|| {
        let mut text = line[at..].trim();
        // The name of a warning stands behind it in brackets.
        if let Some((before, name)) = text.rsplit_once(" [")
            && name.ends_with(']')
            && !name.contains(' ')
        {
            text = before;
        }
        (severity, text.to_owned())
    })
}

/// `src/index.ts:3:8:`; the column counts bytes from 0.
fn place(text: &str) -> Option<(&str, u32, u32)> {
    let mut parts = text.trim_end().strip_suffix(':')?.rsplitn(3, ':');
    let column: u32 = parts.next()?.parse().ok()?;
    let line: u32 = parts.next()?.parse().ok()?;
    let file = parts.next()?;
    (!file.starts_with(' ')).then_some((file, line, column.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_with_place_and_note() {
        let text = "✘ [ERROR] Could not resolve \"hono\"\n\n    src/index.ts:1:21:\n      1 │ import { Hono } from \"hono\";\n        ╵                      ~~~~~~\n\n  You can mark the path as external\n\n1 error\n";
        let found = parse(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].message, "Could not resolve \"hono\"");
        assert_eq!((found[0].line, found[0].column), (Some(1), Some(22)));
        assert_eq!(
            found[0].excerpt.as_deref(),
            Some("import { Hono } from \"hono\";\n                     ^^^^^^")
        );
        assert_eq!(found[0].notes, ["You can mark the path as external"]);
    }

    #[test]
    fn anything_else_gives_nothing_and_never_panics() {
        for text in ["", "panic: x", "✘ [ERROR]", "    a:1:2:", "✘ [ERROR] é [é]\n    é:é:é:"]
        {
            parse(text);
        }
    }
}
