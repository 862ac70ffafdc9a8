//! Which epochs a history is made of, and so whether a position survived into it.
//!
//! A position alone cannot say that: after a failover 2/8 is greater than 1/9, yet 1/9 may be
//! in a tail that was cut off. A lineage holds where each epoch began, so it can.
//!
//! Always: epochs rise strictly, bases never fall, and the history up to `base` is the one that
//! the entries before describe. A node takes an entry into its own lineage only when its data
//! reaches the entry's base: then it has all that the epoch's primary began with. That makes
//! `rank` comparable in elections, as a no-op entry at the head of a term would.

use verge_types::{Coverage, Position};

/// Epochs that a lineage remembers; a change of primary every minute fills it in 17 hours, and
/// bookmarks older than that are answered as lost.
pub const MAX_TERMS: usize = 1024;

/// One primary's time in office.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub epoch: u64,
    /// The last transaction of the history it took over; its own begin one later.
    pub base: u64,
}

/// The epochs of a history, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    terms: Vec<Term>,
}

/// Terms out of order, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a lineage's epochs must rise, its bases must not fall, and it has at most {MAX_TERMS}")]
pub struct BadLineage;

impl Lineage {
    /// A lineage from outside.
    pub fn from_terms(terms: Vec<Term>) -> Result<Self, BadLineage> {
        let ordered = terms.windows(2).all(|w| w[0].epoch < w[1].epoch && w[0].base <= w[1].base);
        if ordered && terms.len() <= MAX_TERMS { Ok(Self { terms }) } else { Err(BadLineage) }
    }

    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The newest epoch whose start this history has reached; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.terms.last().map_or(0, |term| term.epoch)
    }

    /// The position to compare candidates by: of two histories the greater has every write that
    /// was acknowledged by both holders' consent.
    pub fn rank(&self, txid: u64) -> Position {
        Position::new(self.epoch(), txid)
    }

    /// The epoch that wrote transaction `txid`, if it is still remembered.
    pub fn epoch_of(&self, txid: u64) -> Option<u64> {
        self.terms.iter().rev().find(|term| term.base < txid).map(|term| term.epoch)
    }

    /// The position of transaction `txid` as its segment names it; 0/0 for the empty history.
    pub fn position(&self, txid: u64) -> Position {
        Position::new(self.epoch_of(txid).unwrap_or(0), txid)
    }

    /// Begins an epoch after `base`. A base within the past (a restore) cuts off what lay beyond
    /// it. Refuses an epoch that is not newer.
    pub fn begin(&mut self, epoch: u64, base: u64) -> Result<(), BadLineage> {
        if epoch <= self.epoch() {
            return Err(BadLineage);
        }
        for term in &mut self.terms {
            term.base = term.base.min(base);
        }
        self.terms.push(Term { epoch, base });
        if self.terms.len() > MAX_TERMS {
            self.terms.remove(0);
        }
        Ok(())
    }

    /// The part of this lineage that a history has which agrees with it up to `txid`.
    #[must_use]
    pub fn up_to(&self, txid: u64) -> Self {
        Self { terms: self.terms.iter().copied().filter(|term| term.base <= txid).collect() }
    }

    /// The last transaction that this history (ending at `txid`) shares with `other` (ending at
    /// `other_txid`); what either has beyond it is its own.
    pub fn fork(&self, txid: u64, other: &Self, other_txid: u64) -> u64 {
        let end = |terms: &[Term], index: usize, txid: u64| {
            terms.get(index + 1).map_or(txid, |next| next.base.min(txid))
        };
        let mut common = 0;
        let mut at = 0;
        for (index, term) in self.terms.iter().enumerate() {
            // An epoch that the other does not know wrote nothing that it has, unless nothing.
            let Some(found) = other.terms[at..].iter().position(|t| t.epoch == term.epoch) else {
                if end(&self.terms, index, txid) > term.base {
                    break;
                }
                continue;
            };
            at += found;
            let (ours, theirs) = (end(&self.terms, index, txid), end(&other.terms, at, other_txid));
            if other.terms[at].base != term.base {
                break;
            }
            common = ours.min(theirs);
            if ours != theirs {
                break;
            }
        }
        common.min(txid).min(other_txid)
    }

    /// Whether a history with this lineage that stands at `txid` has `position` in it.
    pub fn covers(&self, position: Position, txid: u64) -> Coverage {
        if position.txid == 0 {
            return Coverage::Covered;
        }
        if position.epoch > self.epoch() {
            return Coverage::NotYet;
        }
        if !self.terms.iter().any(|term| term.epoch == position.epoch) {
            return Coverage::Lost;
        }
        let next = self.terms.iter().find(|term| term.epoch > position.epoch);
        if next.is_some_and(|next| position.txid > next.base) {
            return Coverage::Lost;
        }
        if position.txid > txid {
            return Coverage::NotYet;
        }
        if self.epoch_of(position.txid) == Some(position.epoch) {
            Coverage::Covered
        } else {
            Coverage::Lost
        }
    }
}

