//! When a group of transactions may be acknowledged, and whether an election has heard enough
//! that nothing acknowledged can be lost by it. The two are one thought: each set that may have
//! consented to an acknowledgement must meet each set that may elect.

use std::collections::BTreeSet;

use verge_types::Position;

use crate::NodeId;

/// What must hold a write before its client hears of it. In each mode the primary's own log does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AckMode {
    /// The primary's log alone. Survives its crash and power loss; a failover may cut it off,
    /// and then it lies in quarantine on the old primary.
    #[default]
    Local,
    /// One voter beside the primary. Survives the loss of the primary's disk.
    Follower,
    /// A majority of voters, the primary counted.
    Quorum,
}

/// What an election does when it has not heard from enough voters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Failover {
    /// Waits: never loses an acknowledged write, may leave the dataset without a primary.
    #[default]
    OnlySafe,
    /// After its patience, the best of those it heard from. With `local` nothing else is possible.
    AfterPatience,
}

/// The newest position that may be acknowledged, given the primary's durable `tip` (as a rank of
/// its own epoch) and what each voter acknowledged **in that epoch**. `voters` counts the primary.
pub fn settled(
    mode: AckMode,
    tip: Position,
    voters: usize,
    acknowledged: impl IntoIterator<Item = Position>,
) -> Option<Position> {
    let mut held: Vec<Position> = acknowledged
        .into_iter()
        .filter(|rank| rank.epoch == tip.epoch)
        .map(|r| r.min(tip))
        .collect();
    held.sort_unstable_by(|a, b| b.cmp(a));
    let others = match mode {
        AckMode::Local => return Some(tip),
        AckMode::Follower => 1,
        AckMode::Quorum => voters / 2,
    };
    match others {
        0 => Some(tip),
        n => held.get(n - 1).copied(),
    }
}

/// Whether every set that may have consented to an acknowledgement of `primary` has a member in
/// `heard`. `voters` and `heard` count the candidate itself.
pub fn election_is_safe(
    mode: AckMode,
    voters: &BTreeSet<NodeId>,
    primary: Option<NodeId>,
    heard: &BTreeSet<NodeId>,
) -> bool {
    // The primary's own log is in every consenting set.
    if primary.is_none_or(|primary| heard.contains(&primary)) {
        return true;
    }
    let heard = heard.intersection(voters).count();
    match mode {
        AckMode::Local => false,
        AckMode::Follower => {
            let others = voters.iter().filter(|voter| Some(**voter) != primary).count();
            heard == others
        }
        // A majority consented: those not heard of must be fewer. (That only one is elected is the
        // register's care, so an even number needs but half.)
        AckMode::Quorum => heard >= voters.len() - voters.len() / 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, txid: u64) -> Position {
        Position::new(epoch, txid)
    }

    #[test]
    fn modes_ask_for_one_a_second_and_a_majority() {
        let acks = [at(2, 3), at(2, 5), at(2, 4), at(1, 9)];
        assert_eq!(settled(AckMode::Local, at(2, 6), 5, acks), Some(at(2, 6)));
        assert_eq!(settled(AckMode::Follower, at(2, 6), 5, acks), Some(at(2, 5)));
        assert_eq!(settled(AckMode::Quorum, at(2, 6), 5, acks), Some(at(2, 4)));
        assert_eq!(settled(AckMode::Quorum, at(2, 6), 2, []), None);
        assert_eq!(settled(AckMode::Quorum, at(2, 6), 1, []), Some(at(2, 6)));
        assert_eq!(settled(AckMode::Follower, at(2, 6), 1, []), None);
    }

    #[test]
    fn consent_of_another_epoch_does_not_count() {
        assert_eq!(settled(AckMode::Quorum, at(3, 6), 3, [at(2, 6), at(2, 7)]), None);
    }

    /// By trying all sets: an election that is called safe meets each set that could have
    /// consented, except when the old primary itself is the only one that could.
    #[test]
    fn safe_elections_meet_every_consenting_set() {
        for size in 1..=5u64 {
            let voters: BTreeSet<NodeId> = (0..size).map(NodeId).collect();
            for mode in [AckMode::Local, AckMode::Follower, AckMode::Quorum] {
                for heard_bits in 0..1u64 << size {
                    let heard: BTreeSet<NodeId> =
                        (0..size).filter(|n| heard_bits >> n & 1 == 1).map(NodeId).collect();
                    let safe = election_is_safe(mode, &voters, Some(NodeId(0)), &heard);
                    for consent_bits in 0..1u64 << size {
                        // The primary is node 0 and always holds what it acknowledges.
                        let others = (consent_bits & !1).count_ones() as usize;
                        let acks = vec![at(1, 1); others];
                        let consents = consent_bits & 1 == 1
                            && settled(mode, at(1, 1), voters.len(), acks).is_some();
                        if safe && consents {
                            assert_ne!(heard_bits & consent_bits, 0, "{mode:?} of {size}");
                        }
                    }
                }
            }
        }
    }
}
