//! A second opinion on HTTP/1 framing, taken on the raw bytes before hyper sees them.
//!
//! hyper is lenient where RFC 9112 lets it be: a bare LF ends a line, a `Content-Length`
//! beside `Transfer-Encoding` is dropped without a trace, a repeated equal length is merged.
//! Each of these lets two parsers disagree about where a request ends, which is all that
//! request smuggling needs. This scanner follows the framing and refuses all of them, so what
//! hyper reads has one meaning only.
//!
//! It holds no bytes beyond an unfinished line and never changes what it passes on. It knows
//! nothing of sockets; `wire` feeds it.

use memchr::memchr;

/// Longest chunk-size line, extensions included. Extensions carry nothing anybody uses.
pub const MAX_CHUNK_LINE: usize = 256;
/// Longest trailer section of one request, in bytes.
pub const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A line ended with LF alone.
    BareLineFeed,
    /// A CR stands where no line ends.
    BareCarriageReturn,
    /// A fragment, which no request target has, and which hyper would drop unseen.
    Fragment,
    /// More than one empty line before a request line.
    EmptyLines,
    /// A header line that begins with a space or tab.
    Folded,
    /// Whitespace or nothing before the colon, or no colon at all.
    HeaderName,
    /// `Content-Length` that is no plain number, or appears twice.
    ContentLength,
    /// `Transfer-Encoding` other than one `chunked`, or twice.
    TransferEncoding,
    /// Both of the above.
    BothLengths,
    /// A chunk-size line that is no plain hexadecimal number, or too long.
    ChunkSize,
    /// Chunk data that does not end where its size says.
    ChunkEnd,
    /// The trailer section is too long.
    Trailers,
    /// A line longer than a whole head may be.
    LineTooLong,
    /// Bytes after an upgrade request, before it was answered.
    EarlyTunnel,
}

/// Where in the byte stream we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request line; `blank` is true after one empty line.
    Start {
        blank: bool,
    },
    Headers,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    /// The CRLF after a chunk's data; `cr` is true after its first half.
    ChunkEnd {
        cr: bool,
    },
    Trailers,
    /// After an upgrade request: nothing may come until it is answered.
    Held,
    /// After a `101`: the bytes are no longer HTTP.
    Tunnel,
    Refused,
}

/// What the headers seen so far say of the body.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// The scanner. One per HTTP/1 connection.
#[derive(Debug)]
pub struct Strict {
    state: State,
    framing: Framing,
    /// The unfinished line of earlier reads.
    line: Vec<u8>,
    trailer_bytes: usize,
    max_line: usize,
    /// Heads begun so far.
    heads: u64,
}

/// What the reader may conclude about timeouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Between messages, nothing of the next one has come.
    Idle,
    /// Part of a head has come.
    Head,
    /// Inside a body.
    Body,
    /// Not HTTP any more.
    Tunnel,
}

impl Strict {
    /// `max_line` bounds what an unfinished line may make us keep.
    pub fn new(max_line: usize) -> Self {
        Self {
            state: State::Start { blank: false },
            framing: Framing::default(),
            line: Vec::new(),
            trailer_bytes: 0,
            max_line,
            heads: 0,
        }
    }

