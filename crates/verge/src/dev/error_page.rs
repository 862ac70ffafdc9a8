//! The pages that `verge dev` shows instead of an app: it does not build, or it threw.
//!
//! They reload by themselves when the app changes. Only `verge dev` shows them, since they
//! say what the gateway's own error pages must not.

use std::fmt::Write as _;
use std::path::Path;

use verge_bundle::Diagnostic;
use verge_types::{Fault, RequestId};

use super::events;
use super::site::State;
use super::stack;
use crate::diagnostics;
use crate::failure::Failure;
use crate::terminal::Paint;

/// Lines shown before and after the one in question.
const CONTEXT: u32 = 4;
/// A build can have hundreds of errors; the first ones matter.
const MAX_SHOWN: usize = 20;

/// The page of a version that does not build or start.
pub fn build(failure: &Failure, state: &State) -> String {
    let mut body = String::new();
    for diagnostic in failure.diagnostics.iter().take(MAX_SHOWN) {
        finding(&mut body, diagnostic, &state.config.root);
    }
    if failure.diagnostics.is_empty() {
        let _ = write!(body, "<section><h2>{}</h2></section>", escape(&failure.message));
    }
    let more = failure.diagnostics.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        let _ = write!(body, "<p>and {more} more, all of them on the terminal</p>");
    }
    if let Some(hint) = &failure.hint {
        let _ = write!(body, "<p>{}</p>", escape(hint));
    }
    let lead = if state.version.is_some() {
        "The last good version keeps answering everything but pages."
    } else {
        "No version of this app has run yet."
    };
    page(&Page {
        title: &failure.message,
        tag: failure.code,
        lead,
        body: &body,
        foot: "This page reloads when a file is saved.",
        number: state.number,
    })
}

/// The same for curl.
pub fn build_text(failure: &Failure) -> String {
    let mut text = String::new();
    for diagnostic in &failure.diagnostics {
        let _ = writeln!(text, "{}\n", diagnostics::to_text(diagnostic, Paint::PLAIN));
    }
    let _ = writeln!(text, "{}: {}", failure.code, failure.message);
    text
}

/// The page of a request that failed.
pub fn fault(fault: &Fault, asked: &str, state: &State, id: RequestId) -> String {
    let mut body = String::new();
    if let Some((limit, value)) = fault.limit {
        let spec = limit.spec();
        let unit = match spec.unit {
            verge_types::Unit::Count => "",
            unit => unit.as_str(),
        };
        let _ = write!(
            body,
            "<section><h2>limits.{} is {value} {unit}</h2><p>{}</p><p>Raise it with <code>\"limits\": {{ \"{}\": … }}</code> in the configuration: {} to {} {unit}.</p></section>",
            spec.key,
            escape(spec.reason),
            spec.key,
            spec.min,
            spec.max,
        );
    }
    if let Some(detail) = &fault.detail {
        let _ = write!(body, "<section><h2>{}</h2>", escape(stack::headline(detail)));
        if let Some((place, text)) = stack::own_place(detail, &state.config.root) {
            code(&mut body, &place.file, &text, place.line, Some(place.column));
        }
        frames(&mut body, detail);
        body.push_str("</section>");
    }
    let foot = format!("{asked} · request {id} · this page reloads when a file is saved.");
    page(&Page {
        title: &fault.message,
        tag: fault.code,
        lead: "",
        body: &body,
        foot: &foot,
        number: state.number,
    })
}

fn finding(out: &mut String, diagnostic: &Diagnostic, root: &Path) {
    let _ = write!(out, "<section><h2>{}</h2>", escape(&diagnostic.message));
    let mut shown = false;
    if let (Some(file), Some(line)) = (&diagnostic.file, diagnostic.line)
        // Without an excerpt the line may hold a secret.
        && diagnostic.excerpt.is_some()
        && let Ok(text) = std::fs::read_to_string(root.join(file))
    {
        code(out, file, &text, line, diagnostic.column);
        shown = true;
    }
    if !shown {
        if let Some(place) = diagnostics::place(diagnostic) {
            let _ = write!(out, "<p class=\"place\">{}</p>", escape(&place));
        }
        if let Some(excerpt) = &diagnostic.excerpt {
            let _ = write!(out, "<pre>{}</pre>", escape(excerpt));
        }
    }
    if !diagnostic.notes.is_empty() {
        out.push_str("<ul>");
        for note in &diagnostic.notes {
            let _ = write!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ul>");
    }
    out.push_str("</section>");
}

/// The lines around a place, the one in question marked.
fn code(out: &mut String, file: &Path, text: &str, line: u32, column: Option<u32>) {
    let column = column.map_or(String::new(), |column| format!(":{column}"));
    let _ = write!(
        out,
        "<p class=\"place\">{}:{line}{column}</p><pre>",
        escape(&file.display().to_string())
    );
    for (number, content) in stack::around(text, line, CONTEXT) {
        let class = if number == line { " class=\"here\"" } else { "" };
        // A minified line is megabytes long.
        let content: String = content.chars().take(400).collect();
        let _ = write!(out, "<span{class}><i>{number:>4}</i> {}\n</span>", escape(&content));
    }
    out.push_str("</pre>");
}

/// The stack below the headline; the user's own frames stand out.
fn frames(out: &mut String, detail: &str) {
    let lines: Vec<_> = detail.lines().skip(1).collect();
    if lines.is_empty() {
        return;
    }
    out.push_str("<pre class=\"stack\">");
    for line in lines {
        let own = stack::place(line)
            .is_some_and(|place| !place.file.components().any(|c| c.as_os_str() == "node_modules"));
        let class = if own { " class=\"own\"" } else { "" };
        let _ = write!(out, "<span{class}>{}\n</span>", escape(line));
    }
    out.push_str("</pre>");
}

struct Page<'a> {
    title: &'a str,
    tag: &'a str,
    lead: &'a str,
    body: &'a str,
    foot: &'a str,
    number: u64,
}

fn page(page: &Page<'_>) -> String {
    format!(
        include_str!("error_page.html"),
        title = escape(page.title),
        tag = escape(page.tag),
        lead = escape(page.lead),
        body = page.body,
        foot = escape(page.foot),
        script = events::script(page.number),
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_users_text_becomes_markup() {
        let mut out = String::new();
        let bad = "<script>alert('1')</script>";
        frames(&mut out, &format!("{bad}\n  at {bad} (a.ts:1:1)"));
        code(&mut out, Path::new(bad), bad, 1, None);
        let diagnostic = Diagnostic::error(bad).note(bad).in_file(bad);
        finding(&mut out, &diagnostic, Path::new("/nowhere"));
        assert!(!out.contains("<script"), "{out}");
    }
}
