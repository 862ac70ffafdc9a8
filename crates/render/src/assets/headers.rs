//! `_headers`: a path pattern, then indented `Name: value` lines; `! Name` takes one away.
//! All rules that match a path apply, in order; a name set twice is joined with a comma.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::pattern::{PathPattern, fill};

/// Most rules of a file, as Workers allows.
const MAX_RULES: usize = 100;
/// Longest line, in bytes.
const MAX_LINE: usize = 2_000;

enum Change {
    Set(HeaderName, String),
    Remove(HeaderName),
}

#[derive(Default)]
pub(super) struct HeaderRules(Vec<(PathPattern, Vec<Change>)>);

impl HeaderRules {
    pub fn parse(text: &str, warnings: &mut Vec<String>) -> Self {
        let mut rules: Vec<(PathPattern, Vec<Change>)> = Vec::new();
        // Lines under a path that was refused are refused with it, silently.
        let mut skipping = true;
        for (index, raw) in text.lines().enumerate() {
            let line = raw.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut warn = |problem: &str| {
                warnings.push(format!("_headers:{}: {problem}: `{line}`", index + 1));
            };
            if line.len() > MAX_LINE {
                warn("the line is longer than 2000 bytes");
                continue;
            }
            if line.starts_with('/') || line.starts_with("https://") {
                skipping = true;
                let path = match line.strip_prefix("https://") {
                    Some(url) => url.find('/').map_or("/", |at| &url[at..]),
                    None => line,
                };
                match PathPattern::parse(path) {
                    Ok(_) if rules.len() == MAX_RULES => warn("there are more than 100 rules"),
                    Ok(pattern) => {
                        rules.push((pattern, Vec::new()));
                        skipping = false;
                    }
                    Err(problem) => warn(problem),
                }
                continue;
            }
            let Some((_, changes)) = rules.last_mut().filter(|_| !skipping) else {
                if !skipping || rules.is_empty() {
                    warn("a header stands under a path");
                }
                continue;
            };
            match parse_change(line) {
                Ok(change) => changes.push(change),
                Err(problem) => warn(problem),
            }
        }
        Self(rules)
    }

    /// Applies the rules for `path`.
    pub fn apply(&self, path: &str, headers: &mut HeaderMap) {
        let mut ours: Vec<HeaderName> = Vec::new();
        for (pattern, changes) in &self.0 {
            let Some(captures) = pattern.matches(path) else { continue };
            for change in changes {
                match change {
                    Change::Remove(name) => {
                        headers.remove(name);
                    }
                    Change::Set(name, value) => {
                        let value = fill(value, &captures);
                        let joined = match headers.get(name).filter(|_| ours.contains(name)) {
                            Some(before) => format!("{}, {value}", before.to_str().unwrap_or("")),
                            None => value,
                        };
                        // A capture can bring a byte that no header may have.
                        if let Ok(value) = HeaderValue::from_str(&joined) {
                            headers.insert(name.clone(), value);
                            ours.push(name.clone());
                        }
                    }
                }
            }
        }
    }
}

fn parse_change(line: &str) -> Result<Change, &'static str> {
    let name = |text: &str| {
        HeaderName::from_bytes(text.trim().as_bytes()).map_err(|_| "this is no header name")
    };
    if let Some(removed) = line.strip_prefix('!') {
        return Ok(Change::Remove(name(removed)?));
    }
    let (before, value) = line.split_once(':').ok_or("a header is `Name: value`")?;
    HeaderValue::from_str(value.trim()).map_err(|_| "the value has a forbidden character")?;
    Ok(Change::Set(name(before)?, value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_apply_in_order() {
        let mut warnings = Vec::new();
        let rules = HeaderRules::parse(
            "/*\n  X-Frame-Options: DENY\n  x-a: 1\n/open/:who\n  ! X-Frame-Options\n  x-a: 2\n  x-who: :who\nbad\n",
            &mut warnings,
        );
        let mut headers = HeaderMap::new();
        rules.apply("/open/me", &mut headers);
        assert_eq!(headers.get("x-frame-options"), None);
        assert_eq!(headers["x-a"], "1, 2");
        assert_eq!(headers["x-who"], "me");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
