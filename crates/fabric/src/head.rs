//! What is said first on a channel: by the opener what it wants, by the other side whether it
//! gets it. Binary, so that header values are any bytes; every length is checked.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

/// Largest head, in bytes: above the header limits of usual HTTP servers.
pub const MAX_HEAD: usize = 256 * 1024;
const VERSION: u8 = 1;

/// A head that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed head: {0}")]
pub struct BadHead(pub &'static str);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Stream,
}

/// The opener's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub kind: Kind,
    /// Milliseconds the opener will wait for the reply's head.
    pub deadline_ms: u32,
    pub name: String,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
}

/// Whether the other side takes the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Taken,
    /// Nobody serves this name.
    UnknownName,
    /// A message or head was over a limit or malformed.
    Malformed,
}

/// The answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub outcome: Outcome,
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl Open {
    pub fn encode(&self) -> Result<Bytes, BadHead> {
        let mut out = BytesMut::with_capacity(256);
        out.put_u8(VERSION);
        out.put_u8(match self.kind {
            Kind::Call => 1,
            Kind::Stream => 2,
        });
        out.put_u32(self.deadline_ms);
        put(&mut out, self.name.as_bytes())?;
        put(&mut out, self.method.as_str().as_bytes())?;
        put(&mut out, self.uri.to_string().as_bytes())?;
        put_headers(&mut out, &self.headers)?;
        Ok(out.freeze())
    }

    pub fn decode(mut bytes: Bytes) -> Result<Self, BadHead> {
        let input = &mut bytes;
        version(input)?;
        let kind = match byte(input)? {
            1 => Kind::Call,
            2 => Kind::Stream,
            _ => return Err(BadHead("unknown kind of channel")),
        };
        let deadline_ms = input.try_get_u32().map_err(|_| BadHead("cut short"))?;
        let name = String::from_utf8(take(input)?.to_vec()).map_err(|_| BadHead("name"))?;
        let method = Method::from_bytes(&take(input)?).map_err(|_| BadHead("method"))?;
        let uri = Uri::from_maybe_shared(take(input)?).map_err(|_| BadHead("uri"))?;
        let headers = take_headers(input)?;
        end(input)?;
        Ok(Self { kind, deadline_ms, name, method, uri, headers })
    }
}

impl Reply {
    pub fn encode(&self) -> Result<Bytes, BadHead> {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(VERSION);
        out.put_u8(match self.outcome {
            Outcome::Taken => 0,
            Outcome::UnknownName => 1,
            Outcome::Malformed => 2,
        });
        out.put_u16(self.status.as_u16());
        put_headers(&mut out, &self.headers)?;
        Ok(out.freeze())
    }

    pub fn decode(mut bytes: Bytes) -> Result<Self, BadHead> {
        let input = &mut bytes;
        version(input)?;
        let outcome = match byte(input)? {
            0 => Outcome::Taken,
            1 => Outcome::UnknownName,
            2 => Outcome::Malformed,
            _ => return Err(BadHead("unknown outcome")),
        };
        let status = input.try_get_u16().map_err(|_| BadHead("cut short"))?;
        let status = StatusCode::from_u16(status).map_err(|_| BadHead("status"))?;
        let headers = take_headers(input)?;
        end(input)?;
        Ok(Self { outcome, status, headers })
    }
}

fn put(out: &mut BytesMut, bytes: &[u8]) -> Result<(), BadHead> {
    let length = u16::try_from(bytes.len()).map_err(|_| BadHead("a field over 65535 bytes"))?;
    out.put_u16(length);
    out.put_slice(bytes);
    if out.len() > MAX_HEAD { Err(BadHead("too large")) } else { Ok(()) }
}

fn put_headers(out: &mut BytesMut, headers: &HeaderMap) -> Result<(), BadHead> {
    let count = u16::try_from(headers.len()).map_err(|_| BadHead("too many headers"))?;
    out.put_u16(count);
    for (name, value) in headers {
        put(out, name.as_str().as_bytes())?;
        put(out, value.as_bytes())?;
    }
    Ok(())
}

fn version(input: &mut Bytes) -> Result<(), BadHead> {
    match byte(input)? {
        VERSION => Ok(()),
        _ => Err(BadHead("unknown version")),
    }
}

fn byte(input: &mut Bytes) -> Result<u8, BadHead> {
    input.try_get_u8().map_err(|_| BadHead("cut short"))
}

fn take(input: &mut Bytes) -> Result<Bytes, BadHead> {
    let length = usize::from(input.try_get_u16().map_err(|_| BadHead("cut short"))?);
    if input.len() < length { Err(BadHead("cut short")) } else { Ok(input.split_to(length)) }
}

fn take_headers(input: &mut Bytes) -> Result<HeaderMap, BadHead> {
    let count = input.try_get_u16().map_err(|_| BadHead("cut short"))?;
    let mut headers = HeaderMap::new();
    for _ in 0..count {
        let name = HeaderName::from_bytes(&take(input)?).map_err(|_| BadHead("header name"))?;
        let value =
            HeaderValue::from_maybe_shared(take(input)?).map_err(|_| BadHead("header value"))?;
        headers.try_append(name, value).map_err(|_| BadHead("too many headers"))?;
    }
    Ok(headers)
}

fn end(input: &Bytes) -> Result<(), BadHead> {
    if input.is_empty() { Ok(()) } else { Err(BadHead("bytes behind the end")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open() -> Open {
        let mut headers = HeaderMap::new();
        headers.append("cookie", HeaderValue::from_bytes(b"a=\xff").unwrap());
        headers.append("cookie", HeaderValue::from_static("b"));
        Open {
            kind: Kind::Call,
            deadline_ms: 5000,
            name: "http".into(),
            method: Method::PATCH,
            uri: "https://x.test/a?b=c".parse().unwrap(),
            headers,
        }
    }

    #[test]
    fn heads_come_back() {
        assert_eq!(Open::decode(open().encode().unwrap()), Ok(open()));
        let reply = Reply {
            outcome: Outcome::Taken,
            status: StatusCode::NOT_FOUND,
            headers: open().headers,
        };
        assert_eq!(Reply::decode(reply.encode().unwrap()), Ok(reply));
    }

    #[test]
    fn every_cut_and_extra_byte_is_refused() {
        let whole = open().encode().unwrap();
        for length in 0..whole.len() {
            assert!(Open::decode(whole.slice(..length)).is_err(), "{length}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert_eq!(Open::decode(longer.into()), Err(BadHead("bytes behind the end")));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Open::decode(bytes.clone().into());
            let _ = Reply::decode(bytes.into());
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..100, value in any::<u8>()) {
            let mut bytes = open().encode().unwrap().to_vec();
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = Open::decode(bytes.into());
        }
    }
}
