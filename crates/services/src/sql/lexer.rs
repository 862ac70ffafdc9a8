//! Just enough of SQL's tokens to find words and names in a text, whatever comments and quotes
//! stand around them. It never decides what a statement means; SQLite's own parser does.

/// One token that matters: a bare word, or the content of a quoted one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    /// `"x"`, `` `x` ``, `[x]` or `'x'`, with doubled quotes still doubled.
    Quoted(&'a str),
    /// `(`, `)`, `;`, `,` and the like, one byte each.
    Punctuation(u8),
}

/// The tokens of a text; spaces and comments are skipped, an unclosed quote ends with the text.
pub(crate) struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The byte offset behind the last token.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    fn skip_blank(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let rest = &bytes[self.at..];
            if byte.is_ascii_whitespace() || byte == 0x0b || rest.starts_with("\u{feff}".as_bytes())
            {
                self.at += if byte == 0xef { 3 } else { 1 };
            } else if rest.starts_with(b"--") {
                self.at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            } else if rest.starts_with(b"/*") {
                let end = rest[2..].windows(2).position(|pair| pair == b"*/");
                self.at += end.map_or(rest.len(), |end| end + 4);
            } else {
                break;
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let bytes = self.text.as_bytes();
        let first = *bytes.get(self.at)?;
        let start = self.at;
        if is_word(first) {
            while bytes.get(self.at).is_some_and(|b| is_word(*b)) {
                self.at += 1;
            }
            return Some(Token::Word(&self.text[start..self.at]));
        }
        let close = match first {
            b'"' | b'`' | b'\'' => first,
            b'[' => b']',
            _ => {
                self.at += 1;
                return Some(Token::Punctuation(first));
            }
        };
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                None => return Some(Token::Quoted(&self.text[start + 1..])),
                Some(&byte) if byte == close => {
                    // A doubled quote is one quote inside; brackets have no such escape.
                    if close != b']' && bytes.get(self.at + 1) == Some(&close) {
                        self.at += 2;
                        continue;
                    }
                    let content = &self.text[start + 1..self.at];
                    self.at += 1;
                    return Some(Token::Quoted(content));
                }
                Some(_) => self.at += 1,
            }
        }
    }
}

/// True where nothing but spaces, comments and semicolons is left.
pub(crate) fn is_blank(text: &str) -> bool {
    Tokens::new(text).all(|token| token == Token::Punctuation(b';'))
}

/// The offset of the first thing that is no space and no comment.
pub(crate) fn begin(text: &str) -> usize {
    let mut tokens = Tokens::new(text);
    tokens.skip_blank();
    tokens.offset().min(text.len())
}

/// The first word of a statement, wherever comments put it.
pub(crate) fn first_word(text: &str) -> Option<&str> {
    Tokens::new(text).find_map(|token| match token {
        Token::Word(word) => Some(Some(word)),
        Token::Punctuation(b';') => None,
        _ => Some(None),
    })?
}

/// True if any name in the text, bare or quoted in any way, satisfies `test`.
pub(crate) fn any_name(text: &str, test: impl Fn(&str) -> bool) -> bool {
    Tokens::new(text).any(|token| match token {
        Token::Word(name) => test(name),
        Token::Quoted(name) => test(name),
        Token::Punctuation(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_quotes_hide_nothing() {
        let text = "/* a */ -- b\n SELECT \"x\"\"y\", [a b], `c`, 'd''e', f.g;";
        let names: Vec<_> = Tokens::new(text)
            .filter_map(|token| match token {
                Token::Word(word) => Some(word),
                Token::Quoted(word) => Some(word),
                Token::Punctuation(_) => None,
            })
            .collect();
        assert_eq!(names, ["SELECT", "x\"\"y", "a b", "c", "d''e", "f", "g"]);
        assert_eq!(first_word(" ;; /**/ vacuum into 'x'"), Some("vacuum"));
        assert_eq!(first_word("(select 1)"), None);
        assert!(is_blank(" -- nothing\n ; /* open"));
        assert!(!is_blank("select"));
    }

    #[test]
    fn any_text_ends() {
        for text in ["'", "\"a\"\"", "[", "/*", "--", "é'ü", "\u{feff}select", "`\u{0}"] {
            let _ = Tokens::new(text).count();
        }
    }
}
