//! Batches: statements in order, each under a condition on what came before.
//!
//! [`BatchRun`] decides which step is next; it executes nothing.

use crate::{Col, Done, Error, Limits, Stmt, StmtResult, Value, codes};

/// A batch as a client sends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    pub steps: Vec<BatchStep>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BatchStep {
    pub condition: Option<BatchCond>,
    pub stmt: Stmt,
}

/// A condition on the steps before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchCond {
    /// That step ran and succeeded.
    Ok(u32),
    /// That step ran and failed.
    Error(u32),
    Not(Box<BatchCond>),
    And(Vec<BatchCond>),
    Or(Vec<BatchCond>),
    IsAutocommit,
}

/// The result of a batch: one entry a step; both `None` for a skipped one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchResult {
    pub step_results: Vec<Option<StmtResult>>,
    pub step_errors: Vec<Option<Error>>,
}

/// A piece of a batch's result, as a cursor hands it out.
#[derive(Clone, Debug, PartialEq)]
pub enum CursorEntry {
    StepBegin {
        step: u32,
        cols: Vec<Col>,
    },
    StepEnd(Done),
    StepError {
        step: u32,
        error: Error,
    },
    Row(Vec<Value>),
    /// The batch as a whole failed; always the last entry.
    Error(Error),
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Skipped,
    Ok,
    Error,
}

/// A batch in progress.
pub struct BatchRun {
    conditions: Vec<Option<BatchCond>>,
    outcomes: Vec<Outcome>,
}

impl BatchRun {
    /// Checks the conditions: each may name earlier steps only, and nest within the limits.
    pub fn new(conditions: Vec<Option<BatchCond>>, limits: &Limits) -> Result<Self, Error> {
        if conditions.len() > limits.batch_steps {
            return Err(Error::caller(
                codes::BATCH_LIMIT,
                format!("a batch may have {} steps", limits.batch_steps),
            ));
        }
        let mut nodes = 0;
        for (step, condition) in conditions.iter().enumerate() {
            if let Some(condition) = condition {
                check(condition, step, limits.condition_depth, &mut nodes)?;
                if nodes > limits.condition_nodes {
                    return Err(bad("the batch's conditions have too many parts".into()));
                }
            }
        }
        let outcomes = Vec::with_capacity(conditions.len());
        Ok(Self { conditions, outcomes })
    }

    /// The next step to execute; those whose condition is false are skipped.
    ///
    /// Each step that is returned must be [recorded](Self::record) before the next call.
    pub fn next(&mut self, is_autocommit: bool) -> Option<usize> {
        loop {
            let step = self.outcomes.len();
            let runs = match self.conditions.get(step)? {
                None => true,
                Some(condition) => self.holds(condition, is_autocommit),
            };
            if runs {
                return Some(step);
            }
            self.outcomes.push(Outcome::Skipped);
        }
    }

    /// Says how the step that [`Self::next`] returned ended.
    pub fn record(&mut self, outcome: Outcome) {
        debug_assert!(self.outcomes.len() < self.conditions.len());
        self.outcomes.push(outcome);
    }

    /// How many steps run one after the other, from the first on, if all of them succeed and
    /// `is_autocommit` says what each meets; `None` if one before the last of those is skipped.
    pub fn straight(mut self, is_autocommit: impl Fn(usize) -> bool) -> Option<usize> {
        for expected in 0.. {
            match self.next(is_autocommit(expected)) {
                Some(step) if step == expected => self.record(Outcome::Ok),
                Some(_) => return None,
                None => return Some(expected),
            }
        }
        None
    }

    fn holds(&self, condition: &BatchCond, is_autocommit: bool) -> bool {
        let was = |step: &u32, outcome| self.outcomes.get(*step as usize) == Some(&outcome);
        match condition {
            BatchCond::Ok(step) => was(step, Outcome::Ok),
            BatchCond::Error(step) => was(step, Outcome::Error),
            BatchCond::Not(condition) => !self.holds(condition, is_autocommit),
            BatchCond::And(all) => all.iter().all(|condition| self.holds(condition, is_autocommit)),
            BatchCond::Or(any) => any.iter().any(|condition| self.holds(condition, is_autocommit)),
            BatchCond::IsAutocommit => is_autocommit,
        }
    }
}

