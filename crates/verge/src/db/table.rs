//! Rows for people: columns that line up, numbers to the right; and as CSV.

use serde_json::Value as Json;
use unicode_width::UnicodeWidthStr;

use crate::diagnostics::printable;
use crate::terminal::{Style, Terminal};

/// Widest cell that is shown whole on a terminal, in columns.
const MAX_CELL: usize = 60;

/// A value as it is shown.
pub fn cell(value: &Json) -> String {
    match value {
        Json::Null => "NULL".to_owned(),
        Json::String(text) => text.clone(),
        Json::Object(blob) if blob.contains_key("blob") => {
            format!("x'{}'", blob["blob"].as_str().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// One line of a cell, cut where it is too wide to be read.
fn fit(text: &str, cut: bool) -> String {
    let text = printable(text).replace('\n', "\\n").replace('\t', "\\t");
    if !cut || text.width() <= MAX_CELL {
        return text;
    }
    let mut short = String::new();
    for c in text.chars() {
        if short.width() + 1 >= MAX_CELL {
            break;
        }
        short.push(c);
    }
    short + "…"
}

/// The lines of a table, its header first.
pub fn lines(columns: &[impl AsRef<str>], rows: &[Vec<Json>], terminal: &Terminal) -> Vec<String> {
    let cut = terminal.is_interactive();
    let shown: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|value| fit(&cell(value), cut)).collect()).collect();
    let names: Vec<String> = columns.iter().map(|name| fit(name.as_ref(), cut)).collect();
    let width = |at: usize| {
        let cells = shown.iter().filter_map(|row| row.get(at));
        cells.chain(names.get(at)).map(|text| text.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let last = names.len().saturating_sub(1);
    // No spaces at the ends of lines.
    let pad = |text: &str, at: usize, right: bool| {
        let space = " ".repeat(widths[at].saturating_sub(text.width()));
        match (right, at == last) {
            (true, _) => format!("{space}{text}"),
            (false, true) => text.to_owned(),
            (false, false) => format!("{text}{space}"),
        }
    };
    let numbers: Vec<bool> = (0..names.len())
        .map(|at| {
            let mut values = rows.iter().filter_map(|row| row.get(at)).filter(|v| !v.is_null());
            rows.iter().any(|row| row.get(at).is_some_and(Json::is_number))
                && values.all(Json::is_number)
        })
        .collect();
    let header: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| terminal.paint(Style::Strong, &pad(name, at, numbers[at])))
        .collect();
    let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut lines = vec![header.join("  "), terminal.paint(Style::Faint, &rule.join("  "))];
    for (row, values) in shown.iter().zip(rows) {
        let cells: Vec<_> = row
            .iter()
            .enumerate()
            .map(|(at, text)| {
                let text = pad(text, at, numbers[at]);
                let null = values.get(at).is_some_and(Json::is_null);
                if null { terminal.paint(Style::Faint, &text) } else { text }
            })
            .collect();
        lines.push(cells.join("  "));
    }
    lines
}

/// A table of texts, without a rule: for lists.
pub fn list(columns: &[&str], rows: &[Vec<String>], terminal: &Terminal) -> Vec<String> {
    let rows: Vec<Vec<Json>> =
        rows.iter().map(|row| row.iter().map(|text| text.as_str().into()).collect()).collect();
    let mut lines = lines(columns, &rows, terminal);
    lines.remove(1);
    lines
}

/// RFC 4180, as `verge db export --format csv` writes it.
pub fn csv(columns: &[String], rows: &[Vec<Json>]) -> String {
    let quote = |text: &str| {
        let plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']);
        if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
    };
    let field = |value: &Json| match value {
        Json::Null => String::new(),
        Json::String(text) => quote(text),
        Json::Object(blob) => blob["blob"].as_str().unwrap_or_default().to_owned(),
        other => other.to_string(),
    };
    let names: Vec<_> = columns.iter().map(|name| quote(name)).collect();
    let mut text = names.join(",");
    for row in rows {
        text.push('\n');
        text.push_str(&row.iter().map(field).collect::<Vec<_>>().join(","));
    }
    text
}

/// `1 row`, `3 rows`.
pub fn count(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// `4.1 MB`.
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / *size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::Output;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let terminal = Terminal::new(&Output::default());
        let rows = vec![
            vec![json!(1), json!("日本"), json!(null)],
            vec![json!(-20), json!("a\nb"), json!({ "blob": "00ff" })],
        ];
        let lines = lines(&["id", "name", "data"], &rows, &terminal);
        assert_eq!(
            lines,
            ["id  name  data", "---  ----  -------", "  1  日本  NULL", "-20  a\\nb  x'00ff'"]
                .map(|line| if line.starts_with("id") { " id  name  data" } else { line })
        );
        assert_eq!(csv(&["a".into(), "b,".into(), "c".into()], &rows[..1]), "a,\"b,\",c\n1,日本,");
    }

    #[test]
    fn escape_codes_in_the_data_do_not_reach_the_terminal() {
        let terminal = Terminal::new(&Output::default());
        let lines = lines(&["a"], &[vec![json!("\u{1b}[2J")]], &terminal);
        assert!(!lines.concat().contains('\u{1b}'));
    }
}
