//! CSV as RFC 4180 has it, read record by record.

use std::io::{BufRead, ErrorKind as IoKind};

use super::error::{ErrorKind, SqlError};

/// Longest record, bytes.
const MAX_RECORD: usize = 32 << 20;

/// A field; `None` is an empty one without quotes.
pub(crate) type Field = Option<String>;

/// Reads records from a stream.
pub(crate) struct Records<R> {
    input: R,
    line: usize,
    read: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    FieldStart,
    Bare,
    Quoted,
    /// After a quote inside of quotes: the end, or half of a doubled one.
    QuoteEnd,
    /// After a carriage return: a line feed belongs to it.
    Return,
}

pub(crate) fn failed(line: usize, why: impl std::fmt::Display) -> SqlError {
    SqlError::new(ErrorKind::Migration, format!("line {line}: {why}"))
}

impl<R: BufRead> Records<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, line: 1, read: 0 }
    }

    /// The line on which the next record begins.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.read
    }

    /// The next record, `None` at the end.
    pub(crate) fn next_record(&mut self) -> Result<Option<Vec<Field>>, SqlError> {
        let first_line = self.line;
        let (mut fields, mut field, mut quoted) = (Vec::new(), Vec::new(), false);
        let (mut at, mut size) = (At::FieldStart, 0);
        let mut end = |field: &mut Vec<u8>, quoted: &mut bool| {
            let bytes = std::mem::take(field);
            let quoted = std::mem::take(quoted);
            let text = String::from_utf8(bytes)
                .map_err(|_| failed(first_line, "the text is not UTF-8"))?;
            fields.push((quoted || !text.is_empty()).then_some(text));
            Ok::<_, SqlError>(())
        };
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == IoKind::Interrupted => continue,
                Err(error) => return Err(failed(self.line, format!("cannot read on: {error}"))),
            };
            let Some(&byte) = chunk.first() else {
                match at {
                    At::Quoted => return Err(failed(self.line, "a quote is not closed")),
                    At::FieldStart if size == 0 => return Ok(None),
                    At::Return => {}
                    _ => end(&mut field, &mut quoted)?,
                }
                return Ok(Some(fields));
            };
            if at == At::Return && byte != b'\n' {
                return Ok(Some(fields));
            }
            // Most bytes of a field are taken at once.
            let plain = match at {
                At::Quoted => chunk.iter().position(|b| matches!(b, b'"' | b'\n')),
                At::FieldStart | At::Bare => {
                    chunk.iter().position(|b| matches!(b, b',' | b'\n' | b'\r' | b'"'))
                }
                At::QuoteEnd | At::Return => Some(0),
            };
            let plain = plain.unwrap_or(chunk.len());
            if plain > 0 {
                field.extend_from_slice(&chunk[..plain]);
                if at == At::FieldStart {
                    at = At::Bare;
                }
            } else {
                match (at, byte) {
                    (At::Return, _) => {
                        self.input.consume(1);
                        self.read += 1;
                        return Ok(Some(fields));
                    }
                    (At::FieldStart, b'"') => {
                        quoted = true;
                        at = At::Quoted;
                    }
                    // A quote inside of a bare field stands for itself.
                    (At::Bare, b'"') => field.push(byte),
                    (At::Quoted, b'"') => at = At::QuoteEnd,
                    (At::Quoted, _) => {
                        field.push(byte);
                        self.line += 1;
                    }
                    (At::QuoteEnd, b'"') => {
                        field.push(byte);
                        at = At::Quoted;
                    }
                    (_, b',') => {
                        end(&mut field, &mut quoted)?;
                        at = At::FieldStart;
                    }
                    (_, b'\r') => {
                        end(&mut field, &mut quoted)?;
                        self.line += 1;
                        at = At::Return;
                    }
                    (_, b'\n') => {
                        end(&mut field, &mut quoted)?;
                        self.line += 1;
                        self.input.consume(1);
                        self.read += 1;
                        return Ok(Some(fields));
                    }
                    _ => return Err(failed(self.line, "text after a closing quote")),
                }
            }
            let used = plain.max(1);
            size += used;
            self.input.consume(used);
            self.read += used as u64;
            if size > MAX_RECORD {
                return Err(failed(
                    first_line,
                    format!("a record is longer than {MAX_RECORD} bytes"),
                ));
            }
        }
    }
}

/// A value as a field.
pub(crate) fn quote(text: &str) -> std::borrow::Cow<'_, str> {
    let plain = !text.is_empty() && !text.contains([',', '"', '\n', '\r']);
    if plain { text.into() } else { format!("\"{}\"", text.replace('"', "\"\"")).into() }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn records_are_rfc_4180s_whatever_the_chunks() {
        let text = "a,\"b\"\"c\",\r\n\"x\ny\",,\"\"\rlast,5\" wide,z";
        for capacity in [1, 2, 3, 64] {
            let mut records = Records::new(BufReader::with_capacity(capacity, text.as_bytes()));
            let mut all = Vec::new();
            while let Some(record) = records.next_record().unwrap() {
                all.push(record);
            }
            let some = |text: &str| Some(text.to_owned());
            assert_eq!(
                all,
                [
                    vec![some("a"), some("b\"c"), None],
                    vec![some("x\ny"), None, some("")],
                    vec![some("last"), some("5\" wide"), some("z")],
                ],
                "{capacity}"
            );
        }
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quote("a b"), "a b");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a\"b,\n"), "\"a\"\"b,\n\"");
    }
}
