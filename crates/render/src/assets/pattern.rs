//! `*` in file names, and the path patterns of `_headers` and `_redirects`.

/// `*` stands for any run of characters.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, star_t + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// One piece of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// `:name`: up to the next `/`.
    Placeholder(String),
    /// `*`: anything.
    Splat,
}

/// `/blog/:year/*` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern(Vec<Piece>);

/// What the placeholders stood for.
pub(super) type Captures = Vec<(String, String)>;

impl PathPattern {
    /// Why a pattern is refused is said in the error.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut splats = 0;
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            let after = &rest[char.len_utf8()..];
            match char {
                '*' => {
                    splats += 1;
                    flush(&mut literal, &mut pieces);
                    pieces.push(Piece::Splat);
                    rest = after;
                }
                ':' if after.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    let end = after
                        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .unwrap_or(after.len());
                    flush(&mut literal, &mut pieces);
                    pieces.push(Piece::Placeholder(after[..end].to_owned()));
                    rest = &after[end..];
                }
                other => {
                    literal.push(other);
                    rest = after;
                }
            }
        }
        flush(&mut literal, &mut pieces);
        if splats > 1 {
            return Err("only one * is allowed");
        }
        Ok(Self(pieces))
    }

    pub fn is_static(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Literal(_)))
    }

    pub fn matches(&self, path: &str) -> Option<Captures> {
        let mut captures = Vec::new();
        walk(&self.0, path, &mut captures).then_some(captures)
    }
}

fn flush(literal: &mut String, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal)));
    }
}

// There is at most one splat, so the search is linear in the path for each placeholder.
fn walk(pieces: &[Piece], path: &str, captures: &mut Captures) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return path.is_empty() };
    match piece {
        Piece::Literal(text) => {
            path.strip_prefix(text.as_str()).is_some_and(|path| walk(rest, path, captures))
        }
        Piece::Placeholder(name) => {
            let end = path.find('/').unwrap_or(path.len());
            for length in (1..=end).rev().filter(|length| path.is_char_boundary(*length)) {
                let mark = captures.len();
                captures.push((name.clone(), path[..length].to_owned()));
                if walk(rest, &path[length..], captures) {
                    return true;
                }
                captures.truncate(mark);
            }
            false
        }
        Piece::Splat => {
            for length in (0..=path.len()).rev().filter(|length| path.is_char_boundary(*length)) {
                let mark = captures.len();
                captures.push(("splat".to_owned(), path[..length].to_owned()));
                if walk(rest, &path[length..], captures) {
                    return true;
                }
                captures.truncate(mark);
            }
            false
        }
    }
}

/// Puts captures into `:name` and `:splat` of a target.
pub(super) fn fill(target: &str, captures: &Captures) -> String {
    let mut filled = String::with_capacity(target.len());
    let mut rest = target;
    while let Some(at) = rest.find(':') {
        filled.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let end =
            after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        match captures.iter().find(|(name, _)| name == &after[..end]) {
            Some((_, value)) => filled.push_str(value),
            None => {
                filled.push(':');
                filled.push_str(&after[..end]);
            }
        }
        rest = &after[end..];
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("*.map", "app.js.map", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("/api/*", "/api/", true),
            ("/api/*", "/ap", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn placeholders_and_splats() {
        let pattern = PathPattern::parse("/blog/:year/*").unwrap();
        let captures = pattern.matches("/blog/2026/a/b").unwrap();
        assert_eq!(fill("/:year-:splat?:x", &captures), "/2026-a/b?:x");
        assert!(pattern.matches("/blog/").is_none());
        assert!(PathPattern::parse("/*/*").is_err());
    }
}