/// Of terms, each its epoch and its base.
#[cfg(test)]
pub(crate) fn lineage(terms: &[(u64, u64)]) -> Lineage {
    let terms = terms.iter().map(|&(epoch, base)| Term { epoch, base }).collect();
    Lineage::from_terms(terms).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_tail_is_lost_though_its_position_is_smaller() {
        let history = lineage(&[(1, 0), (2, 7)]);
        assert_eq!(history.covers(Position::new(1, 7), 8), Coverage::Covered);
        assert_eq!(history.covers(Position::new(1, 9), 12), Coverage::Lost);
        assert_eq!(history.covers(Position::new(2, 8), 8), Coverage::Covered);
        assert_eq!(history.covers(Position::new(2, 9), 8), Coverage::NotYet);
        assert_eq!(history.covers(Position::new(3, 1), 8), Coverage::NotYet);
        assert_eq!(history.covers(Position::new(0, 0), 0), Coverage::Covered);
    }

    #[test]
    fn an_epoch_that_left_nothing_behind_is_lost() {
        let history = lineage(&[(1, 0), (3, 7)]);
        assert_eq!(history.covers(Position::new(2, 8), 9), Coverage::Lost);
        assert_eq!(history.epoch_of(7), Some(1));
        assert_eq!(history.epoch_of(8), Some(3));
        assert_eq!(history.rank(7), Position::new(3, 7));
        assert_eq!(history.position(7), Position::new(1, 7));
    }

    #[test]
    fn a_restore_cuts_the_past() {
        let mut history = lineage(&[(1, 0), (2, 7)]);
        history.begin(3, 5).unwrap();
        assert_eq!(history.covers(Position::new(1, 5), 6), Coverage::Covered);
        assert_eq!(history.covers(Position::new(1, 6), 6), Coverage::Lost);
        assert_eq!(history.covers(Position::new(2, 8), 9), Coverage::Lost);
        assert_eq!(history.covers(Position::new(3, 6), 6), Coverage::Covered);
        assert!(history.begin(3, 9).is_err());
    }

    #[test]
    fn where_two_histories_part() {
        let ours = lineage(&[(1, 0), (2, 7)]);
        assert_eq!(lineage(&[(1, 0)]).fork(9, &ours, 12), 7, "an old primary's tail");
        assert_eq!(lineage(&[(1, 0)]).fork(4, &ours, 12), 4, "merely behind");
        assert_eq!(ours.fork(14, &ours, 12), 12, "ahead");
        assert_eq!(lineage(&[(1, 0), (2, 5)]).fork(8, &lineage(&[(1, 0), (3, 7)]), 9), 5);
        assert_eq!(lineage(&[(1, 0), (2, 7)]).fork(7, &lineage(&[(1, 0), (3, 9)]), 9), 7);
        assert_eq!(Lineage::default().fork(0, &ours, 12), 0);
    }

    #[test]
    fn an_entry_counts_once_its_base_is_reached() {
        let theirs = lineage(&[(1, 0), (2, 7)]);
        assert_eq!(theirs.up_to(6).epoch(), 1);
        assert_eq!(theirs.up_to(7).epoch(), 2);
    }

    #[test]
    fn old_terms_fall_off() {
        let mut history = Lineage::default();
        for epoch in 1..=(MAX_TERMS as u64 + 5) {
            history.begin(epoch, epoch).unwrap();
        }
        assert_eq!(history.terms().len(), MAX_TERMS);
        assert_eq!(history.covers(Position::new(2, 3), 2000), Coverage::Lost);
    }

    #[test]
    fn disorder_is_refused() {
        for terms in [vec![(2, 0), (1, 5)], vec![(1, 5), (2, 4)], vec![(1, 0), (1, 0)]] {
            let terms = terms.into_iter().map(|(epoch, base)| Term { epoch, base }).collect();
            assert_eq!(Lineage::from_terms(terms), Err(BadLineage));
        }
    }
}
