//! What a node tells of its datasets: for `verge db list`, `info`, `lag`, and the live terminal.

use serde::{Deserialize, Serialize};
use verge_dataset::Role;
use verge_types::{Bookmark, DatasetId, Position};

use crate::error::Error;
use crate::inner::Inner;

/// What a node is for a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// Writes begin here, and its lease runs.
    Primary,
    Replica,
    /// Nobody used it here for a while; the next use wakes it.
    Asleep,
}

/// Whether its data can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Sound,
    /// Its history is not the primary's; a snapshot will take its place.
    Quarantined,
    /// Its log could not be made durable; it recovers by itself if it can.
    Failed,
}

/// A follower as whoever serves it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerStatus {
    pub node: String,
    pub pop: String,
    /// The last transaction group that it has durably.
    pub txid: u64,
    /// How many it lacks.
    pub behind: u64,
}

/// One dataset on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetStatus {
    pub dataset: String,
    pub node: String,
    pub pop: String,
    pub role: RoleName,
    pub health: Health,
    /// The primary's node and PoP, as far as this node knows.
    pub primary: Option<String>,
    pub primary_pop: Option<String>,
    /// The node that it follows instead of the primary, which it cannot reach, or which sends once
    /// to each PoP.
    #[serde(default)]
    pub relay: Option<String>,
    pub epoch: u64,
    pub txid: u64,
    pub bookmark: String,
    /// Rolling checksum of all pages at this position, as hexadecimal digits.
    pub checksum: String,
    /// An upper bound for how old the data is, milliseconds; 0 at the primary, `None` if unknown.
    pub lag_ms: Option<u64>,
    /// Transaction groups that the primary has and this node has not. Known in a fleet's view.
    pub behind: Option<u64>,
    /// Size of the database, bytes.
    pub bytes: u64,
    /// When its last transaction was committed at the primary, ms since 1970; 0 if none was.
    pub committed_ms: u64,
    /// Tails that are set aside here, to be looked at by somebody.
    pub set_aside: u64,
    /// Writes that wait here until the primary can be reached.
    #[serde(default)]
    pub waiting: u64,
    /// Those that this node serves: the primary's, or a relay's.
    pub followers: Vec<FollowerStatus>,
}

impl DatasetStatus {
    pub fn position(&self) -> Position {
        Position::new(self.epoch, self.txid)
    }
}

impl Inner {
    /// One dataset on this node. Opens its files if they are not open; wakes nobody.
    pub(crate) fn status_of(&self, id: &DatasetId) -> Result<DatasetStatus, Error> {
        let dataset = self.store.get(id).map_err(|error| match error {
            verge_dataset::Error::NotFound(id) => Error::NoDataset(id),
            error => error.into(),
        })?;
        let (position, checksum) = dataset.checksum();
        let desk = self.entry(id).map(|entry| entry.desk.clone());
        let standing = desk.as_ref().map(|desk| desk.standing().clone()).unwrap_or_default();
        let leads = desk.as_ref().is_some_and(|desk| desk.is_primary());
        let alone = self.transport.is_none();
        let role = if leads || (alone && matches!(dataset.role(), Role::Primary { .. })) {
            RoleName::Primary
        } else if standing.awake {
            RoleName::Replica
        } else {
            RoleName::Asleep
        };
        let health = if dataset.failure().is_some() {
            Health::Failed
        } else if standing.quarantined || dataset.role() == Role::Quarantined {
            Health::Quarantined
        } else {
            Health::Sound
        };
        let primary = standing.primary.or((role == RoleName::Primary).then_some(self.roster.me));
        let primary = primary.and_then(|node| self.roster.peer(node));
        let relay = standing.relay.and_then(|node| self.roster.peer(node));
        let followers = standing.followers.iter().filter_map(|(node, at)| {
            let peer = self.roster.peer(*node)?;
            Some(FollowerStatus {
                node: peer.node.to_string(),
                pop: peer.pop.as_str().to_owned(),
                txid: at.txid,
                behind: position.txid.saturating_sub(at.txid),
            })
        });
        let lag = if role == RoleName::Primary {
            Some(std::time::Duration::ZERO)
        } else {
            desk.as_ref().and_then(|desk| desk.staleness())
        };
        let set_aside = dataset.set_aside_tails().map_or(0, |tails| tails.len() as u64);
        Ok(DatasetStatus {
            dataset: id.to_string(),
            node: self.config.node.to_string(),
            pop: self.config.pop.as_str().to_owned(),
            role,
            health,
            primary: primary.as_ref().map(|peer| peer.node.to_string()),
            primary_pop: primary.as_ref().map(|peer| peer.pop.as_str().to_owned()),
            relay: relay.map(|peer| peer.node.to_string()),
            epoch: position.epoch,
            txid: position.txid,
            bookmark: Bookmark::new(id, position).to_string(),
            checksum: format!("{checksum:016x}"),
            lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            behind: (role == RoleName::Primary).then_some(0),
            bytes: dataset.size(),
            committed_ms: dataset.wall_ms(),
            set_aside,
            waiting: desk.as_ref().map_or(0, |desk| desk.queue.waiting() as u64),
            followers: followers.collect(),
        })
    }
}

impl DatasetStatus {
    /// Fills in how far each is behind its primary, of one dataset on several nodes.
    pub fn compare(all: &mut [Self]) {
        let of = all.iter().filter(|status| status.role == RoleName::Primary);
        let Some(tip) = of.map(|status| status.txid).max() else { return };
        for status in all {
            status.behind = Some(tip.saturating_sub(status.txid));
        }
    }
}
