//! Carries out commands.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tokio::time::Instant;
use verge_fabric::Peer;
use verge_types::{Bookmark, DatasetId, Position};

use super::files::Source;
use super::history::target;
use super::{Command, Report};
use crate::error::Error;
use crate::inner::LOOK_EVERY;
use crate::node::Node;
use crate::status::DatasetStatus;

impl Node {
    /// Carries out one command and answers as JSON.
    pub async fn run(&self, command: Command) -> Result<Json, Error> {
        self.run_reporting(command, &Report::default()).await
    }

    /// The same; tells how far it is meanwhile, and ends early if its caller gives up.
    pub async fn run_reporting(&self, command: Command, report: &Report) -> Result<Json, Error> {
        match command {
            Command::List => self.list_fleet().await,
            Command::Info { dataset } => answer(&self.status_of(&id(&dataset)?)?),
            Command::Status => answer(&self.status()),
            Command::Execute { dataset, sql, params, create } => {
                answer(&self.execute(&id(&dataset)?, sql, &params, create).await?)
            }
            Command::Create { dataset } => answer(&self.create(&id(&dataset)?).await?),
            Command::Script { dataset, sql } => answer(&self.script(&id(&dataset)?, sql).await?),
            Command::Primary { dataset, create } => {
                let peer = self.primary(&id(&dataset)?, create).await?;
                Ok(json!({ "node": peer.node.to_string(), "pop": peer.pop.as_str() }))
            }
            Command::Locate { dataset, bookmark, time_ms } => {
                let dataset = id(&dataset)?;
                let target = target(&dataset, bookmark.as_deref(), time_ms)?;
                answer(&self.locate(&dataset, target).await?)
            }
            Command::Migrations { dataset, table } => {
                answer(&self.migrations(&id(&dataset)?, table).await?)
            }
            Command::Migrate { dataset, table, migrations } => {
                answer(&self.migrate(&id(&dataset)?, &table, migrations, report).await?)
            }
            Command::Import { dataset, path, form, table, replace } => {
                let source = Source { path, form, table, replace };
                answer(&self.import(&id(&dataset)?, source, report).await?)
            }
            Command::Lag { dataset } => answer(&self.lag(&id(&dataset)?).await?),
            Command::MovePrimary { dataset, to } => {
                let pop = to.parse().map_err(command_error)?;
                let paused = self.move_primary(&id(&dataset)?, &pop).await?;
                Ok(json!({ "primary": to, "writes_paused_ms": paused.as_secs_f64() * 1e3 }))
            }
            Command::Verify { dataset } => answer(&self.verify(&id(&dataset)?).await?),
            Command::VerifyHere { dataset } => answer(&self.verify_here(&id(&dataset)?).await?),
            Command::Branch { from, to, bookmark, time_ms } => {
                let (from, to) = (id(&from)?, id(&to)?);
                let target = target(&from, bookmark.as_deref(), time_ms)?;
                self.branch(&from, &to, target).await?;
                answer(&self.status_of(&to)?)
            }
            Command::Restore { dataset, bookmark, time_ms } => {
                let dataset = id(&dataset)?;
                let target = target(&dataset, bookmark.as_deref(), time_ms)?;
                let target = target.ok_or_else(|| {
                    Error::Command("a restore needs a bookmark or a time".to_owned())
                })?;
                let known = self.status_of(&dataset)?.position();
                let after = self.restore(&dataset, target).await?;
                // Commits of this term may have come in between: they are undone too.
                let txid = after.position.txid.saturating_sub(1);
                let before = match known.txid == txid {
                    true => known,
                    false => Position::new(after.position.epoch, txid),
                };
                let before = Bookmark::new(&dataset, before).to_string();
                Ok(json!({ "bookmark": after.to_string(), "before": before }))
            }
            Command::Export { dataset, path, form, table } => {
                let bytes = self.export(&id(&dataset)?, &path, form, table, report).await?;
                Ok(json!({ "bytes": bytes }))
            }
            Command::DeleteEverywhere { dataset } => {
                let nodes = self.delete_everywhere(&id(&dataset)?).await?;
                Ok(json!({ "nodes": nodes }))
            }
            Command::Delete { dataset } => {
                self.delete_here(&id(&dataset)?).await?;
                Ok(Json::Null)
            }
        }
    }

    /// Every dataset of the fleet and the nodes that have a copy, as far as they can be reached.
    async fn list_fleet(&self) -> Result<Json, Error> {
        let mut nodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let me = self.inner.config.node.to_string();
        for id in self.list().await? {
            nodes.entry(id.to_string()).or_default().push(me.clone());
        }
        let mut unreachable = Vec::new();
        for (_, peer) in self.inner.roster.others() {
            match self.ask(&peer, &Command::Status).await {
                Ok(answer) => {
                    let known = answer.as_array().cloned().unwrap_or_default();
                    let names = known.iter().filter_map(|status| status["dataset"].as_str());
                    for name in names {
                        nodes.entry(name.to_owned()).or_default().push(peer.node.to_string());
                    }
                }
                Err(_) => unreachable.push(peer.node.to_string()),
            }
        }
        let datasets: Vec<Json> = nodes
            .into_iter()
            .map(|(dataset, nodes)| json!({ "dataset": dataset, "nodes": nodes }))
            .collect();
        Ok(json!({ "datasets": datasets, "unreachable": unreachable }))
    }

    /// Makes a dataset that no node has yet.
    async fn create(&self, id: &DatasetId) -> Result<DatasetStatus, Error> {
        let listed = self.list_fleet().await?;
        let mut names = listed["datasets"].as_array().into_iter().flatten();
        if names.any(|one| one["dataset"] == id.as_str()) {
            return Err(Error::Dataset(verge_dataset::Error::Exists(id.clone())));
        }
        self.inner.forget_deletion(id);
        self.primary(id, true).await?;
        self.status_of(id)
    }

    /// Who is primary of a dataset here, once somebody is.
    pub async fn primary(&self, id: &DatasetId, create: bool) -> Result<Peer, Error> {
        let _database = if create { self.database(id).await? } else { self.existing(id).await? };
        let deadline = Instant::now() + self.inner.config.timing.open_patience;
        loop {
            let entry = self.inner.open(id, false).await?;
            entry.desk.touch();
            let primary = entry.desk.standing().primary;
            // A node that was primary before takes its lease up again first.
            let settled = primary != Some(self.inner.roster.me) || entry.desk.is_primary();
            if let Some(peer) = primary.filter(|_| settled).and_then(|p| self.inner.roster.peer(p))
            {
                return Ok(peer);
            }
            if Instant::now() >= deadline {
                let why = "nobody is its primary".to_owned();
                return Err(Error::Unavailable { dataset: id.clone(), why });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn answer(value: &impl serde::Serialize) -> Result<Json, Error> {
    serde_json::to_value(value).map_err(command_error)
}

fn id(text: &str) -> Result<DatasetId, Error> {
    text.parse().map_err(command_error)
}

pub(super) fn command_error(error: impl std::fmt::Display) -> Error {
    Error::Command(error.to_string())
}
