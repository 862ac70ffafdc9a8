//! A stream: one connection, its requests in order, and the deadlines that end it.
//!
//! A task owns the connection. Whoever holds the [`StreamHandle`] sends work; when the
//! [`Cancel`] it was opened under is dropped, the running statement is interrupted and the
//! connection closed, which rolls back.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, sleep_until};

use crate::rows::{Budget, Collected, CursorQueue};
use crate::stored_sql::{Step, Work};
use crate::{
    Access, Backend, BatchCond, BatchResult, BatchRun, Connection, Control, CursorEntry, Done,
    Error, Limits, Outcome, Rows, Statement, StmtResult, StreamResponse, Transaction, codes,
};

/// How often a statement that has to end is interrupted.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(20);

/// Ends the streams opened under it when dropped.
pub struct Cancel(watch::Sender<()>);

impl Default for Cancel {
    fn default() -> Self {
        Self(watch::channel(()).0)
    }
}

/// Takes the answer to one piece of work.
pub type Reply = Box<
    dyn FnOnce(Result<StreamResponse, Error>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send,
>;

/// Called when a stream's task ends.
pub type OnEnd = Box<dyn FnOnce() + Send>;

enum Command {
    Work(Work, Budget, Reply),
    Cursor(Vec<(Option<BatchCond>, Step)>, Arc<CursorQueue>, Reply),
}

/// Sends work to a stream.
pub struct StreamHandle(mpsc::UnboundedSender<Command>);

impl StreamHandle {
    /// Queues work whose rows have to fit the budget. The caller bounds how much it has
    /// outstanding.
    ///
    /// If the stream has ended, the reply is given back with the reason.
    pub fn work(&self, work: Work, budget: Budget, reply: Reply) -> Result<(), (Reply, Error)> {
        self.send(Command::Work(work, budget, reply))
    }

    /// Queues a batch whose results go into the queue. The reply comes when it begins to run.
    pub fn cursor(
        &self,
        steps: Vec<(Option<BatchCond>, Step)>,
        queue: Arc<CursorQueue>,
        reply: Reply,
    ) -> Result<(), (Reply, Error)> {
        self.send(Command::Cursor(steps, queue, reply))
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn send(&self, command: Command) -> Result<(), (Reply, Error)> {
        self.0.send(command).map_err(|mpsc::error::SendError(command)| match command {
            Command::Work(_, _, reply) | Command::Cursor(_, _, reply) => (reply, expired()),
        })
    }
}

fn expired() -> Error {
    Error::caller(codes::STREAM_EXPIRED, "the stream has expired: it was not used for too long")
}

/// Starts a stream. `idle` is how long it may wait for work.
pub fn open(
    backend: &Arc<dyn Backend>,
    access: Access,
    limits: &Arc<Limits>,
    idle: Duration,
    cancel: &Cancel,
    on_end: Option<OnEnd>,
) -> StreamHandle {
    let (handle, commands) = mpsc::unbounded_channel();
    let cancelled = cancel.0.subscribe();
    let (backend, limits) = (Arc::clone(backend), Arc::clone(limits));
    tokio::spawn(async move {
        let _at_end = AtEnd(on_end);
        let mut commands = commands;
        let mut gone = cancelled.clone();
        let opened = tokio::select! {
            opened = backend.open(access) => opened,
            _ = gone.changed() => return,
        };
        let end = match opened {
            Ok(connection) => {
                let stream = Stream { connection, limits, cancelled, began: None, poisoned: None };
                stream.run(&mut commands, idle).await
            }
            Err(error) => refuse_all(&mut commands, error).await,
        };
        commands.close();
        while let Ok(command) = commands.try_recv() {
            command.refuse(end.clone()).await;
        }
    });
    StreamHandle(handle)
}

/// Also when the task panics.
struct AtEnd(Option<OnEnd>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(on_end) = self.0.take() {
            on_end();
        }
    }
}

impl Command {
    async fn refuse(self, error: Error) {
        match self {
            Self::Work(_, _, reply) => reply(Err(error)).await,
            Self::Cursor(_, queue, reply) => {
                reply(Err(error)).await;
                queue.finish();
            }
        }
    }
}

/// Answers everything with the error that the connection could not be opened for.
async fn refuse_all(commands: &mut mpsc::UnboundedReceiver<Command>, error: Error) -> Error {
    while let Some(command) = commands.recv().await {
        if let Command::Work(Work::Close, _, reply) = command {
            reply(Ok(StreamResponse::Close)).await;
            break;
        }
        command.refuse(error.clone()).await;
    }
    error
}

struct Stream {
    connection: Box<dyn Connection>,
    limits: Arc<Limits>,
    cancelled: watch::Receiver<()>,
    /// The open transaction's kind and when it became that.
    began: Option<(Transaction, Instant)>,
    /// A stream whose transaction was ended for it executes nothing any more: what follows was
    /// meant to be inside.
    poisoned: Option<Error>,
}

impl Stream {
    /// Until closed, cancelled or idle for too long. Returns what later requests are told.
    async fn run(
        mut self,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        idle: Duration,
    ) -> Error {
        let mut last_used = Instant::now();
        loop {
            let transaction_end = self.transaction_end();
            tokio::select! {
                biased;
                _ = self.cancelled.changed() => return cancelled(),
                command = commands.recv() => {
                    let Some(command) = command else { return cancelled() };
                    match command {
                        Command::Work(Work::Close, _, reply) => {
                            self.connection.rollback().await;
                            drop(self);
                            reply(Ok(StreamResponse::Close)).await;
                            return Error::caller(codes::STREAM_CLOSED, "the stream is closed");
                        }
                        Command::Work(work, budget, reply) => {
                            let answer = self.work(work, budget).await;
                            reply(answer).await;
                        }
                        Command::Cursor(steps, queue, reply) => self.cursor(steps, &queue, reply).await,
                    }
                    last_used = Instant::now();
                }
                () = sleep_until(transaction_end.unwrap_or_else(Instant::now)),
                    if transaction_end.is_some() => self.time_out().await,
                () = sleep_until(last_used + idle) => return expired(),
            }
        }
    }

    async fn work(&mut self, work: Work, budget: Budget) -> Result<StreamResponse, Error> {
        if let Some(error) = &self.poisoned {
            return Err(error.clone());
        }
        match work {
            Work::Execute(step) => Ok(StreamResponse::Execute(self.collect(step, budget).await?.0)),
            Work::Batch(steps) => Ok(StreamResponse::Batch(self.batch(steps, budget).await?)),
            Work::Sequence(sql) => {
                let (call, deadline) = self.call(None);
                call.wait(deadline, |connection| connection.sequence(sql)).await?;
                Ok(StreamResponse::Sequence)
            }
            Work::Describe(sql) => {
                let (call, deadline) = self.call(None);
                let described = call.wait(deadline, |connection| connection.describe(sql)).await?;
                Ok(StreamResponse::Describe(described))
            }
            Work::GetAutocommit => Ok(StreamResponse::GetAutocommit(self.is_autocommit())),
            Work::Close => Ok(StreamResponse::Close),
        }
    }

    fn is_autocommit(&self) -> bool {
        self.connection.transaction() == Transaction::None
    }

    /// Executes a statement into a response.
    async fn collect(&mut self, step: Step, budget: Budget) -> Result<(StmtResult, Budget), Error> {
        let collected = Collected::new(budget);
        let rows = Rows::response(&collected, step.want_rows);
        let done = self.execute(step, rows, None).await?;
        let (cols, rows, left) = collected.take();
        Ok((StmtResult { cols, rows, done }, left))
    }

    async fn execute(
        &mut self,
        step: Step,
        rows: Rows,
        queue: Option<&Arc<CursorQueue>>,
    ) -> Result<Done, Error> {
        let (call, deadline) = self.call(queue);
        call.wait(deadline, |connection| connection.execute(step.statement, rows)).await
    }

    /// A batch that is a transaction from its first step to its commit, where each statement
    /// would be a message to another node: as one message. `None` if it is not such a one, or
    /// has to be executed step by step.
    async fn batch_together(
        &mut self,
        conditions: &[Option<BatchCond>],
        steps: &[Option<Step>],
    ) -> Result<Option<BatchResult>, Error> {
        if !self.is_autocommit() || !self.connection.is_far() {
            return Ok(None);
        }
        let run = BatchRun::new(conditions.to_vec(), &self.limits)?;
        let Some(inside) = transaction(run, steps) else { return Ok(None) };
        let (begin, commit) = (0, inside.len() + 1);
        let (call, deadline) = self.call(None);
        let done = call.wait(deadline, |connection| connection.together(inside)).await;
        let mut result = BatchResult {
            step_results: vec![None; steps.len()],
            step_errors: vec![None; steps.len()],
        };
        match done {
            Ok(None) => return Ok(None),
            Ok(Some(all)) => {
                let all = all.into_iter().map(|done| StmtResult { done, ..StmtResult::default() });
                let ends = || std::iter::once(StmtResult::default());
                let all = ends().chain(all).chain(ends());
                for (place, one) in result.step_results.iter_mut().zip(all) {
                    *place = Some(one);
                }
            }
            // Either nothing began, or nobody knows whether it was committed.
            Err(error) => {
                let at = if error.retry { begin } else { commit };
                result.step_errors[at] = Some(error);
            }
        }
        Ok(Some(result))
    }

    async fn batch(
        &mut self,
        steps: Vec<(Option<BatchCond>, Step)>,
        mut budget: Budget,
    ) -> Result<BatchResult, Error> {
        let (conditions, mut steps) = separate(steps);
        if let Some(result) = self.batch_together(&conditions, &steps).await? {
            return Ok(result);
        }
        let mut run = BatchRun::new(conditions, &self.limits)?;
        let mut result = BatchResult {
            step_results: vec![None; steps.len()],
            step_errors: vec![None; steps.len()],
        };
        while let Some(index) = run.next(self.is_autocommit()) {
            let Some(step) = steps[index].take() else { break };
            match self.collect(step, budget).await {
                Ok((done, left)) => {
                    budget = left;
                    result.step_results[index] = Some(done);
                    run.record(Outcome::Ok);
                }
                Err(error) => {
                    if let Some(fatal) = &self.poisoned {
                        return Err(fatal.clone());
                    }
                    result.step_errors[index] = Some(error);
                    run.record(Outcome::Error);
                }
            }
        }
        Ok(result)
    }

    async fn cursor(
        &mut self,
        steps: Vec<(Option<BatchCond>, Step)>,
        queue: &Arc<CursorQueue>,
        reply: Reply,
    ) {
        let (conditions, steps) = separate(steps);
        let ready = match &self.poisoned {
            Some(error) => Err(error.clone()),
            None => BatchRun::new(conditions, &self.limits),
        };
        match ready {
            Err(error) => {
                reply(Err(error)).await;
                queue.finish();
            }
            Ok(run) => {
                // What the reply says does not matter: it only tells that the batch begins.
                reply(Ok(StreamResponse::Sequence)).await;
                if let Err(error) = self.run_cursor(run, steps, queue).await {
                    queue.push(CursorEntry::Error(error));
                }
                queue.finish();
            }
        }
    }

    /// Fails if the batch cannot go on; a failed step is an entry.
    async fn run_cursor(
        &mut self,
        mut run: BatchRun,
        mut steps: Vec<Option<Step>>,
        queue: &Arc<CursorQueue>,
    ) -> Result<(), Error> {
        while let Some(index) = run.next(self.is_autocommit()) {
            let Some(step) = steps[index].take() else { break };
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let rows = Rows::cursor(queue, number, step.want_rows);
            match self.execute(step, rows, Some(queue)).await {
                Ok(done) => {
                    queue.push(CursorEntry::StepEnd(done));
                    run.record(Outcome::Ok);
                }
                Err(error) => {
                    if let Some(fatal) = &self.poisoned {
                        return Err(fatal.clone());
                    }
                    if error.code == codes::CURSOR_CLOSED || error.code == codes::CURSOR_STALLED {
                        return Err(error);
                    }
                    queue.push(CursorEntry::StepError { step: number, error });
                    run.record(Outcome::Error);
                }
            }
        }
        Ok(())
    }

    /// When the open transaction has to end.
    fn transaction_end(&self) -> Option<Instant> {
        let (kind, since) = self.began?;
        Some(since + self.patience(kind))
    }

    fn patience(&self, kind: Transaction) -> Duration {
        match kind {
            Transaction::Write => self.limits.write_transaction,
            Transaction::Read | Transaction::None => self.limits.read_transaction,
        }
    }

    async fn time_out(&mut self) {
        let kind = self.began.take().map_or(Transaction::Read, |(kind, _)| kind);
        self.connection.rollback().await;
        self.poisoned = Some(Error::caller(
            codes::TRANSACTION_TIMEOUT,
            format!(
                "the transaction was rolled back: it was open for more than {} ms",
                self.patience(kind).as_millis()
            ),
        ));
    }

    fn call<'a>(&'a mut self, queue: Option<&'a Arc<CursorQueue>>) -> (Call<'a>, Deadline) {
        let statement = Instant::now() + self.limits.statement;
        let deadline = match self.transaction_end() {
            Some(end) if end <= statement => Deadline::Transaction(end),
            _ => Deadline::Statement(statement),
        };
        (Call { stream: self, queue }, deadline)
    }

    /// Looks at the transaction after a call.
    fn settle(&mut self) {
        let kind = self.connection.transaction();
        self.began = match (kind, self.began) {
            (Transaction::None, _) => None,
            (kind, Some((before, since))) if kind == before => Some((kind, since)),
            (kind, _) => Some((kind, Instant::now())),
        };
    }
}

