//! Client sessions: what a client brings along, and what its answer hands back.
//!
//! `token` is the sealed text, `cookie` how browsers carry it, `privacy` keeps it out of shared
//! caches, `timing` tells what was waited for. docs/sessions.md has the rules.
//!
//! A request of an app without sessions takes one branch in here; one of an app with sessions
//! that brings nothing and touches no database makes two small allocations and takes one lock.

mod cookie;
mod privacy;
mod timing;
mod token;

#[cfg(test)]
mod crossing;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{SET_COOKIE, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Body as _;
use verge_telemetry::{Metrics, TokenRefusal};
use verge_types::{
    AppName, Body, Fault, News, Routed, Scheme, Session, SessionKeys, SessionPolicy,
};

use crate::headers::{Survey, has_token};
use crate::respond::faults;

/// Carries tokens of machines, both ways.
pub const X_VERGE_BOOKMARK: HeaderName = HeaderName::from_static("x-verge-bookmark");
/// `header` asks for the token in [`X_VERGE_BOOKMARK`] instead of a cookie.
pub const X_VERGE_SESSION: HeaderName = HeaderName::from_static("x-verge-session");

/// Tokens in the header fields of one request: as many answers may be joined.
const MAX_BOOKMARKS: usize = 8;
/// From so many cookies of writes on, an answer takes them up although nothing was written.
const CROWD: usize = 4;

/// One request's session, between its head and its answer's.
pub struct ClientSession {
    session: Session,
    /// `None` if nothing is carried beyond the request.
    carrier: Option<Carrier>,
}

struct Carrier {
    keys: Arc<SessionKeys>,
    app: AppName,
    /// Told by header and not by cookie.
    by_header: bool,
    /// What the client reads is carried too: it wrote before, or carries tokens by itself.
    holds: bool,
    trailers: bool,
    secure: bool,
    /// The client's cookies that are believed: those of writes by name, and whether there is one
    /// of reads.
    written: Vec<u32>,
    read: bool,
}

impl ClientSession {
    /// Takes what the client brought out of the request's head.
    ///
    /// A cookie that is not believed is counted and ignored: a browser cannot mend it. A header
    /// that is not believed is the error of whoever wrote it: 400.
    pub fn open(
        routed: &Routed,
        headers: &mut HeaderMap,
        survey: &Survey,
        scheme: Scheme,
        metrics: &Metrics,
    ) -> Result<Option<Box<Self>>, Fault> {
        let keys = match &routed.sessions {
            SessionPolicy::Off => return Ok(None),
            SessionPolicy::RequestOnly => {
                return Ok(Some(Box::new(Self { session: Session::begin(), carrier: None })));
            }
            SessionPolicy::On(keys) => Arc::clone(keys),
        };
        let session = Session::begin();
        let mut carrier = Carrier {
            keys,
            app: routed.app.clone(),
            by_header: false,
            holds: false,
            trailers: false,
            secure: scheme == Scheme::Https,
            written: Vec::new(),
            read: false,
        };
        if survey.bookmark {
            carrier.read_header(headers, &session, metrics)?;
        }
        if survey.cookie {
            carrier.read_cookies(headers, &session, metrics);
        }
        Ok(Some(Box::new(Self { session, carrier: Some(carrier) })))
    }

    /// For the request's context.
    pub fn session(&self) -> Session {
        self.session.clone()
    }

    /// Hands the news back. What is returned speaks for what is written while the body streams.
    pub fn close(self, response: &mut Response<Body>, head_only: bool) -> Option<Box<Late>> {
        let Some(carrier) = self.carrier else {
            tell_timings(response.headers_mut(), &self.session.news(true));
            return None;
        };
        let streams = !head_only
            && matches!(response.body(), Body::Stream(_))
            && response.body().size_hint().exact().is_none();
        let late = carrier.by_header && carrier.trailers && streams;
        let news = self.session.news(!late);
        let headers = response.headers_mut();
        remove_the_apps(headers);
        tell_timings(headers, &news);
        let told = match carrier.by_header {
            true => carrier.tell_header(headers, &news),
            false => carrier.tell_cookies(headers, &news),
        };
        if told {
            privacy::make_private(headers);
        }
        late.then(|| {
            headers.append(TRAILER, HeaderValue::from_static("x-verge-bookmark"));
            Box::new(Late { session: self.session, carrier })
        })
    }
}

impl Carrier {
    fn read_header(
        &mut self,
        headers: &HeaderMap,
        session: &Session,
        metrics: &Metrics,
    ) -> Result<(), Fault> {
        let asks = headers.get_all(X_VERGE_SESSION).iter().any(|v| v.as_bytes() == b"header");
        self.by_header = asks || headers.contains_key(X_VERGE_BOOKMARK);
        self.holds = self.by_header;
        self.trailers = self.by_header && has_token(headers, &TE, "trailers");
        let values = headers.get_all(X_VERGE_BOOKMARK).iter();
        let tokens = values.flat_map(|v| v.as_bytes().split(|b| *b == b','));
        for (n, token) in tokens.map(<[u8]>::trim_ascii).filter(|t| !t.is_empty()).enumerate() {
            let token = if n < MAX_BOOKMARKS {
                token::decode(&self.keys, &self.app, now(), token)
            } else {
                Err(TokenRefusal::too_many)
            };
            match token {
                Ok(token) => session.recall(&token.written, &token.seen),
                Err(refusal) => {
                    metrics.session_token_refused(refusal);
                    return Err(faults::bookmark(refusal));
                }
            }
        }
        Ok(())
    }

