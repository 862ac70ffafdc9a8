//! A dataset on this node as the SQL service sees it: reads from what is here, writes while this
//! node is primary and its lease runs.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use verge_dataset::rusqlite::Connection;
use verge_dataset::{Committed, Dataset, Reader, Store, WriteError, WriteTransaction};
use verge_services::sql::{
    Boxed, Home, HomeTransaction, LONGEST_SETTLING, SqlError, not_read, settled,
};
use verge_types::{Coverage, CutOff, DatasetId, Position};

use crate::desk::{Desk, Pass};
use crate::error::{outcome_unknown, sql, unavailable};
use crate::inner::Inner;

/// How often a call looks again for a dataset that was closed or replaced under it.
const LOOKS: usize = 5;

/// One dataset on this node.
pub struct NodeHome {
    pub(crate) desk: Arc<Desk>,
    pub(crate) store: Store,
    pub(crate) node: Weak<Inner>,
}

/// A desk that a pass keeps alive.
pub(crate) struct AtDesk(Arc<Desk>);

impl AsRef<Desk> for AtDesk {
    fn as_ref(&self) -> &Desk {
        &self.0
    }
}

impl NodeHome {
    /// What becomes of writes here while the primary cannot be reached, from now on.
    pub fn when_cut_off(&self, when_cut_off: CutOff) {
        self.desk.queue.set(when_cut_off);
    }

    pub(crate) fn dataset(&self) -> Result<Arc<Dataset>, SqlError> {
        self.store.get(&self.desk.id).map_err(|error| sql(&error))
    }

    /// Notes that the dataset is in use, and wakes its driver if it sleeps.
    fn touch(&self) {
        self.desk.touch();
        if !self.desk.standing().awake
            && let Some(node) = self.node.upgrade()
        {
            node.wake(&self.desk.id);
        }
    }

    fn check_out(
        &self,
        reader: impl Fn(&Dataset) -> Result<Reader, verge_dataset::Error>,
    ) -> Result<Reader, SqlError> {
        self.touch();
        if self.desk.standing().quarantined {
            return Err(unavailable("the copy here is being replaced"));
        }
        let mut last = verge_dataset::Error::Closed;
        for _ in 0..LOOKS {
            match self.store.get(&self.desk.id).and_then(|dataset| reader(&dataset)) {
                Ok(reader) => return Ok(reader),
                // A snapshot is taking its place, or it was cold.
                Err(error @ verge_dataset::Error::Closed) => last = error,
                Err(error) => return Err(not_read(&error)),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(not_read(&last))
    }

    fn enter(&self) -> Result<(Pass<AtDesk>, Option<u64>), SqlError> {
        self.touch();
        let ours = self.desk.standing().ours;
        let pass = Desk::enter(AtDesk(self.desk.clone()));
        let pass = pass.ok_or_else(|| unavailable("the database's primary is moving"))?;
        Ok((pass, ours))
    }

    /// Returns when this node's term as primary has ended.
    async fn term_ends(&self, ours: Option<u64>) {
        let mut standing = self.desk.watch();
        // The sender lives in the desk.
        let _ = standing.wait_for(|standing| standing.ours != ours).await;
    }
}

impl NodeHome {
    /// A write of the database's owner, which may keep the writer for `longest`.
    pub(crate) async fn write_long<T: Send + 'static>(
        &self,
        longest: Duration,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Result<(T, Position), SqlError> {
        let (_pass, ours) = self.enter()?;
        let dataset = self.dataset()?;
        let job = self.at_its_turn(ours, None, dataset.clone(), job);
        self.in_term(ours, dataset.write_long(longest, job)).await
    }

    /// The job, decided on again when its turn has come: while it waited the lease may have run
    /// out, another term begun, or a restore changed the history under it.
    fn at_its_turn<T>(
        &self,
        ours: Option<u64>,
        after: Option<Position>,
        here: Arc<Dataset>,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static {
        let desk = self.desk.clone();
        move |conn: &Connection| {
            if !desk.still_leads(ours) {
                return Err(unavailable("the database's primary is moving"));
            }
            match after.map(|seen| (seen, desk.coverage(seen, here.position().txid))) {
                Some((seen, Coverage::Lost)) => Err(SqlError::history_lost(seen)),
                Some((_, Coverage::NotYet)) => {
                    Err(unavailable("the database has not reached what the session has seen"))
                }
                _ => job(conn),
            }
        }
    }

    async fn in_term<T>(
        &self,
        ours: Option<u64>,
        write: impl Future<Output = Result<Committed<T>, WriteError<SqlError>>>,
    ) -> Result<(T, Position), SqlError> {
        let written = tokio::select! {
            biased;
            written = write => written,
            () = self.term_ends(ours) => {
                return Err(outcome_unknown("another primary took over"));
            }
        };
        let committed = written.map_err(flatten)?;
        Ok((committed.value, committed.position))
    }

    async fn reach(&self, position: Position, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        for _ in 0..LOOKS {
            let Ok(dataset) = self.dataset() else { return false };
            let left = deadline.saturating_duration_since(Instant::now());
            if dataset.wait_for(position, left).await {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // Closed or replaced meanwhile: look at what is there now.
        }
        false
    }
}

impl Home for NodeHome {
    type Reader = Reader;
    type Transaction = NodeTransaction;

    fn id(&self) -> &DatasetId {
        &self.desk.id
    }

    fn position(&self) -> Position {
        self.dataset().map(|dataset| dataset.position()).unwrap_or_default()
    }

    fn is_primary(&self) -> bool {
        self.desk.is_primary()
    }

    fn is_readable(&self) -> bool {
        !self.desk.standing().quarantined
    }

    fn staleness(&self) -> Option<Duration> {
        self.desk.staleness()
    }

    fn coverage(&self, position: Position) -> Coverage {
        self.desk.coverage(position, self.position().txid)
    }

    fn is_settling(&self) -> bool {
        self.store.get(&self.desk.id).is_ok_and(|dataset| dataset.is_settling())
    }

    fn settled(&self, reader: &Reader, strong: bool) -> Boxed<'static, Result<Position, SqlError>> {
        match self.dataset() {
            Ok(dataset) => Box::pin(settled(dataset, reader.glimpse(), strong)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn settle(&self, reader: &Reader) -> Result<Position, SqlError> {
        reader.glimpse().block(LONGEST_SETTLING).map_err(|error| not_read(&error))
    }

    fn reader(&self) -> Result<Reader, SqlError> {
        self.check_out(Dataset::reader)
    }

    fn steady_reader(&self) -> Result<Reader, SqlError> {
        self.check_out(Dataset::steady_reader)
    }

    fn wait_for(&self, position: Position, longest: Duration) -> Boxed<'_, bool> {
        self.touch();
        Box::pin(self.reach(position, longest))
    }

    fn write<T: Send + 'static>(
        &self,
        after: Option<Position>,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Boxed<'_, Result<(T, Position), SqlError>> {
        Box::pin(async move {
            let (_pass, ours) = self.enter()?;
            let dataset = self.dataset()?;
            let job = self.at_its_turn(ours, after, dataset.clone(), job);
            self.in_term(ours, dataset.write(job)).await
        })
    }

    fn begin(&self, deadline: Instant) -> Boxed<'_, Result<NodeTransaction, SqlError>> {
        Box::pin(async move {
            let (pass, ours) = self.enter()?;
            let dataset = self.dataset()?;
            let inner = tokio::select! {
                biased;
                inner = dataset.begin(deadline) => inner.map_err(|error| sql(&error))?,
                () = self.term_ends(ours) => return Err(unavailable("another primary took over")),
            };
            if !self.desk.still_leads(ours) {
                return Err(unavailable("the database's primary is moving"));
            }
            Ok(NodeTransaction { inner, pass, ours })
        })
    }
}

/// An interactive transaction on this node.
pub struct NodeTransaction {
    inner: WriteTransaction,
    pass: Pass<AtDesk>,
    ours: Option<u64>,
}

impl HomeTransaction for NodeTransaction {
    fn run<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&Connection) -> Result<T, SqlError> + Send + 'static,
    ) -> Boxed<'_, Result<T, SqlError>> {
        Box::pin(async move { self.inner.run(job).await.map_err(flatten) })
    }

