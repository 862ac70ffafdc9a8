//! Reads, where they are asked: on the caller's thread, from what is here, and not told before the
//! disk has what they saw.

use verge_types::{Coverage, Position};

use super::database::{Answer, Database, Freshness, Local, SharedStop, rules};
use super::error::{ErrorKind, SqlError};
use super::home::{Boxed, Home};
use super::message::Request;
use super::run::{self, Outcome, Query, Rules};
use super::script;
use super::sink::RowSink;
use super::value::Params;

impl<H: Home> Database<H> {
    /// True if a read that must be so fresh can be answered here now.
    pub fn is_fresh(&self, freshness: &Freshness) -> bool {
        // A number alone does not tell: after a failover the lost 1/9 is less than 2/8.
        let covers = |at_least| self.home.coverage(at_least) == Coverage::Covered;
        let covered = freshness.at_least.is_none_or(covers);
        if self.home.is_primary() {
            return covered;
        }
        covered
            && self.home.is_readable()
            && !freshness.strong
            && freshness
                .max_staleness
                .is_none_or(|longest| self.home.staleness().is_some_and(|age| age <= longest))
    }

    /// The fast path: one statement, here, on this thread, if it only reads, the state here is
    /// fresh enough, and the answer need not wait for the disk. `Writes` and `Stale` come before
    /// the sink has heard anything.
    pub fn read(
        &self,
        freshness: &Freshness,
        sql: &str,
        params: &(impl Params + ?Sized),
        stop: Option<&super::Stop<'_>>,
        sink: &mut (impl RowSink + ?Sized),
    ) -> Result<Local, SqlError> {
        let primary = self.home.is_primary();
        if freshness.strong || !self.is_fresh(freshness) || (primary && self.home.is_settling()) {
            return Ok(Local::Stale);
        }
        let reader = self.home.steady_reader()?;
        let rules = Rules { policy: self.policy, stop };
        let read = run::run_readonly(&reader, &rules, sql, params, sink);
        // In a transaction that is not its own, the run did not.
        run::settle(&reader);
        match read {
            Ok(Some(stats)) => {
                // Waits only for a commit that came while it was read.
                let position = self.home.settle(&reader)?;
                Ok(Local::Done { stats, position, primary })
            }
            Ok(None) => Ok(Local::Writes),
            // A replica may not have a table yet that the primary has: the primary knows.
            Err(error) if !primary && is_unknown_here(&error) => Ok(Local::Stale),
            Err(error) => Err(error),
        }
    }

    /// Runs statements that all only read on one reader, in one read transaction, and waits until
    /// the disk has what they saw; `None` if one of them writes, or compiles only after another
    /// has run, or if a strong read's primary lost its office meanwhile.
    pub(super) async fn read_batch(
        &self,
        queries: &[Query],
        stop: Option<&SharedStop>,
        strong: bool,
    ) -> Result<Option<Answer<Vec<Outcome>>>, SqlError> {
        let Some((outcomes, settled)) = self.read_all(queries, stop, strong)? else {
            return Ok(None);
        };
        let position = settled.await?;
        if strong && !self.home.is_primary() {
            return Ok(None);
        }
        Ok(Some(self.here(outcomes, position)))
    }

    /// Whether a request for the primary only reads, as far as the copy here can tell.
    pub fn only_reads(&self, request: &Request) -> bool {
        let queries = match request {
            Request::Query(query) => std::slice::from_ref(query),
            Request::Batch(queries) => queries,
            Request::Fresh { request, .. } => return self.only_reads(request),
            _ => return false,
        };
        let known = self.readonly(queries).unwrap_or_else(|| vec![None; queries.len()]);
        let mut both = known.iter().zip(queries);
        both.all(|(known, query)| known.unwrap_or_else(|| is_a_select(&query.sql)))
    }

