//! Interactive transactions: one client holds the writer between several jobs, up to a deadline.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::core::{Core, GroupJob, Outcome};
use crate::dataset::Committed;
use crate::error::{Error, WriteError};
use crate::shared::Shared;

type Step = Box<dyn FnOnce(&Connection) + Send>;

enum Order {
    Run(Step),
    Commit(oneshot::Sender<Outcome>),
    Rollback(oneshot::Sender<()>),
}

/// A transaction that waits for its turn.
pub(crate) struct Opening {
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Result<WriteTransaction, Error>>,
}

impl Opening {
    pub(crate) fn refuse(self, error: Error) {
        let _ = self.reply.send(Err(error));
    }

    /// Holds the writer until the transaction ends. An error means the core must be thrown away.
    pub(crate) fn serve(self, core: &mut Core, shared: &Arc<Shared>) -> Result<(), Error> {
        let latest = Instant::now() + shared.settings().max_transaction;
        let deadline = self.deadline.min(latest);
        if Instant::now() >= deadline {
            self.refuse(Error::DeadlinePassed);
            return Ok(());
        }
        if let Err(error) = core.begin() {
            self.refuse(error);
            return Ok(());
        }
        let (orders, received) = channel();
        let handle = WriteTransaction { orders: Some(orders), shared: shared.clone(), deadline };
        if self.reply.send(Ok(handle)).is_err() {
            return core.rollback();
        }
        listen(core, shared, &received, deadline)
    }
}

fn listen(
    core: &mut Core,
    shared: &Shared,
    orders: &Receiver<Order>,
    deadline: Instant,
) -> Result<(), Error> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match orders.recv_timeout(left) {
            Ok(Order::Run(step)) => {
                if left.is_zero() {
                    // Its reply is dropped with it, which says that the deadline has passed.
                    return core.rollback();
                }
                shared.job_starts(left);
                let ran =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step(&core.conn)));
                shared.job_ended();
                // Some errors make SQLite roll back by itself; a job may have tried to.
                if ran.is_err() || core.conn.is_autocommit() {
                    core.rollback()?;
                    return core.settle(Vec::new(), shared);
                }
            }
            Ok(Order::Commit(reply)) => {
                if let Err(error) = core.commit() {
                    let _ = reply.send(Err(error));
                    return Ok(());
                }
                let job: Box<dyn GroupJob> = Box::new(Last(reply));
                return core.settle(vec![(job, Ok(()))], shared);
            }
            Ok(Order::Rollback(reply)) => {
                core.rollback()?;
                let _ = reply.send(());
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return core.rollback();
            }
        }
    }
}

/// The commit, in the shape the group wants.
struct Last(oneshot::Sender<Outcome>);

impl GroupJob for Last {
    fn abandoned(&self) -> bool {
        false
    }

    fn run(&mut self, _: &Connection) -> bool {
        true
    }

    fn finish(self: Box<Self>, outcome: Outcome) {
        let _ = self.0.send(outcome);
    }
}

/// An open write transaction. Nobody else writes to the dataset meanwhile, so be quick. Dropped, it
/// rolls back; at its deadline it rolls back by itself.
pub struct WriteTransaction {
    /// Gone once it has ended.
    orders: Option<Sender<Order>>,
    shared: Arc<Shared>,
    deadline: Instant,
}

impl WriteTransaction {
    /// When it ends by itself.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Runs a job inside the transaction, on the writer's thread. The job's own error leaves the
    /// transaction open, unless SQLite rolled it back.
    pub async fn run<T, E>(
        &mut self,
        job: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (reply, result) = oneshot::channel();
        let step: Step = Box::new(move |db| {
            let _ = reply.send(job(db));
        });
        self.order(Order::Run(step))?;
        match result.await {
            Ok(result) => result.map_err(WriteError::Job),
            Err(_) => Err(self.ended().into()),
        }
    }

    /// Commits; resolves once it is durable as the dataset's [`crate::Ack`] asks.
    pub async fn commit(mut self) -> Result<Committed<()>, Error> {
        let (reply, result) = oneshot::channel();
        self.order(Order::Commit(reply))?;
        let Ok(outcome) = result.await else { return Err(self.ended()) };
        let head = outcome?.ok_or(Error::DeadlinePassed)?;
        self.shared.confirm(head.position).await?;
        Ok(Committed { value: (), position: head.position })
    }

    /// Ends it without a trace.
    pub async fn rollback(mut self) -> Result<(), Error> {
        let (reply, result) = oneshot::channel();
        self.order(Order::Rollback(reply))?;
        result.await.map_err(|_| self.ended())
    }

    fn order(&mut self, order: Order) -> Result<(), Error> {
        let orders = self.orders.as_ref().ok_or(Error::DeadlinePassed)?;
        orders.send(order).map_err(|_| self.ended())
    }

    /// Why the other end is gone.
    fn ended(&self) -> Error {
        let failure = self.shared.failure();
        failure.unwrap_or(if Instant::now() >= self.deadline {
            Error::DeadlinePassed
        } else {
            Error::TransactionEnded
        })
    }
}
