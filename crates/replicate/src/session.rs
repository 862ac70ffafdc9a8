//! What a read may be answered from, and whether a write may run: the client's bookmarks against
//! what this node has.
//!
//! Never stale in silence: a read that this node cannot answer truly waits, goes to the primary,
//! or is refused by name. Only a primary whose lease runs says that a bookmark is lost or forged;
//! a replica may itself be the one that is on a dead branch.

use std::time::Duration;

use verge_types::Position;

use crate::{Coverage, Lineage};

/// How fresh a read must be, beyond its bookmark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    #[default]
    Any,
    /// No older than this.
    Within(Duration),
    /// All that was acknowledged before the read began, and nothing that a failover could undo.
    Strong,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    /// Of this dataset; the foreign ones were refused when they were parsed.
    pub bookmark: Option<Position>,
    pub freshness: Freshness,
    /// Another node sent the request here because it takes us for the primary: it goes no further.
    pub forwarded: bool,
    /// How long it waited here already.
    pub waited: Duration,
}

/// What this node is to the dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `settled`: what the ack mode has settled, see `Shipper::settled`. Only while
    /// `Lease::valid_epoch` says so; with the lease run out it is a replica.
    Primary {
        settled: Option<Position>,
    },
    Replica,
    /// Its data may not be used.
    Quarantined,
}

/// What this node has.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub role: Role,
    pub lineage: &'a Lineage,
    /// What a read that begins now would see.
    pub txid: u64,
    /// `Follow::staleness`.
    pub staleness: Option<Duration>,
    /// A primary is known and its link is up.
    pub primary_reachable: bool,
}

/// What a wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The data covers this position.
    Covers(Position),
    /// `settled` reaches this.
    Settled(Position),
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer here. A strong read checks its lease again once its snapshot is taken.
    Serve,
    /// Decide again when that holds or after `at_most`, with `waited` brought up to date.
    Wait {
        until: Until,
        at_most: Duration,
    },
    /// Send it to the primary.
    Forward,
    Refuse(Refusal),
}

/// Why a request is refused; each says whom to blame and whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 409, the platform. A failover or a restore cut off what the client saw. A retry does not
    /// help; a new session does, and its user should be told.
    #[error("what this session has seen was lost when another primary took over")]
    BookmarkLost,
    /// 400, the caller. The primary never reached that position.
    #[error("the bookmark is not one that this database has given out")]
    BookmarkFuture,
    /// 503 with Retry-After, the platform.
    #[error("the database's primary cannot be reached, and this node's copy is not new enough")]
    Unavailable,
    /// 503 with Retry-After, the platform.
    #[error("this node's copy is older than the request allows, or its age is not known")]
    TooStale,
}

/// How long a read waits for its replica before it goes to the primary.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    pub wait: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { wait: Duration::from_millis(500) }
    }
}

/// Where a read goes.
pub fn decide_read(need: &Need, view: &View<'_>, limits: SessionLimits) -> Decision {
    let coverage = need.bookmark.map_or(Coverage::Covered, |at| view.lineage.covers(at, view.txid));
    if let Role::Primary { settled } = view.role {
        return match coverage {
            Coverage::Lost => Decision::Refuse(Refusal::BookmarkLost),
            Coverage::NotYet => Decision::Refuse(Refusal::BookmarkFuture),
            Coverage::Covered if need.freshness != Freshness::Strong => Decision::Serve,
            Coverage::Covered => {
                let seen = view.lineage.rank(view.txid);
                if settled >= Some(seen) {
                    Decision::Serve
                } else {
                    wait_or(Until::Settled(seen), need, limits, || {
                        Decision::Refuse(Refusal::Unavailable)
                    })
                }
            }
        };
    }
    let elsewhere = |otherwise: Refusal| {
        if view.primary_reachable && !need.forwarded {
            Decision::Forward
        } else {
            Decision::Refuse(otherwise)
        }
    };
    if view.role == Role::Quarantined || need.freshness == Freshness::Strong {
        return elsewhere(Refusal::Unavailable);
    }
    match (coverage, need.bookmark) {
        (Coverage::NotYet, Some(at)) => {
            wait_or(Until::Covers(at), need, limits, || elsewhere(Refusal::Unavailable))
        }
        (Coverage::Covered, _) => match need.freshness {
            Freshness::Within(bound) if view.staleness.is_none_or(|age| age > bound) => {
                elsewhere(Refusal::TooStale)
            }
            _ => Decision::Serve,
        },
        _ => elsewhere(Refusal::Unavailable),
    }
}

/// Where a write goes; `Serve` means: run it here. To be asked again by the writer when the
/// write's turn comes: while it waited, a restore may have changed the history under it.
pub fn decide_write(need: &Need, view: &View<'_>) -> Decision {
    match view.role {
        Role::Primary { .. } => {
            match need.bookmark.map_or(Coverage::Covered, |at| view.lineage.covers(at, view.txid)) {
                Coverage::Covered => Decision::Serve,
                Coverage::Lost => Decision::Refuse(Refusal::BookmarkLost),
                Coverage::NotYet => Decision::Refuse(Refusal::BookmarkFuture),
            }
        }
        _ if view.primary_reachable && !need.forwarded => Decision::Forward,
        _ => Decision::Refuse(Refusal::Unavailable),
    }
}