/// One call to the connection.
struct Call<'a> {
    stream: &'a mut Stream,
    queue: Option<&'a Arc<CursorQueue>>,
}

#[derive(Clone, Copy)]
enum Deadline {
    Statement(Instant),
    Transaction(Instant),
}

impl Call<'_> {
    /// Waits for the call's end, which the deadline or the client's leaving brings about.
    async fn wait<T>(
        self,
        deadline: Deadline,
        call: impl for<'c> FnOnce(&'c mut dyn Connection) -> crate::Answer<'c, T>,
    ) -> Result<T, Error> {
        let Self { stream, queue } = self;
        let interrupt = stream.connection.interrupt();
        let stop = |why: Error| {
            if let Some(queue) = queue {
                queue.stop(why);
            }
            interrupt();
        };
        let mut answer = call(&mut *stream.connection);
        let at = match deadline {
            Deadline::Statement(at) | Deadline::Transaction(at) => at,
        };
        let ended = tokio::select! {
            biased;
            answer = &mut answer => Ended::Itself(answer),
            () = sleep_until(at) => Ended::Late,
            _ = stream.cancelled.changed() => Ended::Left,
        };
        let result = match ended {
            Ended::Itself(result) => result,
            Ended::Left => {
                let _ = end(&mut answer, || stop(cancelled())).await;
                stream.poisoned = Some(cancelled());
                Err(cancelled())
            }
            Ended::Late => {
                let too_long = Error::caller(
                    codes::STATEMENT_TIMEOUT,
                    "the statement was interrupted: it ran for too long",
                );
                // It may have finished just in time.
                end(&mut answer, || stop(too_long.clone())).await.map_err(|_| too_long.clone())
            }
        };
        drop(answer);
        stream.settle();
        if result.is_err() && matches!(deadline, Deadline::Transaction(at) if at <= Instant::now())
        {
            stream.time_out().await;
            return Err(stream.poisoned.clone().unwrap_or_else(cancelled));
        }
        result
    }
}

