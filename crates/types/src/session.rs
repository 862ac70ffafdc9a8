//! What one client has written and read, for as long as one request or WebSocket lives.
//!
//! The listener fills a session with what the client brought along, the data layer asks it how
//! new a read must be and tells it what was done, the listener hands the news back to the client.
//! Positions only rise, except by [`Session::forget`]. Nothing here knows of tokens or HTTP.

mod policy;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{DatasetId, Position};

pub use policy::{SESSION_MAX_AGE, SessionKeys, SessionPolicy};

/// Datasets that one session remembers. A token with all of them stays near 1 KiB. One more
/// drops the dataset that was longest not moved, those that were only read first.
pub const MAX_SESSION_DATASETS: usize = 32;
/// Different notes for `Server-Timing`; the ones beyond are counted only.
pub const MAX_TIMINGS: usize = 8;

/// A dataset's position as a session keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// [`Remembered::key`] of the dataset.
    pub dataset: u64,
    pub position: Position,
}

impl Remembered {
    pub fn new(dataset: &DatasetId, position: Position) -> Self {
        Self { dataset: Self::key(dataset), position }
    }

    /// 64 bits that stand for a dataset's id (FNV-1a). Wider than a bookmark's tag: a session
    /// does not get to see the ids its token speaks of, so it cannot find a collision, and a
    /// collision would hold a read to another dataset's position.
    pub fn key(dataset: &DatasetId) -> u64 {
        dataset
            .as_str()
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }
}

/// How one wait is explained to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    pub name: String,
    /// `replica fra lag=3ms`.
    pub what: String,
    pub took: Duration,
}

/// What a session has to tell its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Something was written, or forgotten, since the last news.
    pub wrote: bool,
    /// Something newer was read, or forgotten, since the last news.
    pub saw: bool,
    /// All that was written; empty without news.
    pub written: Vec<Remembered>,
    /// All that was read beyond what was written; empty without news.
    pub seen: Vec<Remembered>,
    /// In the order in which they first came up.
    pub timings: Vec<Timing>,
    /// Notes that had no room in `timings`.
    pub more_timings: u32,
}

/// Clones share one memory. The default is [`Session::off`], which costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Session(Option<Arc<Mutex<State>>>);

#[derive(Debug, Default)]
struct State {
    /// The one that was moved last stands last.
    entries: Vec<Entry>,
    wrote: bool,
    saw: bool,
    departed: bool,
    timings: Vec<Timing>,
    more_timings: u32,
}

#[derive(Debug)]
struct Entry {
    dataset: u64,
    written: Option<Position>,
    /// Never behind `written`.
    seen: Position,
}

impl State {
    /// Raises what is known of a dataset; true if anything rose.
    fn raise(&mut self, dataset: u64, position: Position, written: bool) -> bool {
        let Some(at) = self.entries.iter().rposition(|entry| entry.dataset == dataset) else {
            if self.entries.len() == MAX_SESSION_DATASETS {
                let only_read = self.entries.iter().position(|entry| entry.written.is_none());
                self.entries.remove(only_read.unwrap_or(0));
            }
            let written = written.then_some(position);
            self.entries.push(Entry { dataset, written, seen: position });
            return true;
        };
        let entry = &mut self.entries[at];
        let mut rose = position > entry.seen;
        entry.seen = entry.seen.max(position);
        if written && entry.written < Some(position) {
            entry.written = Some(position);
            rose = true;
        }
        if rose {
            self.entries[at..].rotate_left(1);
        }
        rose
    }
}

