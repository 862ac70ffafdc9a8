//! Group commit: each waiting transaction runs as one of its own, and all of them share one
//! segment and one sync of the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rusqlite::Connection;

use super::{Core, Head};
use crate::error::Error;
use crate::shared::Shared;

/// One client's transaction, whatever types its job has.
pub(crate) trait GroupJob: Send {
    /// Nobody waits any more.
    fn abandoned(&self) -> bool;
    /// Longest it may run, where that is not the setting's `job_deadline`.
    fn longest(&self) -> Option<Duration> {
        None
    }
    /// Runs inside a transaction; `true` to commit it.
    fn run(&mut self, db: &Connection) -> bool;
    /// The end, called once: where the transaction became durable, or why it did not.
    fn finish(self: Box<Self>, outcome: Outcome);
}

/// `Ok(None)`: the job itself wanted no commit.
pub(crate) type Outcome = Result<Option<Head>, Error>;

/// Whether a job committed; `Err(None)`: it wanted not to.
pub(crate) type Ran = Result<(), Option<Error>>;

impl Core {
    /// Runs and commits jobs. On error the core must be thrown away, and the jobs have been told.
    pub(crate) fn run_group(
        &mut self,
        jobs: Vec<Box<dyn GroupJob>>,
        shared: &Shared,
    ) -> Result<(), Error> {
        let mut done = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            if job.abandoned() {
                continue;
            }
            shared.job_starts(job.longest().unwrap_or(shared.settings().job_deadline));
            let result = self.run_one(&mut *job);
            shared.job_ended();
            match result {
                Ok(true) => done.push((job, Ok(()))),
                Ok(false) => done.push((job, Err(None))),
                Err(error) => done.push((job, Err(Some(error)))),
            }
        }
        self.settle(done, shared)
    }

    /// Makes what was committed durable and tells the jobs; also those that did not commit, since
    /// what they say may come from what others of the group committed before them.
    pub(crate) fn settle(
        &mut self,
        done: Vec<(Box<dyn GroupJob>, Ran)>,
        shared: &Shared,
    ) -> Result<(), Error> {
        let captured = self.capture();
        let outcome = match &captured {
            Ok(_) => {
                // Before the jobs are told, so that they see their own position.
                shared.publish(self);
                shared.may_acknowledge().map(|()| Some(self.head))
            }
            Err(error) => {
                shared.stop(error);
                Err(Error::Failed(error.to_string().into()))
            }
        };
        for (job, ran) in done {
            job.finish(match (ran, &outcome) {
                (Ok(()), _) | (Err(None), Err(_)) => outcome.clone(),
                (Err(None), Ok(_)) => Ok(None),
                (Err(Some(error)), _) => Err(error),
            });
        }
        captured.map(drop)
    }

    /// `Ok(true)` if it committed, `Ok(false)` if the job wanted to roll back.
    fn run_one(&self, job: &mut dyn GroupJob) -> Result<bool, Error> {
        self.begin()?;
        let wants = catch_unwind(AssertUnwindSafe(|| job.run(&self.conn)));
        if self.conn.is_autocommit() {
            // Some errors (a full disk, an interrupt) make SQLite itself roll back.
            return match wants {
                Ok(false) => Ok(false),
                _ => Err(Error::TransactionEnded),
            };
        }
        match wants {
            Ok(true) => self.commit().map(|()| true),
            Ok(false) => self.rollback().map(|()| false),
            Err(_) => self.rollback().and(Err(Error::JobPanicked)),
        }
    }

    pub(crate) fn begin(&self) -> Result<(), Error> {
        self.statement("BEGIN IMMEDIATE")
    }

    /// A commit that fails (a deferred constraint, a full disk) is rolled back.
    pub(crate) fn commit(&self) -> Result<(), Error> {
        self.flight.begin();
        self.statement("COMMIT").or_else(|error| self.rollback().and(Err(error)))
    }

    pub(crate) fn rollback(&self) -> Result<(), Error> {
        if self.conn.is_autocommit() { Ok(()) } else { self.statement("ROLLBACK") }
    }

    fn statement(&self, sql: &str) -> Result<(), Error> {
        self.conn.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}
