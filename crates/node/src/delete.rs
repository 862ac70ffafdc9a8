//! The end of a dataset: here, or everywhere.

use tokio::task::spawn_blocking;
use verge_types::DatasetId;

use crate::control::Command;
use crate::error::{Code, Error};
use crate::inner::LOOK_EVERY;
use crate::node::{CLOSE_PATIENCE, Node};

impl Node {
    /// Removes a dataset from all nodes, and from the register: the nodes that had a copy.
    ///
    /// # Errors
    /// Nothing is removed if a node cannot be reached: its copy would bring the dataset back.
    pub async fn delete_everywhere(&self, id: &DatasetId) -> Result<Vec<String>, Error> {
        let others = self.inner.roster.others();
        let mut nodes = Vec::new();
        for (_, peer) in &others {
            match self.ask(peer, &Command::List).await {
                Ok(_) => nodes.push(peer.node.to_string()),
                Err(error) => {
                    let why =
                        format!("nothing was deleted: {} cannot be reached ({error})", peer.pop);
                    return Err(Error::Command(why));
                }
            }
        }
        let command = Command::Delete { dataset: id.to_string() };
        let mut asked = tokio::task::JoinSet::new();
        for (_, peer) in others {
            let (node, command) = (self.clone(), command.clone());
            asked.spawn(async move { node.ask(&peer, &command).await.map(drop) });
        }
        let mut result = absent_is_fine(self.delete_here(id).await);
        while let Some(answer) = asked.join_next().await {
            let answer = answer.unwrap_or(Err(Error::ShuttingDown));
            result = result.and(absent_is_fine(answer));
        }
        result?;
        if let Some(register) = &self.inner.config.register
            && !register.forget(id).await
        {
            return Err(Error::Command(format!("the lease of `{id}` could not be removed")));
        }
        nodes.push(self.inner.config.node.to_string());
        nodes.sort();
        Ok(nodes)
    }

    /// Removes a dataset's copy from this node alone.
    pub async fn delete_here(&self, id: &DatasetId) -> Result<(), Error> {
        self.inner.note_deletion(id);
        self.inner.drop_entry(id).await;
        let (store, id_there) = (self.inner.store.clone(), id.clone());
        let deleting = spawn_blocking(move || {
            let until = std::time::Instant::now() + CLOSE_PATIENCE;
            loop {
                match store.delete(&id_there) {
                    Err(verge_dataset::Error::Overloaded { .. })
                        if std::time::Instant::now() < until =>
                    {
                        std::thread::sleep(LOOK_EVERY);
                    }
                    other => return other,
                }
            }
        });
        deleting.await.map_err(|_| Error::ShuttingDown)??;
        self.inner.remove_meta(id.clone()).await
    }
}

/// A node without a copy has nothing to delete.
fn absent_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.code() == Code::NoDataset => Ok(()),
        other => other,
    }
}
