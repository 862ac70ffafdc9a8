//! Whom a replica follows: the primary, or a relay, which is another replica that serves it.
//!
//! A relay is followed where the primary cannot be reached, or where it is preferred, so that the
//! primary sends once to a place with several nodes. Nobody has to agree on it: who is asked and
//! does not serve says goodbye, and what a relay serves says itself how old it is. So a circle of
//! relays, which two nodes can make of themselves for a moment, ages and comes apart.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::relay::RELAY_MAX_AGE;
use crate::{Moment, NodeId};

/// How long a replica bears what.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamConfig {
    /// A primary that is not linked for so long is looked for behind relays.
    pub patience: Duration,
    /// A relay that brought no news of the primary for so long is left.
    pub stale: Duration,
    /// A relay that refused, or was left, is not asked again for so long; doubles up to
    /// `rest_max` until it serves.
    pub rest: Duration,
    pub rest_max: Duration,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(1),
            stale: RELAY_MAX_AGE,
            rest: Duration::from_secs(2),
            rest_max: Duration::from_secs(64),
        }
    }
}

/// What a node sees around it.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// The primary, as far as is known.
    pub primary: NodeId,
    /// A relay to follow rather than the primary, as long as it serves.
    pub preferred: Option<NodeId>,
    /// The nodes that can be reached, the nearest first.
    pub linked: &'a [NodeId],
    /// The moment of which our data is at least (`Follow::as_of`).
    pub as_of: Option<Moment>,
}

/// The choice, and what was tried.
#[derive(Clone, Debug, Default)]
pub struct Upstream {
    config: UpstreamConfig,
    chosen: Option<(NodeId, Moment)>,
    /// Since when the primary is not linked.
    away: Option<(NodeId, Moment)>,
    /// Relays that did not serve: not to be asked before then, and how often in a row.
    resting: BTreeMap<NodeId, (Moment, u32)>,
}

