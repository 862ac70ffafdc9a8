//! `.dev.vars` and `.env`: values for development that are never committed.
//!
//! As wrangler has it: `.dev.vars.<env>` replaces `.dev.vars`; where either exists, `.env` files
//! are not read; else `.env`, `.env.<env>`, `.env.local`, `.env.<env>.local`, the later ones win.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::app::MAX_CONFIG_BYTES;
use crate::diagnostic::Diagnostic;

pub struct DevVars {
    pub values: BTreeMap<String, String>,
    pub files: Vec<PathBuf>,
}

pub fn read_dev_vars(dir: &Path, environment: Option<&str>) -> Result<DevVars, Vec<Diagnostic>> {
    let mut names: Vec<String> = Vec::new();
    if let Some(env) = environment {
        names.push(format!(".dev.vars.{env}"));
    }
    names.push(".dev.vars".into());
    if let Some(first) = names.into_iter().find(|name| dir.join(name).is_file()) {
        return read_all(dir, vec![first]);
    }
    let mut names = vec![".env".to_owned()];
    names.extend(environment.map(|env| format!(".env.{env}")));
    names.push(".env.local".into());
    names.extend(environment.map(|env| format!(".env.{env}.local")));
    names.retain(|name| dir.join(name).is_file());
    read_all(dir, names)
}

fn read_all(dir: &Path, names: Vec<String>) -> Result<DevVars, Vec<Diagnostic>> {
    let mut found = DevVars { values: BTreeMap::new(), files: Vec::new() };
    let mut errors = Vec::new();
    for name in names {
        let path = dir.join(&name);
        match super::find::read_bounded(&path, MAX_CONFIG_BYTES) {
            Ok(text) => match parse(&text) {
                Ok(values) => found.values.extend(values),
                Err(list) => errors.extend(list.into_iter().map(|(span, message)| {
                    // The excerpt is left out: the line may hold a secret.
                    let mut d = Diagnostic::error(message).at(Path::new(&name), &text, &span);
                    d.excerpt = None;
                    d
                })),
            },
            Err(error) => {
                errors.push(Diagnostic::error(format!("cannot read it: {error}")).in_file(&name))
            }
        }
        found.files.push(path);
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

type Mistakes = Vec<(std::ops::Range<usize>, String)>;

/// `KEY=value`, `export KEY=value`, quotes of three kinds, `#` comments, values over several
/// lines in quotes, `\n` in double quotes.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Mistakes> {
    let mut values = BTreeMap::new();
    let mut mistakes = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    while at < text.len() {
        let line_end = text[at..].find('\n').map_or(text.len(), |n| at + n);
        let line = &text[at..line_end];
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            at = line_end + 1;
            continue;
        }
        let Some((key, _)) = line.split_once('=') else {
            mistakes.push((at..line_end, "this line is not KEY=value".into()));
            at = line_end + 1;
            continue;
        };
        let value_at = at + key.len() + 1;
        let name = key.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim);
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '-';
        if name.is_empty() || !name.chars().all(good) {
            mistakes.push((at..at + key.len(), "this is no name for a variable".into()));
            at = line_end + 1;
            continue;
        }
        let rest = &text[value_at..];
        let lead = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let quote = rest[lead..].chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let Some(quote) = quote else {
            let raw = text[value_at..line_end].trim();
            let raw = raw.find(" #").map_or(raw, |n| raw[..n].trim_end());
            let raw = if raw.starts_with('#') { "" } else { raw };
            values.insert(name.to_owned(), raw.to_owned());
            at = line_end + 1;
            continue;
        };
        let body_at = value_at + lead + 1;
        let Some(length) = closing(&text[body_at..], quote) else {
            mistakes.push((value_at + lead..line_end, format!("the quote {quote} is not closed")));
            at = line_end + 1;
            continue;
        };
        let body = &text[body_at..body_at + length];
        let value = if quote == '"' { unescape(body) } else { body.to_owned() };
        values.insert(name.to_owned(), value);
        let after = body_at + length + 1;
        at = text[after..].find('\n').map_or(text.len(), |n| after + n + 1);
    }
    if mistakes.is_empty() { Ok(values) } else { Err(mistakes) }
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote == '"' {
            escaped = true;
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

fn unescape(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_quotes_comments_and_escapes() {
        let text =
            "# c\nA=1\nexport B = two words # note\nC=\"x\\ny\"\nD='a # b'\nE=\"m\nn\"\nF=\n";
        let values = parse(text).unwrap_or_default();
        let get = |k: &str| values.get(k).map(String::as_str);
        assert_eq!(get("A"), Some("1"));
        assert_eq!(get("B"), Some("two words"));
        assert_eq!(get("C"), Some("x\ny"));
        assert_eq!(get("D"), Some("a # b"));
        assert_eq!(get("E"), Some("m\nn"));
        assert_eq!(get("F"), Some(""));
    }

    #[test]
    fn all_mistakes_are_told() {
        let mistakes = parse("oops\nA B=1\nC=\"open\n").err().unwrap_or_default();
        assert_eq!(mistakes.len(), 3);
    }
}