fn check(condition: &BatchCond, step: usize, depth: usize, nodes: &mut usize) -> Result<(), Error> {
    *nodes += 1;
    let depth =
        depth.checked_sub(1).ok_or_else(|| bad("a condition is nested too deeply".into()))?;
    match condition {
        BatchCond::Ok(named) | BatchCond::Error(named) if *named as usize >= step => Err(bad(
            format!("the condition of step {step} names step {named}, which is not before"),
        )),
        BatchCond::Ok(_) | BatchCond::Error(_) | BatchCond::IsAutocommit => Ok(()),
        BatchCond::Not(inner) => check(inner, step, depth, nodes),
        BatchCond::And(all) | BatchCond::Or(all) => {
            all.iter().try_for_each(|inner| check(inner, step, depth, nodes))
        }
    }
}

fn bad(message: String) -> Error {
    Error::caller(codes::BATCH_CONDITION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a batch whose steps end as `outcome` says; returns the steps that ran.
    fn run(conditions: Vec<Option<BatchCond>>, failing: &[usize], autocommit: bool) -> Vec<usize> {
        let mut batch = BatchRun::new(conditions, &Limits::default()).unwrap();
        let mut ran = Vec::new();
        while let Some(step) = batch.next(autocommit) {
            ran.push(step);
            batch.record(if failing.contains(&step) { Outcome::Error } else { Outcome::Ok });
        }
        ran
    }

    /// The shape that `@libsql/client` sends: begin, two statements, commit, else roll back.
    fn transaction() -> Vec<Option<BatchCond>> {
        vec![
            None,
            Some(BatchCond::Ok(0)),
            Some(BatchCond::Ok(1)),
            Some(BatchCond::Ok(2)),
            Some(BatchCond::Not(Box::new(BatchCond::Ok(3)))),
        ]
    }

    #[test]
    fn a_failed_step_leads_to_the_rollback() {
        assert_eq!(run(transaction(), &[], false), [0, 1, 2, 3]);
        assert_eq!(run(transaction(), &[1], false), [0, 1, 4]);
        assert_eq!(run(transaction(), &[0], true), [0, 4]);
        assert_eq!(run(transaction(), &[3], true), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_clients_transaction_runs_straight_up_to_its_commit() {
        let straight = |conditions| {
            BatchRun::new(conditions, &Limits::default()).unwrap().straight(|step| step == 0)
        };
        assert_eq!(straight(transaction()), Some(4), "all but the rollback");
        assert_eq!(straight(vec![None, None, None]), Some(3));
        assert_eq!(straight(vec![None, Some(BatchCond::Error(0)), None]), None, "one is skipped");
        let inside = Some(BatchCond::Not(Box::new(BatchCond::IsAutocommit)));
        assert_eq!(straight(vec![None, inside.clone(), inside]), Some(3));
    }

    #[test]
    fn a_skipped_step_is_neither_ok_nor_an_error() {
        let never = BatchCond::Or(vec![]);
        let of_skipped = BatchCond::Or(vec![BatchCond::Ok(0), BatchCond::Error(0)]);
        assert_eq!(run(vec![Some(never), Some(of_skipped), None], &[], true), [2]);
    }

    #[test]
    fn autocommit_is_asked_when_the_step_comes() {
        let conditions = vec![
            Some(BatchCond::IsAutocommit),
            Some(BatchCond::Not(Box::new(BatchCond::IsAutocommit))),
            Some(BatchCond::And(vec![])),
        ];
        assert_eq!(run(conditions.clone(), &[], true), [0, 2]);
        assert_eq!(run(conditions, &[], false), [1, 2]);
    }

    #[test]
    fn conditions_look_back_only_and_are_bounded() {
        let limits = Limits::default();
        let refused = |conditions| BatchRun::new(conditions, &limits).err().unwrap().code;
        assert_eq!(refused(vec![Some(BatchCond::Ok(0))]), codes::BATCH_CONDITION);
        assert_eq!(refused(vec![None, Some(BatchCond::Error(u32::MAX))]), codes::BATCH_CONDITION);
        let mut deep = BatchCond::IsAutocommit;
        for _ in 0..limits.condition_depth {
            deep = BatchCond::Not(Box::new(deep));
        }
        assert_eq!(refused(vec![Some(deep)]), codes::BATCH_CONDITION);
        let wide = BatchCond::And(vec![BatchCond::IsAutocommit; limits.condition_nodes]);
        assert_eq!(refused(vec![Some(wide)]), codes::BATCH_CONDITION);
        assert_eq!(refused(vec![None; limits.batch_steps + 1]), codes::BATCH_LIMIT);
    }
}
