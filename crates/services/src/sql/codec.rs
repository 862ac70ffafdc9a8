//! Bytes of messages: numbers of variable length, lengths before texts and lists. Reading never
//! panics and never takes more memory than the message is long, times a small factor.

use std::time::Duration;

use super::error::SqlError;

pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(version: u8) -> Self {
        Self(vec![version])
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Seven bits a byte, the lowest first.
    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(crate) fn fixed(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// In nanoseconds.
    pub(crate) fn duration(&mut self, duration: Duration) {
        self.number(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn list<T>(&mut self, items: &[T], put: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| put(self, item));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], version: u8) -> Result<Self, SqlError> {
        match bytes.split_first() {
            Some((first, rest)) if *first == version => Ok(Self(rest)),
            _ => Err(SqlError::malformed("unknown version")),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], SqlError> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or_else(|| SqlError::malformed("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, SqlError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn number(&mut self) -> Result<u64, SqlError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(SqlError::malformed("a number too long"))
    }

    pub(crate) fn fixed(&mut self) -> Result<u64, SqlError> {
        let bytes = self.take(8)?;
        let bytes = bytes.try_into().map_err(|_| SqlError::malformed("cut short"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn duration(&mut self) -> Result<Duration, SqlError> {
        Ok(Duration::from_nanos(self.number()?))
    }

    /// A length that the rest of the message can hold.
    fn length(&mut self) -> Result<usize, SqlError> {
        usize::try_from(self.number()?)
            .ok()
            .filter(|length| *length <= self.0.len())
            .ok_or_else(|| SqlError::malformed("cut short"))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], SqlError> {
        let length = self.length()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Result<String, SqlError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(bytes).map_err(|_| SqlError::malformed("no UTF-8"))?;
        Ok(text.to_owned())
    }

    /// Each item takes a byte at least, so the length is bounded by the message.
    pub(crate) fn list<T>(
        &mut self,
        get: impl Fn(&mut Self) -> Result<T, SqlError>,
    ) -> Result<Vec<T>, SqlError> {
        let length = self.length()?;
        let mut items = Vec::with_capacity(length.min(1024));
        for _ in 0..length {
            items.push(get(self)?);
        }
        Ok(items)
    }

    pub(crate) fn end(self) -> Result<(), SqlError> {
        if self.0.is_empty() { Ok(()) } else { Err(SqlError::malformed("bytes left over")) }
    }
}
