//! Whether the copies of a dataset hold, and are copies of each other.

use tokio::task::spawn_blocking;
use verge_types::{Bookmark, DatasetId};

use super::{Command, Verified};
use crate::error::{Code, Error};
use crate::node::Node;

impl Node {
    /// Reads all copies that can be reached through, and compares those that stand at the same
    /// position. Nodes without a copy are left out.
    pub async fn verify(&self, id: &DatasetId) -> Result<Vec<Verified>, Error> {
        let mut all = Vec::new();
        if self.status_of(id).is_ok() {
            all.push(self.verify_here(id).await?);
        }
        let command = Command::VerifyHere { dataset: id.to_string() };
        for (_, peer) in self.inner.roster.others() {
            match self.ask(&peer, &command).await.map(serde_json::from_value::<Verified>) {
                Ok(Ok(verified)) => all.push(verified),
                Ok(Err(error)) => all.push(failed(&peer, true, &error.to_string())),
                Err(error) if error.code() == Code::NoDataset => {}
                Err(error) => {
                    let reached = !matches!(error, Error::Fabric(_));
                    all.push(failed(&peer, reached, &error.to_string()));
                }
            }
        }
        Verified::compare(&mut all);
        Ok(all)
    }

    /// Reads this node's copy through.
    pub async fn verify_here(&self, id: &DatasetId) -> Result<Verified, Error> {
        let status = self.status_of(id)?;
        let dataset = self.inner.store.get(id)?;
        let read = dataset.verify().await;
        let whole = dataset.clone();
        let checked = spawn_blocking(move || {
            let segments = whole.verify_log().map_err(|error| error.to_string())?;
            let reader = whole.reader().map_err(|error| error.to_string())?;
            let found: Result<String, _> =
                reader.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
            match found {
                Ok(found) if found == "ok" => Ok(segments),
                Ok(found) => Err(format!("SQLite finds it damaged: {found}")),
                Err(error) => Err(format!("SQLite cannot check it: {error}")),
            }
        });
        let checked: Result<u64, String> = checked.await.map_err(|_| Error::ShuttingDown)?;
        // What it verified may lie a little behind by now; the pair below belongs together.
        let (position, checksum) = dataset.checksum();
        Ok(Verified {
            node: status.node,
            pop: status.pop,
            reached: true,
            bookmark: Bookmark::new(id, position).to_string(),
            epoch: position.epoch,
            txid: position.txid,
            checksum: format!("{checksum:016x}"),
            pages_agree: read.is_ok(),
            file_is_sound: checked.is_ok(),
            log_segments: *checked.as_ref().unwrap_or(&0),
            copies_agree: None,
            error: read.err().map(|error| error.to_string()).or(checked.err()),
        })
    }
}

impl Verified {
    /// Says of each copy whether those at the same position have its checksum.
    pub fn compare(all: &mut [Self]) {
        let at = |v: &Self| (v.epoch, v.txid);
        for index in 0..all.len() {
            let others = all.iter().enumerate().filter(|(other, v)| {
                *other != index && v.error.is_none() && at(v) == at(&all[index])
            });
            let agree: Vec<bool> = others.map(|(_, v)| v.checksum == all[index].checksum).collect();
            all[index].copies_agree =
                (!agree.is_empty() && all[index].error.is_none()).then(|| agree.iter().all(|a| *a));
        }
    }
}

fn failed(peer: &verge_fabric::Peer, reached: bool, error: &str) -> Verified {
    Verified {
        node: peer.node.to_string(),
        pop: peer.pop.as_str().to_owned(),
        reached,
        bookmark: String::new(),
        epoch: 0,
        txid: 0,
        checksum: String::new(),
        pages_agree: false,
        file_is_sound: false,
        log_segments: 0,
        copies_agree: None,
        error: Some(error.to_owned()),
    }
}