    fn read_cookies(&mut self, headers: &mut HeaderMap, session: &Session, metrics: &Metrics) {
        let Some(found) = cookie::take(headers) else { return };
        if found.too_many {
            metrics.session_token_refused(TokenRefusal::too_many);
        }
        for (id, token) in &found.tokens {
            match token::decode(&self.keys, &self.app, now(), token) {
                Ok(token) => {
                    self.holds |= !token.written.is_empty();
                    session.recall(&token.written, &token.seen);
                }
                Err(refusal) => {
                    metrics.session_token_refused(refusal);
                    // It may be another app's on another port of this host: not ours to remove.
                    continue;
                }
            }
            match id {
                Some(id) => self.written.push(*id),
                None => self.read = true,
            }
        }
    }

    /// All that is known, in one token; empty if all was forgotten. `None` without news.
    fn bookmark(&self, news: &News) -> Option<HeaderValue> {
        if !news.wrote && !news.saw {
            return None;
        }
        if news.written.is_empty() && news.seen.is_empty() {
            return Some(HeaderValue::from_static(""));
        }
        let token = token::encode(&self.keys, &self.app, now(), &news.written, &news.seen);
        HeaderValue::try_from(token).ok()
    }

    fn tell_header(&self, headers: &mut HeaderMap, news: &News) -> bool {
        let Some(bookmark) = self.bookmark(news) else { return false };
        headers.insert(X_VERGE_BOOKMARK, bookmark);
        true
    }

    fn tell_cookies(&self, headers: &mut HeaderMap, news: &News) -> bool {
        let crowded = news.saw && self.written.len() >= CROWD;
        let wrote = news.wrote || crowded;
        let saw = news.saw && (self.holds || !news.written.is_empty());
        if !wrote && !saw {
            return false;
        }
        let mut set = |value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.append(SET_COOKIE, value);
            }
        };
        let (issued, age) = (now(), self.keys.max_age().as_secs());
        if wrote {
            let kept = (!news.written.is_empty()).then(|| cookie::id_of(&news.written));
            if kept.is_some() {
                let token = token::encode(&self.keys, &self.app, issued, &news.written, &[]);
                set(cookie::set(kept, &token, age, self.secure));
            }
            for id in self.written.iter().filter(|id| Some(**id) != kept) {
                set(cookie::set(Some(*id), "", 0, self.secure));
            }
        }
        if saw && !news.seen.is_empty() {
            let token = token::encode(&self.keys, &self.app, issued, &[], &news.seen);
            set(cookie::set(None, &token, age, self.secure));
        } else if saw && self.read {
            set(cookie::set(None, "", 0, self.secure));
        }
        true
    }
}

/// What is written after the head has left, for clients that read trailers.
pub struct Late {
    session: Session,
    carrier: Carrier,
}

impl Late {
    /// Adds the token to the trailer section, if there is news.
    pub fn close(self, trailers: &mut HeaderMap) {
        if let Some(bookmark) = self.carrier.bookmark(&self.session.news(true)) {
            trailers.insert(X_VERGE_BOOKMARK, bookmark);
        }
    }
}

/// An app cannot speak for the platform, nor can whatever it fetched its answer from.
fn remove_the_apps(headers: &mut HeaderMap) {
    headers.remove(X_VERGE_BOOKMARK);
    let ours = |value: &HeaderValue| value.as_bytes().starts_with(cookie::PREFIX.as_bytes());
    if headers.get_all(SET_COOKIE).iter().any(ours) {
        let kept: Vec<_> =
            headers.get_all(SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
        headers.remove(SET_COOKIE);
        for value in kept {
            headers.append(SET_COOKIE, value);
        }
    }
}

fn tell_timings(headers: &mut HeaderMap, news: &News) {
    if !news.timings.is_empty() {
        timing::add(headers, &news.timings, news.more_timings);
    }
}

/// Seconds since 1970; a clock before that is one that was never set.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}
