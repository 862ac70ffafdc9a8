//! Where a statement's rows go: into a response, up to its limits, or to a cursor, which holds
//! the statement back until somebody fetches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::{Col, CursorEntry, Error, Limits, StmtResult, StreamResponse, Value, codes};

/// Takes the rows of one statement.
pub struct Rows {
    out: Out,
    wanted: bool,
}

enum Out {
    Response(Arc<Collected>),
    Cursor(Arc<CursorQueue>, u32),
    Nowhere,
}

impl Rows {
    /// For statements whose rows are nobody's.
    pub fn ignored() -> Self {
        Self { out: Out::Nowhere, wanted: false }
    }

    pub(crate) fn response(collected: &Arc<Collected>, wanted: bool) -> Self {
        Self { out: Out::Response(Arc::clone(collected)), wanted }
    }

    pub(crate) fn cursor(queue: &Arc<CursorQueue>, step: u32, wanted: bool) -> Self {
        Self { out: Out::Cursor(Arc::clone(queue), step), wanted }
    }

    /// False if rows need not be read out of SQLite; the statement still has to be stepped.
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Called once, before the first row, also when there will be none.
    pub fn columns(&mut self, cols: Vec<Col>) -> Result<(), Error> {
        match &self.out {
            Out::Response(collected) => {
                collected.0.lock().cols = cols;
                Ok(())
            }
            Out::Cursor(queue, step) => {
                queue.push_waiting(CursorEntry::StepBegin { step: *step, cols })
            }
            Out::Nowhere => Ok(()),
        }
    }

    /// May block the thread. An error means: stop here and return it.
    pub fn row(&mut self, row: Vec<Value>) -> Result<(), Error> {
        if !self.wanted {
            return Ok(());
        }
        match &self.out {
            Out::Response(collected) => collected.0.lock().push(row),
            Out::Cursor(queue, _) => queue.push_waiting(CursorEntry::Row(row)),
            Out::Nowhere => Ok(()),
        }
    }
}

/// What the rows of one response may still take, over all its statements.
#[derive(Clone, Copy)]
pub struct Budget {
    pub rows: usize,
    pub bytes: usize,
}

impl Budget {
    pub fn new(limits: &Limits) -> Self {
        Self { rows: limits.response_rows, bytes: limits.response_bytes }
    }
}

impl Budget {
    /// What is left after this response.
    pub fn after(self, response: &StreamResponse) -> Self {
        let results: &mut dyn Iterator<Item = &StmtResult> = match response {
            StreamResponse::Execute(result) => &mut std::iter::once(result),
            StreamResponse::Batch(batch) => &mut batch.step_results.iter().flatten(),
            _ => return self,
        };
        results.flat_map(|result| &result.rows).fold(self, |left, row| Self {
            rows: left.rows.saturating_sub(1),
            bytes: left.bytes.saturating_sub(weight(row)),
        })
    }
}

/// The rows of one statement, collected within a budget.
pub struct Collected(Mutex<Collecting>);

struct Collecting {
    cols: Vec<Col>,
    rows: Vec<Vec<Value>>,
    left: Budget,
}

impl Collected {
    pub fn new(budget: Budget) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Collecting { cols: Vec::new(), rows: Vec::new(), left: budget })))
    }

    /// Takes what came, and what is left of the budget.
    pub fn take(&self) -> (Vec<Col>, Vec<Vec<Value>>, Budget) {
        let mut collecting = self.0.lock();
        let left = collecting.left;
        (std::mem::take(&mut collecting.cols), std::mem::take(&mut collecting.rows), left)
    }
}

impl Collecting {
    fn push(&mut self, row: Vec<Value>) -> Result<(), Error> {
        let weight = weight(&row);
        match (self.left.rows.checked_sub(1), self.left.bytes.checked_sub(weight)) {
            (Some(rows), Some(bytes)) => self.left = Budget { rows, bytes },
            _ => {
                return Err(Error::caller(
                    codes::RESPONSE_TOO_LARGE,
                    "the result is too large for one response: use a cursor, or ask for less",
                ));
            }
        }
        self.rows.push(row);
        Ok(())
    }
}

fn weight(row: &[Value]) -> usize {
    row.iter().map(Value::weight).sum::<usize>() + 8
}

/// Entries between a running batch (a thread that may block) and whoever fetches (a task).
pub struct CursorQueue {
    state: Mutex<QueueState>,
    /// Somebody fetched, or nobody will.
    room: Condvar,
    /// There are entries, or there will be none.
    news: Notify,
    max_bytes: usize,
    stall: Duration,
}

#[derive(Default)]
struct QueueState {
    entries: VecDeque<(CursorEntry, usize)>,
    bytes: usize,
    /// No more entries will come.
    finished: bool,
    /// Why no more entries may come.
    stopped: Option<Error>,
}