/// Stops a call and waits for its end. An interrupt that comes just before the statement begins
/// has no effect, so it is repeated.
async fn end<T>(answer: &mut crate::Answer<'_, T>, stop: impl Fn()) -> Result<T, Error> {
    loop {
        stop();
        tokio::select! {
            answer = &mut *answer => return answer,
            () = tokio::time::sleep(INTERRUPT_AGAIN) => {}
        }
    }
}

enum Ended<T> {
    Itself(Result<T, Error>),
    Late,
    Left,
}

fn cancelled() -> Error {
    Error::caller(codes::CANCELLED, "the client left")
}

/// The statements between `BEGIN` and `COMMIT` of a batch which, if all goes well, is just that
/// transaction: as `@libsql/client` sends it.
fn transaction(run: BatchRun, steps: &[Option<Step>]) -> Option<Vec<Statement>> {
    let straight = run.straight(|step| step == 0)?;
    let ran: Option<Vec<_>> = steps.iter().take(straight).map(Option::as_ref).collect();
    let ran = ran?;
    let [begin, inside @ .., commit] = ran.as_slice() else { return None };
    let control = |step: &Step| Control::of(&step.statement.sql);
    let begins = matches!(control(begin), Some(Control::BeginWrite | Control::BeginDeferred));
    let whole = begins
        && control(commit) == Some(Control::Commit)
        && !inside.is_empty()
        && inside.iter().all(|step| control(step).is_none());
    whole.then(|| inside.iter().map(|step| step.statement.clone()).collect())
}

fn separate(steps: Vec<(Option<BatchCond>, Step)>) -> (Vec<Option<BatchCond>>, Vec<Option<Step>>) {
    steps.into_iter().map(|(condition, step)| (condition, Some(step))).unzip()
}