    /// Whether one of these writes for sure; of a table that is not here yet nothing is known.
    pub(super) fn one_writes(&self, queries: &[Query]) -> bool {
        let only_read = self.readonly(queries);
        only_read.is_some_and(|all| all.contains(&Some(false)))
    }

    /// Whether each only reads, where the state here can tell.
    fn readonly(&self, queries: &[Query]) -> Option<Vec<Option<bool>>> {
        let reader = self.home.reader().ok()?;
        let rules = Rules { policy: self.policy, stop: None };
        let one = |query: &Query| run::is_readonly(&reader, &rules, &query.sql).ok();
        Some(queries.iter().map(one).collect())
    }

    fn read_all(
        &self,
        queries: &[Query],
        stop: Option<&SharedStop>,
        strong: bool,
    ) -> Result<Option<Unsettled>, SqlError> {
        let reader = self.home.reader()?;
        let owned = stop.cloned();
        let rules = rules(self.policy, &owned);
        for query in queries {
            match run::is_readonly(&reader, &rules, &query.sql) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                // A replica may not have a table yet that the primary has: the primary knows.
                Err(error) if queries.len() == 1 && self.home.is_primary() => return Err(error),
                Err(_) => return Ok(None),
            }
        }
        let outcomes = if let [query] = queries {
            vec![run::query(&reader, &rules, query)?]
        } else {
            script::in_read_transaction(&reader, |conn| script::batch(conn, &rules, queries))?
        };
        Ok(Some((outcomes, self.home.settled(&reader, strong))))
    }

    /// A reader that holds one state, which the disk has, and a position that covers it.
    pub async fn snapshot(&self) -> Result<(H::Reader, Position), SqlError> {
        let reader = self.home.reader()?;
        reader.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1")?;
        let settled = self.home.settled(&reader, false);
        Ok((reader, settled.await?))
    }

    /// The serialized database, as `dump` gives it; at most `max_bytes`.
    pub fn dump(&self, max_bytes: u64) -> Result<Vec<u8>, SqlError> {
        let reader = self.home.reader()?;
        let bytes = super::export::serialize(&reader, max_bytes)?;
        self.home.settle(&reader)?;
        Ok(bytes)
    }
}

/// Whether a text is a `SELECT` and nothing else, without a copy that could compile it. May miss
/// one, but takes nothing else for one.
fn is_a_select(sql: &str) -> bool {
    let text = sql.trim().trim_end_matches(';');
    let word = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    word.eq_ignore_ascii_case("select") && !text.contains(';')
}

/// Statements that do not compile here give this, before anything reached the sink.
fn is_unknown_here(error: &SqlError) -> bool {
    error.kind == ErrorKind::Sqlite && error.code == verge_dataset::rusqlite::ffi::SQLITE_ERROR
}

/// At the primary: what a session has seen is in the history, or there is no answer for it.
pub fn covers(home: &impl Home, seen: Position) -> Result<(), SqlError> {
    match home.coverage(seen) {
        Coverage::Covered => Ok(()),
        Coverage::Lost => Err(SqlError::history_lost(seen)),
        Coverage::NotYet => Err(SqlError::new(
            ErrorKind::Unavailable,
            format!("the session has seen {seen}, which the database has not reached"),
        )),
    }
}

/// What was read, and its wait for the disk.
pub(super) type Unsettled = (Vec<Outcome>, Boxed<'static, Result<Position, SqlError>>);

#[cfg(test)]
mod tests {
    use super::is_a_select;

    #[test]
    fn selects_are_told_by_their_text() {
        for (sql, select) in [
            ("SELECT 1", true),
            ("  select(1) ; ", true),
            ("SELECT 1; DELETE FROM t", false),
            ("WITH n AS (SELECT 1) DELETE FROM t", false),
            ("DELETE FROM t", false),
            ("selector", false),
            ("-- why\nSELECT 1", false),
            ("", false),
        ] {
            assert_eq!(is_a_select(sql), select, "{sql}");
        }
    }
}
