//! States of before: found, brought back, branched off.

use tokio::task::spawn_blocking;
use verge_dataset::Target;
use verge_services::sql::Home;
use verge_types::{Bookmark, DatasetId, Position};

use super::run::command_error;
use super::{Located, State};
use crate::error::Error;
use crate::node::Node;

impl Node {
    /// Finds a state in the history that is kept here.
    pub(super) async fn locate(
        &self,
        id: &DatasetId,
        target: Option<Target>,
    ) -> Result<Located, Error> {
        let store = self.inner.store.clone();
        let dataset = id.clone();
        let located = spawn_blocking(move || {
            let (now, wall_ms) = store.get(&dataset).map(|d| (d.position(), d.wall_ms()))?;
            let target = target.unwrap_or(Target::Position(now));
            let (oldest, target) = store.locate(&dataset, target)?;
            let state = |position: Position, time_ms| State {
                bookmark: Bookmark::new(&dataset, position).to_string(),
                time_ms,
                txid: position.txid,
            };
            Ok::<_, verge_dataset::Error>(Located {
                oldest: state(oldest.position, oldest.wall_ms),
                target: state(target.position, target.wall_ms),
                now: state(now, wall_ms),
            })
        });
        Ok(located.await.map_err(|_| Error::ShuttingDown)??)
    }

    /// A new dataset from another's state on this node. In a fleet this node offers it for
    /// election with its data.
    pub async fn branch(
        &self,
        from: &DatasetId,
        to: &DatasetId,
        target: Option<Target>,
    ) -> Result<(), Error> {
        self.existing(from).await?;
        self.inner.store.branch(from, to, target).await?;
        self.existing(to).await?;
        Ok(())
    }

    /// Brings an older state back, as a new transaction. Only where the primary is.
    pub async fn restore(&self, id: &DatasetId, target: Target) -> Result<Bookmark, Error> {
        let database = self.existing(id).await?;
        if !database.home().is_primary() {
            let why = "a restore runs where the primary is; move the primary or ask its node";
            return Err(Error::Command(why.to_owned()));
        }
        let position = self.inner.store.restore(id, target).await?;
        Ok(Bookmark::new(id, position))
    }
}

pub(super) fn target(
    id: &DatasetId,
    bookmark: Option<&str>,
    time_ms: Option<u64>,
) -> Result<Option<Target>, Error> {
    match (bookmark, time_ms) {
        (None, None) => Ok(None),
        (None, Some(time)) => Ok(Some(Target::Time(time))),
        (Some(bookmark), None) => {
            let bookmark: Bookmark = bookmark.parse().map_err(command_error)?;
            let position = bookmark.position_in(id);
            let foreign = || Error::Command("the bookmark is another dataset's".to_owned());
            Ok(Some(Target::Position(position.ok_or_else(foreign)?)))
        }
        (Some(_), Some(_)) => Err(Error::Command("a bookmark or a time, not both".to_owned())),
    }
}