fn wait_or(
    until: Until,
    need: &Need,
    limits: SessionLimits,
    otherwise: impl FnOnce() -> Decision,
) -> Decision {
    let left = limits.wait.saturating_sub(need.waited);
    if left.is_zero() { otherwise() } else { Decision::Wait { until, at_most: left } }
}

/// What a client has seen of one dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    seen: Option<Position>,
}

impl Session {
    /// From the bookmark that the client brought.
    pub fn from_bookmark(position: Option<Position>) -> Self {
        Self { seen: position }
    }

    /// The position that the next read or write must cover.
    pub fn bookmark(&self) -> Option<Position> {
        self.seen
    }

    /// A read saw, or a write was committed at, `position`.
    pub fn observe(&mut self, position: Position) {
        self.seen = self.seen.max(Some(position));
    }

    /// The client was told that its history was lost, and begins anew.
    pub fn restart(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage() -> Lineage {
        let mut lineage = Lineage::default();
        lineage.begin(1, 0).unwrap();
        lineage.begin(2, 7).unwrap();
        lineage
    }

    fn read(role: Role, need: Need, reachable: bool) -> Decision {
        let lineage = lineage();
        let view = View {
            role,
            lineage: &lineage,
            txid: 8,
            staleness: Some(Duration::from_secs(2)),
            primary_reachable: reachable,
        };
        decide_read(&need, &view, SessionLimits::default())
    }

    fn at(epoch: u64, txid: u64) -> Need {
        Need { bookmark: Some(Position::new(epoch, txid)), ..Need::default() }
    }

    #[test]
    fn a_covered_read_is_local_even_when_all_else_is_gone() {
        assert_eq!(read(Role::Replica, at(1, 7), false), Decision::Serve);
        assert_eq!(read(Role::Replica, Need::default(), false), Decision::Serve);
    }

    #[test]
    fn a_read_ahead_of_the_replica_waits_then_forwards_then_is_refused() {
        let need = at(2, 9);
        let Decision::Wait { until, at_most } = read(Role::Replica, need, true) else { panic!() };
        assert_eq!(until, Until::Covers(Position::new(2, 9)));
        let need = Need { waited: at_most, ..need };
        assert_eq!(read(Role::Replica, need, true), Decision::Forward);
        assert_eq!(read(Role::Replica, need, false), Decision::Refuse(Refusal::Unavailable));
        let need = Need { forwarded: true, ..need };
        assert_eq!(read(Role::Replica, need, true), Decision::Refuse(Refusal::Unavailable));
    }

    #[test]
    fn only_a_primary_says_that_a_bookmark_is_lost_or_forged() {
        let settled = Some(Position::new(2, 8));
        let primary = Role::Primary { settled };
        assert_eq!(read(primary, at(1, 9), true), Decision::Refuse(Refusal::BookmarkLost));
        assert_eq!(read(primary, at(2, 9), true), Decision::Refuse(Refusal::BookmarkFuture));
        assert_eq!(read(primary, at(3, 9), true), Decision::Refuse(Refusal::BookmarkFuture));
        assert_eq!(read(Role::Replica, at(1, 9), true), Decision::Forward);
        assert_eq!(read(Role::Replica, at(1, 9), false), Decision::Refuse(Refusal::Unavailable));
    }

    #[test]
    fn strong_reads_are_the_primarys_and_wait_until_settled() {
        let need = Need { freshness: Freshness::Strong, ..Need::default() };
        assert_eq!(read(Role::Replica, need, true), Decision::Forward);
        assert_eq!(read(Role::Replica, need, false), Decision::Refuse(Refusal::Unavailable));
        let settled = Some(Position::new(2, 8));
        assert_eq!(read(Role::Primary { settled }, need, true), Decision::Serve);
        let settled = Some(Position::new(2, 7));
        assert!(matches!(
            read(Role::Primary { settled }, need, true),
            Decision::Wait { until: Until::Settled(_), .. }
        ));
    }

    #[test]
    fn a_bound_on_staleness_is_kept_or_refused() {
        let within = |secs| Need {
            freshness: Freshness::Within(Duration::from_secs(secs)),
            ..Need::default()
        };
        assert_eq!(read(Role::Replica, within(2), false), Decision::Serve);
        assert_eq!(read(Role::Replica, within(1), true), Decision::Forward);
        assert_eq!(read(Role::Replica, within(1), false), Decision::Refuse(Refusal::TooStale));
    }

    #[test]
    fn quarantined_data_is_not_read() {
        assert_eq!(read(Role::Quarantined, Need::default(), true), Decision::Forward);
        assert_eq!(
            read(Role::Quarantined, Need::default(), false),
            Decision::Refuse(Refusal::Unavailable)
        );
    }

    #[test]
    fn writes_follow_what_their_session_read() {
        let lineage = lineage();
        let view = |role| View {
            role,
            lineage: &lineage,
            txid: 8,
            staleness: None,
            primary_reachable: true,
        };
        let primary = view(Role::Primary { settled: None });
        assert_eq!(decide_write(&at(1, 7), &primary), Decision::Serve);
        assert_eq!(decide_write(&at(1, 8), &primary), Decision::Refuse(Refusal::BookmarkLost));
        assert_eq!(decide_write(&at(1, 7), &view(Role::Replica)), Decision::Forward);
    }
}