    /// Heads whose first byte has come.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            State::Start { blank: false } if self.line.is_empty() => Phase::Idle,
            State::Start { .. } | State::Headers => Phase::Head,
            State::Held => Phase::Idle,
            State::Tunnel => Phase::Tunnel,
            _ => Phase::Body,
        }
    }

    /// True while an upgrade request waits for its answer.
    pub fn held(&self) -> bool {
        self.state == State::Held
    }

    /// The upgrade was answered: `tunnel` says whether with a `101`.
    pub fn release(&mut self, tunnel: bool) {
        if self.state == State::Held {
            self.state = if tunnel { State::Tunnel } else { State::Start { blank: false } };
        }
    }

    /// Looks at bytes in the order they came. On `Err((at, why))` the bytes before `at` are
    /// fine and nothing from `at` on may be passed on, now or later.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), (usize, Refusal)> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match self.step(rest) {
                Ok(used) => used,
                Err((offset, why)) => {
                    self.state = State::Refused;
                    self.line = Vec::new();
                    return Err((at + offset, why));
                }
            };
        }
        Ok(())
    }

    /// Takes at least one byte of `rest`, which is not empty.
    fn step(&mut self, rest: &[u8]) -> Result<usize, (usize, Refusal)> {
        match self.state {
            State::Length(left) => {
                let used = left.min(rest.len() as u64);
                self.state = match left - used {
                    0 => self.after_message(),
                    left => State::Length(left),
                };
                Ok(used as usize)
            }
            State::ChunkData(left) => {
                let used = left.min(rest.len() as u64);
                self.state = match left - used {
                    0 => State::ChunkEnd { cr: false },
                    left => State::ChunkData(left),
                };
                Ok(used as usize)
            }
            State::ChunkEnd { cr: false } if rest[0] == b'\r' => {
                self.state = State::ChunkEnd { cr: true };
                Ok(1)
            }
            State::ChunkEnd { cr: true } if rest[0] == b'\n' => {
                self.state = State::ChunkSize;
                Ok(1)
            }
            State::ChunkEnd { .. } => Err((0, Refusal::ChunkEnd)),
            State::Tunnel => Ok(rest.len()),
            State::Held => Err((0, Refusal::EarlyTunnel)),
            // Only reached if the caller goes on after a refusal.
            State::Refused => Err((0, Refusal::EarlyTunnel)),
            State::Start { .. } | State::Headers | State::ChunkSize | State::Trailers => {
                self.step_line(rest)
            }
        }
    }

    fn step_line(&mut self, rest: &[u8]) -> Result<usize, (usize, Refusal)> {
        if self.line.is_empty() && matches!(self.state, State::Start { .. }) {
            self.heads += 1;
        }
        let limit = if self.state == State::ChunkSize { MAX_CHUNK_LINE } else { self.max_line };
        let Some(lf) = memchr(b'\n', rest) else {
            if self.line.len() + rest.len() > limit {
                return Err((0, Refusal::LineTooLong));
            }
            self.line.extend_from_slice(rest);
            return Ok(rest.len());
        };
        let verdict = if self.line.is_empty() {
            self.line_without_lf(&rest[..lf])
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(&rest[..lf]);
            let verdict = self.line_without_lf(&line);
            line.clear();
            self.line = line;
            verdict
        };
        // The LF itself is held back: without it hyper cannot act on the line.
        verdict.map_err(|why| (lf, why)).map(|()| lf + 1)
    }

    fn line_without_lf(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let Some((b'\r', line)) = line.split_last() else {
            return Err(Refusal::BareLineFeed);
        };
        match self.state {
            State::Start { blank } => {
                if line.is_empty() {
                    if blank {
                        return Err(Refusal::EmptyLines);
                    }
                    self.state = State::Start { blank: true };
                    return Ok(());
                }
                if memchr(b'\r', line).is_some() {
                    return Err(Refusal::BareCarriageReturn);
                }
                if memchr(b'#', line).is_some() {
                    return Err(Refusal::Fragment);
                }
                self.framing = Framing::default();
                self.state = State::Headers;
                Ok(())
            }
            State::Headers if line.is_empty() => self.end_of_head(),
            State::Headers => self.header(line),
            State::ChunkSize => self.chunk_size(line),
            State::Trailers if line.is_empty() => {
                self.state = self.after_message();
                Ok(())
            }
            State::Trailers => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > MAX_TRAILER_BYTES {
                    return Err(Refusal::Trailers);
                }
                split_header(line).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (name, value) = split_header(line)?;
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = plain_number(value).ok_or(Refusal::ContentLength)?;
                if self.framing.length.replace(length).is_some() {
                    return Err(Refusal::ContentLength);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.framing.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::TransferEncoding);
                }
                self.framing.chunked = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.framing.upgrade |= value.eq_ignore_ascii_case(b"websocket");
            }
            _ => {}
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<(), Refusal> {
        self.trailer_bytes = 0;
        self.state = match (self.framing.chunked, self.framing.length) {
            (true, Some(_)) => return Err(Refusal::BothLengths),
            (true, None) => State::ChunkSize,
            (false, Some(length)) if length > 0 => State::Length(length),
            (false, _) => self.after_message(),
        };
        Ok(())
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Refusal> {
        if line.len() > MAX_CHUNK_LINE || memchr(b'\r', line).is_some() {
            return Err(Refusal::ChunkSize);
        }
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        // Sixteen digits would fill a u64; no chunk is that long.
        if digits == 0 || digits > 15 || !matches!(line.get(digits), None | Some(b';')) {
            return Err(Refusal::ChunkSize);
        }
        let size = line[..digits]
            .iter()
            .fold(0u64, |n, b| n << 4 | u64::from(char::from(*b).to_digit(16).unwrap_or_default()));
        self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
        Ok(())
    }

    fn after_message(&self) -> State {
        if self.framing.upgrade { State::Held } else { State::Start { blank: false } }
    }
}

/// Name and trimmed value of a header line.
fn split_header(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Folded);
    }
    let colon = memchr(b':', line).ok_or(Refusal::HeaderName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !matches!(name.last(), Some(b) if b.is_ascii_graphic()) {
        return Err(Refusal::HeaderName);
    }
    Ok((name, value.trim_ascii()))
}