impl Upstream {
    pub fn new(config: UpstreamConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Whom we follow.
    pub fn chosen(&self) -> Option<NodeId> {
        self.chosen.map(|(node, _)| node)
    }

    /// Nobody is followed: this node is the primary, or there is none.
    pub fn forget(&mut self) {
        self.chosen = None;
    }

    /// A node that we follow says goodbye.
    pub fn refused(&mut self, by: NodeId, now: Moment) {
        let times = self.resting.get(&by).map_or(0, |(_, times)| *times);
        let rest = self.config.rest * 2u32.saturating_pow(times.min(16));
        let until = now + rest.min(self.config.rest_max);
        self.resting.insert(by, (until, times.saturating_add(1)));
    }

    /// Whom to follow now; to be asked whenever something around has changed, and with every tick.
    pub fn choose(&mut self, around: &Around<'_>, now: Moment) -> NodeId {
        let primary = around.primary;
        if let Some((relay, since)) = self.chosen.filter(|(node, _)| *node != primary) {
            let news = around.as_of.filter(|as_of| *as_of > since);
            if now.since(news.unwrap_or(since)) >= self.config.stale {
                self.refused(relay, now);
            } else if news.is_some() && self.resting.get(&relay).is_some_and(|r| r.0 <= now) {
                self.resting.remove(&relay);
            }
        }
        let linked = |node: NodeId| around.linked.contains(&node);
        let rests = |node| self.resting.get(&node).is_some_and(|(until, _)| now < *until);
        let serves = |node| node != primary && linked(node) && !rests(node);
        let there = linked(primary);
        let since = self.away.filter(|(node, _)| *node == primary).map_or(now, |(_, since)| since);
        self.away = (!there).then_some((primary, since));
        let lost = !there && now.since(since) >= self.config.patience;
        let current = self.chosen().filter(|node| serves(*node));
        let node = match around.preferred.filter(|node| serves(*node)) {
            Some(preferred) => preferred,
            None if there => primary,
            None => current
                .or_else(|| around.linked.iter().copied().find(|node| lost && serves(*node)))
                .unwrap_or(primary),
        };
        if self.chosen() != Some(node) {
            self.chosen = Some((node, now));
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIMARY: NodeId = NodeId(1);
    const NEAR: NodeId = NodeId(2);
    const FAR: NodeId = NodeId(3);

    fn at(millis: u64) -> Moment {
        Moment(1_000_000 + millis * 1000)
    }

    fn around(linked: &[NodeId]) -> Around<'_> {
        Around { primary: PRIMARY, preferred: None, linked, as_of: None }
    }

    #[test]
    fn the_primary_is_followed_while_it_can_be_reached() {
        let mut upstream = Upstream::default();
        assert_eq!(upstream.choose(&around(&[NEAR, PRIMARY, FAR]), at(0)), PRIMARY);
        assert_eq!(upstream.choose(&around(&[NEAR, FAR]), at(100)), PRIMARY, "for a moment");
        assert_eq!(upstream.choose(&around(&[NEAR, FAR]), at(1099)), PRIMARY);
        assert_eq!(upstream.choose(&around(&[NEAR, FAR]), at(1100)), NEAR, "then the nearest");
        assert_eq!(upstream.choose(&around(&[FAR, NEAR]), at(1200)), NEAR, "and it stays that");
        assert_eq!(upstream.choose(&around(&[FAR, PRIMARY]), at(1300)), PRIMARY);
    }

    #[test]
    fn without_anybody_the_primary_is_tried_on() {
        let mut upstream = Upstream::default();
        assert_eq!(upstream.choose(&around(&[]), at(0)), PRIMARY);
        assert_eq!(upstream.choose(&around(&[]), at(60_000)), PRIMARY);
    }

    #[test]
    fn who_refuses_rests() {
        let mut upstream = Upstream::default();
        upstream.choose(&around(&[NEAR, FAR]), at(0));
        assert_eq!(upstream.choose(&around(&[NEAR, FAR]), at(1000)), NEAR);
        upstream.refused(NEAR, at(1100));
        assert_eq!(upstream.choose(&around(&[NEAR, FAR]), at(1100)), FAR);
        upstream.refused(FAR, at(1200));
        assert_eq!(upstream.choose(&around(&[NEAR, FAR]), at(1200)), PRIMARY);
        assert_eq!(upstream.choose(&around(&[NEAR, FAR]), at(3100)), NEAR, "asked again");
        upstream.refused(NEAR, at(3200));
        assert_eq!(upstream.choose(&around(&[NEAR]), at(7199)), PRIMARY, "later and later");
        assert_eq!(upstream.choose(&around(&[NEAR]), at(7200)), NEAR);
        // It serves: the next refusal is a first one.
        let served = Around { as_of: Some(at(7300)), ..around(&[NEAR]) };
        assert_eq!(upstream.choose(&served, at(7400)), NEAR);
        upstream.refused(NEAR, at(7500));
        assert_eq!(upstream.choose(&around(&[NEAR]), at(9500)), NEAR);
    }

    #[test]
    fn a_relay_without_news_is_left() {
        let mut upstream = Upstream::default();
        upstream.choose(&around(&[NEAR, FAR]), at(0));
        let with = |as_of: u64| Around { as_of: Some(at(as_of)), ..around(&[NEAR, FAR]) };
        assert_eq!(upstream.choose(&with(0), at(1000)), NEAR);
        assert_eq!(upstream.choose(&with(3000), at(5999)), NEAR);
        assert_eq!(upstream.choose(&with(3000), at(7999)), NEAR);
        assert_eq!(upstream.choose(&with(3000), at(8000)), FAR);
    }

    #[test]
    fn a_preferred_relay_goes_before_the_primary_while_it_serves() {
        let mut upstream = Upstream::default();
        let linked = [FAR, PRIMARY, NEAR];
        let around = Around { preferred: Some(NEAR), ..around(&linked) };
        assert_eq!(upstream.choose(&around, at(0)), NEAR);
        upstream.refused(NEAR, at(10));
        assert_eq!(upstream.choose(&around, at(10)), PRIMARY);
        assert_eq!(upstream.choose(&around, at(2010)), NEAR);
        // Without news, as when it follows us.
        assert_eq!(upstream.choose(&around, at(7010)), PRIMARY);
        let gone = Around { linked: &[FAR, PRIMARY], ..around };
        assert_eq!(upstream.choose(&gone, at(9500)), PRIMARY);
    }

    #[test]
    fn another_primary_is_another_patience() {
        let mut upstream = Upstream::default();
        upstream.choose(&around(&[FAR]), at(0));
        let other = Around { primary: NEAR, ..around(&[FAR]) };
        assert_eq!(upstream.choose(&other, at(5000)), NEAR);
        assert_eq!(upstream.choose(&other, at(6000)), FAR);
    }
}