    fn commit(self) -> Boxed<'static, Result<Position, SqlError>> {
        let Self { inner, pass, ours } = self;
        Box::pin(async move {
            let mut standing = pass.at().as_ref().watch();
            tokio::select! {
                biased;
                done = inner.commit() => {
                    done.map(|done| done.position).map_err(|error| sql(&error))
                }
                _ = standing.wait_for(|standing| standing.ours != ours) => {
                    Err(outcome_unknown("another primary took over"))
                }
            }
        })
    }

    fn rollback(self) -> Boxed<'static, Result<(), SqlError>> {
        Box::pin(async move { self.inner.rollback().await.map_err(|error| sql(&error)) })
    }
}

fn flatten(error: WriteError<SqlError>) -> SqlError {
    match error {
        WriteError::Job(error) => error,
        WriteError::Dataset(error) => sql(&error),
    }
}

#[cfg(test)]
mod tests {
    use verge_replicate::Moment;
    use verge_services::sql::{ErrorKind, Freshness, Query};

    use crate::{Node, NodeConfig};

    use super::*;

    /// It had come in while the lease ran, and waited for the writer.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_whose_lease_ran_out_while_it_waited_does_not_run() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            NodeConfig::new(folder.path(), "iad-1".parse().unwrap(), "iad".parse().unwrap());
        let node = Node::start(config).await.unwrap();
        let db = node.database(&"app/main".parse().unwrap()).await.unwrap();
        db.exec(None, "CREATE TABLE t (v)".to_owned(), None).await.unwrap();
        let holder = db.begin(None, Duration::from_secs(30)).await.unwrap();
        let insert = Query::new("INSERT INTO t VALUES (1)", vec![]);
        let any = Freshness::default();
        let waiting = tokio::spawn({
            let db = db.clone();
            async move { db.query(&any, insert, None).await }
        });
        let desk = db.home().desk.clone();
        while desk.gate.count() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // The dataset's own fence would refuse it as well, if it came in time.
        desk.set_until(Moment(1));
        holder.rollback().await.unwrap();
        let refused = waiting.await.unwrap().unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
        let count = Query::new("SELECT count(*) FROM t", vec![]);
        let read = db.query(&any, count, None).await.unwrap();
        assert_eq!(read.value.rows.values, [verge_services::sql::Value::Integer(0)]);
        node.shutdown().await;
    }
}