/// 1 to 18 digits and nothing else, so that it cannot overflow.
fn plain_number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(bytes: &[u8]) -> Result<Phase, Refusal> {
        let mut whole = Strict::new(1024);
        let verdict = whole.feed(bytes).map(|()| whole.phase());
        // The verdict must not depend on how the bytes were cut.
        let mut single = Strict::new(1024);
        let mut by_one = Ok(());
        for (i, byte) in bytes.iter().enumerate() {
            if let Err((_, why)) = single.feed(&[*byte]) {
                by_one = Err((i, why));
                break;
            }
        }
        assert_eq!(verdict, by_one.map(|()| single.phase()), "{}", bytes.escape_ascii());
        verdict.map_err(|(_, why)| why)
    }

    #[test]
    fn plain_requests_pass() {
        for good in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nt: 1\r\n\r\n",
        ] {
            assert_eq!(feed(good), Ok(Phase::Idle));
        }
        assert_eq!(feed(b"GET / HT"), Ok(Phase::Head));
        assert_eq!(feed(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"), Ok(Phase::Body));
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        use Refusal::*;
        let post = |headers: &str, body: &str| {
            feed(format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n{body}").as_bytes())
        };
        let both = "Content-Length: 3\r\nTransfer-Encoding: chunked";
        assert_eq!(post(both, "0\r\n\r\n"), Err(BothLengths));
        assert_eq!(post("Content-Length: 3\r\nContent-Length: 3", "abc"), Err(ContentLength));
        for value in ["+3", "3, 3", "0x3", "", "-1", "3 3", "9999999999999999999"] {
            assert_eq!(post(&format!("Content-Length: {value}"), ""), Err(ContentLength));
        }
        for value in ["gzip, chunked", "chunked, chunked", "identity", "", "xchunked"] {
            assert_eq!(post(&format!("Transfer-Encoding: {value}"), ""), Err(TransferEncoding));
        }
        assert_eq!(post("A: b\n c", ""), Err(BareLineFeed));
        assert_eq!(post("A: b\r\n c", ""), Err(Folded));
        assert_eq!(post("Content-Length : 3", "abc"), Err(HeaderName));
        assert_eq!(post(": 3", "abc"), Err(HeaderName));
        assert_eq!(post("nonsense", "abc"), Err(HeaderName));
        let chunked = "Transfer-Encoding: chunked";
        for body in
            ["\r\n", "g\r\n", "-1\r\n", " 1\r\n", "1 \r\n", "0x1\r\n", "1111222233334444\r\n"]
        {
            assert_eq!(post(chunked, body), Err(ChunkSize), "{body:?}");
        }
        assert_eq!(post(chunked, "1\n"), Err(BareLineFeed));
        assert_eq!(post(chunked, "1\r\nab"), Err(ChunkEnd));
        assert_eq!(post(chunked, "1\r\na\n"), Err(ChunkEnd));
        assert_eq!(feed(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(EmptyLines));
    }

    #[test]
    fn nothing_may_follow_an_upgrade_until_it_is_answered() {
        let head = b"GET / HTTP/1.1\r\nUpgrade: WebSocket\r\n\r\n";
        assert_eq!(feed(&[&head[..], b"x"].concat()), Err(Refusal::EarlyTunnel));
        let mut strict = Strict::new(1024);
        strict.feed(head).unwrap();
        assert!(strict.held());
        strict.release(true);
        strict.feed(b"\x81\n\n\n").unwrap();
        assert_eq!(strict.phase(), Phase::Tunnel);
    }

    /// Mutated requests: no cut of the bytes changes the verdict (`feed` asserts it), and
    /// nothing panics.
    #[test]
    fn mutations_never_panic_and_cuts_never_matter() {
        let bases: [&[u8]; 3] = [
            b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nt: 1\r\n\r\n",
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        ];
        for _ in 0..20_000 {
            let mut bytes = bases[crate::ids::next() as usize % bases.len()].to_vec();
            for _ in 0..1 + crate::ids::next() % 4 {
                let at = crate::ids::next() as usize % bytes.len();
                match crate::ids::next() % 4 {
                    0 => bytes[at] = crate::ids::next() as u8,
                    1 => bytes.insert(at, b"\r\n :0f;\0"[crate::ids::next() as usize % 8]),
                    2 if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => bytes.rotate_left(at),
                }
            }
            let _ = feed(&bytes);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut strict = Strict::new(100);
        strict.feed(&[b'a'; 100]).unwrap();
        assert_eq!(strict.feed(b"b"), Err((0, Refusal::LineTooLong)));
    }
}