impl Session {
    /// Remembers nothing.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Remembers, beginning with nothing.
    pub fn begin() -> Self {
        Self(Some(Arc::default()))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what the client brought along. That is no news to it.
    pub fn recall(&self, written: &[Remembered], seen: &[Remembered]) {
        let Some(mut state) = self.state() else { return };
        for (list, written) in [(seen, false), (written, true)] {
            for one in list {
                state.raise(one.dataset, one.position, written);
            }
        }
    }

    /// How new a read of the dataset must be at least; `None` if any state will do.
    pub fn position(&self, dataset: &DatasetId) -> Option<Position> {
        let state = self.state()?;
        if state.entries.is_empty() {
            return None;
        }
        let key = Remembered::key(dataset);
        state.entries.iter().rfind(|entry| entry.dataset == key).map(|entry| entry.seen)
    }

    /// A read was served from this position. Later reads of the session will not be older.
    ///
    /// To be called for each read (a look-up if nothing moved). May be left out where every
    /// point of presence is known to hold the position already: no later read can be older.
    pub fn saw(&self, dataset: &DatasetId, position: Position) {
        if let Some(mut state) = self.state() {
            state.saw |= state.raise(Remembered::key(dataset), position, false);
        }
    }

    /// A write was committed at this position.
    ///
    /// False if the head of the response has left, so that the client will not hear of it: its
    /// next request may miss this write (worth a warning to the app's developer).
    pub fn wrote(&self, dataset: &DatasetId, position: Position) -> bool {
        let Some(mut state) = self.state() else { return true };
        state.wrote |= state.raise(Remembered::key(dataset), position, true);
        !state.departed
    }

    /// The history that the session knew of the dataset is gone: a restore, a fail-over that lost
    /// its tail, another database of the same name. Whoever calls this answers with an error of
    /// its own; the client's next request is no longer held to a position that will never come.
    pub fn forget(&self, dataset: &DatasetId) {
        let Some(mut state) = self.state() else { return };
        let key = Remembered::key(dataset);
        let before = state.entries.len();
        state.entries.retain(|entry| entry.dataset != key);
        if state.entries.len() < before {
            (state.wrote, state.saw) = (true, true);
        }
    }

    /// Notes a wait for `Server-Timing`. Equal notes are added up.
    pub fn timing(&self, name: &str, what: &str, took: Duration) {
        let Some(mut state) = self.state() else { return };
        let equal = |note: &Timing| note.name == name && note.what == what;
        if let Some(at) = state.timings.iter().position(equal) {
            state.timings[at].took += took;
        } else if state.timings.len() < MAX_TIMINGS {
            let (name, what) = (name.to_owned(), what.to_owned());
            state.timings.push(Timing { name, what, took });
        } else {
            state.more_timings = state.more_timings.saturating_add(1);
        }
    }

    /// Takes what there is to tell. `last` says that the client cannot be told anything more.
    pub fn news(&self, last: bool) -> News {
        let Some(mut state) = self.state() else { return News::default() };
        state.departed |= last;
        let mut news = News {
            wrote: std::mem::take(&mut state.wrote),
            saw: std::mem::take(&mut state.saw),
            timings: std::mem::take(&mut state.timings),
            more_timings: std::mem::take(&mut state.more_timings),
            ..News::default()
        };
        if news.wrote || news.saw {
            for entry in &state.entries {
                let dataset = entry.dataset;
                news.written.extend(entry.written.map(|position| Remembered { dataset, position }));
                if entry.written < Some(entry.seen) {
                    news.seen.push(Remembered { dataset, position: entry.seen });
                }
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> DatasetId {
        name.parse().unwrap()
    }

    fn at(txid: u64) -> Position {
        Position::new(1, txid)
    }

    #[test]
    fn positions_only_rise_and_belong_to_their_dataset() {
        let (session, a, b) = (Session::begin(), id("app/a"), id("app/b"));
        assert_eq!(session.position(&a), None);
        assert!(session.wrote(&a, at(9)));
        session.clone().saw(&a, at(7));
        assert_eq!(session.position(&a), Some(at(9)));
        session.saw(&a, at(11));
        session.wrote(&a, at(10));
        assert_eq!(session.position(&a), Some(at(11)));
        session.saw(&a, Position::new(2, 1));
        assert_eq!(session.position(&a), Some(Position::new(2, 1)));
        assert_eq!(session.position(&b), None);
    }

    #[test]
    fn only_what_moved_is_news() {
        let (session, a, b) = (Session::begin(), id("app/a"), id("app/b"));
        session.recall(&[Remembered::new(&a, at(5))], &[Remembered::new(&b, at(3))]);
        session.saw(&a, at(5));
        session.saw(&b, at(2));
        assert_eq!(session.news(false), News::default());
        session.saw(&a, at(6));
        let news = session.news(false);
        assert!(news.saw && !news.wrote);
        assert_eq!(news.written, [Remembered::new(&a, at(5))]);
        assert_eq!(news.seen, [Remembered::new(&b, at(3)), Remembered::new(&a, at(6))]);
        session.wrote(&a, at(7));
        let news = session.news(false);
        assert!(news.wrote && !news.saw);
        assert_eq!(news.written, [Remembered::new(&a, at(7))]);
        assert_eq!(news.seen, [Remembered::new(&b, at(3))]);
        // A position that was read already and is written now: the client must hear of it.
        session.saw(&b, at(4));
        session.news(false);
        session.wrote(&b, at(4));
        assert!(session.news(false).wrote);
    }

    #[test]
    fn a_late_write_says_so() {
        let (session, a) = (Session::begin(), id("app/a"));
        session.news(false);
        assert!(session.wrote(&a, at(1)));
        session.news(true);
        assert!(!session.wrote(&a, at(2)));
        assert_eq!(session.position(&a), Some(at(2)));
    }

    #[test]
    fn what_was_only_read_is_dropped_first_and_what_moved_last_stays() {
        let session = Session::begin();
        let name = |n: usize| id(&format!("app/{n}"));
        session.wrote(&name(0), at(1));
        for n in 1..MAX_SESSION_DATASETS {
            session.saw(&name(n), at(1));
        }
        session.saw(&name(1), at(2));
        session.saw(&name(99), at(1));
        assert_eq!(session.position(&name(0)), Some(at(1)));
        assert_eq!(session.position(&name(1)), Some(at(2)));
        assert_eq!(session.position(&name(2)), None);
        for n in 100..100 + MAX_SESSION_DATASETS {
            session.wrote(&name(n), at(1));
        }
        assert_eq!(session.position(&name(0)), None);
        assert_eq!(session.news(true).written.len(), MAX_SESSION_DATASETS);
    }

    #[test]
    fn what_is_forgotten_is_news() {
        let (session, a) = (Session::begin(), id("app/a"));
        session.recall(&[Remembered::new(&a, at(5))], &[]);
        session.forget(&id("app/b"));
        assert_eq!(session.news(false), News::default());
        session.forget(&a);
        let news = session.news(false);
        assert!(news.wrote && news.saw && news.written.is_empty() && news.seen.is_empty());
        assert_eq!(session.position(&a), None);
    }

    #[test]
    fn equal_timings_add_up_and_their_number_is_bounded() {
        let session = Session::begin();
        let ms = Duration::from_millis;
        session.timing("db", "replica fra lag=3ms", ms(1));
        session.timing("db", "replica fra lag=3ms", ms(2));
        for n in 0..MAX_TIMINGS {
            session.timing("db", &n.to_string(), ms(1));
        }
        let news = session.news(true);
        assert_eq!((news.timings[0].took, news.timings.len()), (ms(3), MAX_TIMINGS));
        assert_eq!(news.more_timings, 1);
        assert_eq!(session.news(true), News::default());
    }

    #[test]
    fn off_is_silent() {
        let (session, a) = (Session::off(), id("app/a"));
        assert!(session.wrote(&a, at(1)));
        session.timing("db", "x", Duration::ZERO);
        assert_eq!(session.position(&a), None);
        assert_eq!(session.news(true), News::default());
        assert!(!session.is_on() && !Session::default().is_on());
    }
}
