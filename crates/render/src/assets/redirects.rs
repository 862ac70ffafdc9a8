//! `_redirects`: `from to [status]`, one a line. Static rules win over dynamic ones, and the
//! first of each kind wins.

use std::collections::HashMap;

use super::pattern::{PathPattern, fill};

/// Most rules without placeholders, as Workers allows.
const MAX_STATIC: usize = 2_000;
/// Most rules with placeholders or a splat.
const MAX_DYNAMIC: usize = 100;
/// Longest line, in bytes.
const MAX_LINE: usize = 2_000;

/// Where a request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Redirect {
    /// A path, or an absolute URL.
    pub to: String,
    /// 200 serves the path `to` in place; else 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(Default)]
pub(super) struct Redirects {
    exact: HashMap<String, Redirect>,
    dynamic: Vec<(PathPattern, Redirect)>,
}

impl Redirects {
    pub fn parse(text: &str, warnings: &mut Vec<String>) -> Self {
        let mut redirects = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(problem) = redirects.add(line) {
                warnings.push(format!("_redirects:{}: {problem}: `{line}`", index + 1));
            }
        }
        redirects
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        if line.len() > MAX_LINE {
            return Err("the line is longer than 2000 bytes");
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let (from, to, status) = match words[..] {
            [from, to] => (from, to, "302"),
            [from, to, status] => (from, to, status),
            _ => return Err("a rule is `from to [status]`"),
        };
        if !from.starts_with('/') {
            return Err("the path a rule is for begins with /");
        }
        let status: u16 = status.parse().map_err(|_| "the status is no number")?;
        if ![200, 301, 302, 303, 307, 308].contains(&status) {
            return Err("the status must be 200, 301, 302, 303, 307 or 308");
        }
        let absolute = to.starts_with("https://") || to.starts_with("http://");
        let own_path = to.starts_with('/') && !to.starts_with("//");
        if !absolute && !own_path {
            return Err("the target is a path that begins with / or an http(s) URL");
        }
        if status == 200 && absolute {
            return Err("status 200 serves a path of this site, not another site");
        }
        let redirect = Redirect { to: to.to_owned(), status };
        let pattern = PathPattern::parse(from)?;
        if pattern.is_static() {
            if self.exact.len() == MAX_STATIC {
                return Err("there are more than 2000 static rules; this one is not used");
            }
            self.exact.entry(from.to_owned()).or_insert(redirect);
        } else {
            if self.dynamic.len() == MAX_DYNAMIC {
                return Err("there are more than 100 dynamic rules; this one is not used");
            }
            self.dynamic.push((pattern, redirect));
        }
        Ok(())
    }

    pub fn find(&self, path: &str) -> Option<Redirect> {
        if let Some(redirect) = self.exact.get(path) {
            return Some(redirect.clone());
        }
        self.dynamic.iter().find_map(|(pattern, redirect)| {
            let captures = pattern.matches(path)?;
            Some(Redirect { to: fill(&redirect.to, &captures), status: redirect.status })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_bad_lines() {
        let mut warnings = Vec::new();
        let redirects = Redirects::parse(
            "# comment\n/a /b 301\n/blog/* /news/:splat\n/x nowhere\n/y /z 418\nno /z\n/spa/* /index.html 200\n",
            &mut warnings,
        );
        let find = |path| redirects.find(path).map(|r| (r.to, r.status));
        assert_eq!(find("/a"), Some(("/b".into(), 301)));
        assert_eq!(find("/blog/1/2"), Some(("/news/1/2".into(), 302)));
        assert_eq!(find("/spa/q"), Some(("/index.html".into(), 200)));
        assert_eq!(find("/x"), None);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].starts_with("_redirects:4:"), "{warnings:?}");
    }
}