impl CursorQueue {
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            room: Condvar::new(),
            news: Notify::new(),
            max_bytes: limits.cursor_bytes,
            stall: limits.cursor_stall,
        })
    }

    /// Blocks while the queue is full. Fails when the cursor is closed, or not fetched from.
    fn push_waiting(&self, entry: CursorEntry) -> Result<(), Error> {
        let weight = entry_weight(&entry);
        let give_up = Instant::now() + self.stall;
        let mut state = self.state.lock();
        loop {
            if let Some(why) = &state.stopped {
                return Err(why.clone());
            }
            // One entry always fits, however large.
            if state.entries.is_empty() || state.bytes + weight <= self.max_bytes {
                state.push(entry, weight);
                drop(state);
                self.news.notify_one();
                return Ok(());
            }
            if self.room.wait_until(&mut state, give_up).timed_out() {
                let why = Error::caller(
                    codes::CURSOR_STALLED,
                    "the cursor was not fetched from for too long",
                );
                state.stopped = Some(why.clone());
                return Err(why);
            }
        }
    }

    /// For the few entries that are not rows. After a stop only the last word passes.
    pub fn push(&self, entry: CursorEntry) {
        let weight = entry_weight(&entry);
        self.state.lock().push(entry, weight);
        self.news.notify_one();
    }

    /// No more entries will come.
    pub fn finish(&self) {
        self.state.lock().finished = true;
        self.news.notify_one();
    }

    /// Makes the producer end with this error.
    pub fn stop(&self, why: Error) {
        self.state.lock().stopped.get_or_insert(why);
        self.room.notify_all();
    }

    /// The next entries, at least one unless the cursor is at its end; true with the last.
    /// For one caller at a time.
    pub async fn fetch(&self, max_count: usize) -> (Vec<CursorEntry>, bool) {
        loop {
            let news = self.news.notified();
            {
                let mut state = self.state.lock();
                if !state.entries.is_empty() || state.finished || max_count == 0 {
                    let count = max_count.min(state.entries.len());
                    let entries: Vec<_> = state.entries.drain(..count).collect();
                    state.bytes -= entries.iter().map(|(_, weight)| weight).sum::<usize>();
                    let done = state.finished && state.entries.is_empty();
                    drop(state);
                    self.room.notify_all();
                    return (entries.into_iter().map(|(entry, _)| entry).collect(), done);
                }
            }
            news.await;
        }
    }
}

impl QueueState {
    fn push(&mut self, entry: CursorEntry, weight: usize) {
        self.bytes += weight;
        self.entries.push_back((entry, weight));
    }
}

fn entry_weight(entry: &CursorEntry) -> usize {
    match entry {
        CursorEntry::Row(row) => weight(row),
        _ => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(cursor_bytes: usize, stall_ms: u64) -> Limits {
        Limits {
            cursor_bytes,
            cursor_stall: Duration::from_millis(stall_ms),
            response_rows: 3,
            response_bytes: 1_000,
            ..Limits::default()
        }
    }

    fn row(n: i64) -> Vec<Value> {
        vec![Value::Integer(n)]
    }

    #[test]
    fn a_response_has_a_limit_of_rows_and_of_bytes() {
        let collected = Collected::new(Budget::new(&limits(0, 0)));
        let mut rows = Rows::response(&collected, true);
        for n in 0..3 {
            rows.row(row(n)).unwrap();
        }
        assert_eq!(rows.row(row(3)).unwrap_err().code, codes::RESPONSE_TOO_LARGE);
        let (_, rows, left) = collected.take();
        assert_eq!((rows.len(), left.rows), (3, 0));

        let collected = Collected::new(Budget::new(&limits(0, 0)));
        let mut rows = Rows::response(&collected, true);
        let large = vec![Value::Text("x".repeat(1_000))];
        assert_eq!(rows.row(large.clone()).unwrap_err().code, codes::RESPONSE_TOO_LARGE);
        let mut unwanted = Rows::response(&collected, false);
        unwanted.row(large).unwrap();
        assert!(collected.take().1.is_empty());
    }

    #[tokio::test]
    async fn a_cursor_holds_its_statement_back_and_loses_nothing() {
        let queue = CursorQueue::new(&limits(200, 60_000));
        let producer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut rows = Rows::cursor(&queue, 0, true);
                rows.columns(vec![Col::default()]).unwrap();
                for n in 0..1_000 {
                    rows.row(row(n)).unwrap();
                    assert!(queue.state.lock().bytes <= 200);
                }
                queue.push(CursorEntry::StepEnd(crate::Done::default()));
                queue.finish();
            })
        };
        let mut got = Vec::new();
        loop {
            let (entries, done) = queue.fetch(7).await;
            assert!(entries.len() <= 7);
            got.extend(entries);
            if done {
                break;
            }
        }
        producer.join().unwrap();
        assert_eq!(got.len(), 1_002);
        assert_eq!(got[500], CursorEntry::Row(row(499)));
        assert_eq!(queue.fetch(7).await, (Vec::new(), true), "and again");
    }

    #[test]
    fn a_closed_cursor_ends_its_statement_and_so_does_a_forgotten_one() {
        let queue = CursorQueue::new(&limits(1, 60_000));
        let producer = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut rows = Rows::cursor(&queue, 0, true);
                (0..).find_map(|n| rows.row(row(n)).err())
            })
        };
        queue.stop(Error::caller(codes::CURSOR_CLOSED, "closed"));
        assert_eq!(producer.join().unwrap().unwrap().code, codes::CURSOR_CLOSED);

        let queue = CursorQueue::new(&limits(1, 1));
        let mut rows = Rows::cursor(&queue, 0, true);
        let error = (0..).find_map(|n| rows.row(row(n)).err()).unwrap();
        assert_eq!(error.code, codes::CURSOR_STALLED);
    }
}
