//! Carries out commands.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value as Json, json};
use tokio::task::spawn_blocking;
use verge_dataset::Target;
use verge_services::sql::{self, Freshness, Home, Query, Value, export};
use verge_types::{Bookmark, DatasetId};

use super::{Command, Executed, Verified};
use crate::error::Error;
use crate::node::Node;

impl Node {
    /// Carries out one command and answers as JSON.
    pub async fn run(&self, command: Command) -> Result<Json, Error> {
        match command {
            Command::List => self.list_fleet().await,
            Command::Info { dataset } => answer(&self.status_of(&id(&dataset)?)?),
            Command::Status => answer(&self.status()),
            Command::Execute { dataset, sql, params, create } => {
                answer(&self.execute(&id(&dataset)?, sql, &params, create).await?)
            }
            Command::Lag { dataset } => answer(&self.lag(&id(&dataset)?).await?),
            Command::MovePrimary { dataset, to } => {
                let pop = to.parse().map_err(command_error)?;
                self.move_primary(&id(&dataset)?, &pop).await?;
                Ok(json!({ "primary": to }))
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
                let bookmark = self.restore(&dataset, target).await?;
                Ok(json!({ "bookmark": bookmark.to_string() }))
            }
            Command::Export { dataset, path, sqlite } => {
                let bytes = self.export(&id(&dataset)?, &path, sqlite).await?;
                Ok(json!({ "bytes": bytes }))
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

    /// Runs SQL as an app here would. One statement gives rows; several run as a script.
    pub async fn execute(
        &self,
        id: &DatasetId,
        text: String,
        params: &[Json],
        create: bool,
    ) -> Result<Executed, Error> {
        let database = if create { self.database(id).await? } else { self.existing(id).await? };
        let params = params.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let freshness = Freshness::default();
        let one = database.query(&freshness, Query::new(text.clone(), params.clone()), None).await;
        let (outcome, statements, answer) = match one {
            Ok(answer) => {
                let outcome = answer.value;
                (outcome, 1, (answer.position, answer.node, answer.served_by_primary))
            }
            Err(error) if params.is_empty() && is_script(&error) => {
                let done = database.exec(text, None).await.map_err(command_error)?;
                let mut outcome = sql::Outcome::default();
                outcome.stats.changes = done.value.changes;
                outcome.stats.duration = done.value.duration;
                (outcome, done.value.count, (done.position, done.node, done.served_by_primary))
            }
            Err(error) => return Err(command_error(error)),
        };
        let (position, node, served_by_primary) = answer;
        let sql::Outcome { rows, stats } = outcome;
        let width = rows.columns.len().max(1);
        Ok(Executed {
            rows: rows.values.chunks(width).map(|row| row.iter().map(json_of).collect()).collect(),
            columns: rows.columns.iter().map(|name| name.to_string()).collect(),
            changes: stats.changes,
            rows_read: stats.rows_read,
            rows_written: stats.rows_written,
            duration_us: u64::try_from(stats.duration.as_micros()).unwrap_or(u64::MAX),
            served_by: node.served_by,
            region: node.region,
            served_by_primary,
            bookmark: Bookmark::new(id, position).to_string(),
            statements,
        })
    }

    /// Reads all copies that can be reached through, and compares those that stand at the same
    /// position.
    pub async fn verify(&self, id: &DatasetId) -> Result<Vec<Verified>, Error> {
        let mut all = Vec::new();
        if self.status_of(id).is_ok() {
            all.push(self.verify_here(id).await?);
        }
        let command = Command::VerifyHere { dataset: id.to_string() };
        for (_, peer) in self.inner.roster.others() {
            match self.ask(&peer, &command).await.map(serde_json::from_value::<Verified>) {
                Ok(Ok(verified)) => all.push(verified),
                Ok(Err(error)) => all.push(failed(&peer, &error.to_string())),
                Err(error) => all.push(failed(&peer, &error.to_string())),
            }
        }
        let at = |v: &Verified| (v.epoch, v.txid);
        for index in 0..all.len() {
            let others = all.iter().enumerate().filter(|(other, v)| {
                *other != index && v.error.is_none() && at(v) == at(&all[index])
            });
            let agree: Vec<bool> = others.map(|(_, v)| v.checksum == all[index].checksum).collect();
            all[index].copies_agree =
                (!agree.is_empty() && all[index].error.is_none()).then(|| agree.iter().all(|a| *a));
        }
        Ok(all)
    }

    /// Reads this node's copy through.
    pub async fn verify_here(&self, id: &DatasetId) -> Result<Verified, Error> {
        let status = self.status_of(id)?;
        let dataset = self.inner.store.get(id)?;
        let read = dataset.verify().await;
        // What it verified may lie a little behind by now; the pair below belongs together.
        let (position, checksum) = dataset.checksum();
        Ok(Verified {
            node: status.node,
            pop: status.pop,
            bookmark: Bookmark::new(id, position).to_string(),
            epoch: position.epoch,
            txid: position.txid,
            checksum: format!("{checksum:016x}"),
            pages_agree: read.is_ok(),
            copies_agree: None,
            error: read.err().map(|error| error.to_string()),
        })
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

    /// Writes a copy's content to a file; its length in bytes.
    pub async fn export(&self, id: &DatasetId, path: &Path, sqlite: bool) -> Result<u64, Error> {
        let database = self.existing(id).await?;
        let path = path.to_owned();
        let writing = spawn_blocking(move || {
            let bytes = if sqlite {
                database.dump(u64::MAX).map_err(command_error)?
            } else {
                let reader = database.home().reader().map_err(command_error)?;
                export::to_sql(&reader).map_err(command_error)?.into_bytes()
            };
            std::fs::write(&path, &bytes).map_err(Error::io("writing the export"))?;
            Ok(bytes.len() as u64)
        });
        writing.await.map_err(|_| Error::ShuttingDown)?
    }
}

fn answer(value: &impl serde::Serialize) -> Result<Json, Error> {
    serde_json::to_value(value).map_err(command_error)
}

fn id(text: &str) -> Result<DatasetId, Error> {
    text.parse().map_err(command_error)
}

fn command_error(error: impl std::fmt::Display) -> Error {
    Error::Command(error.to_string())
}

/// The text has more than one statement, or none; only a script may.
fn is_script(error: &sql::SqlError) -> bool {
    error.message.contains("only one statement")
}

fn target(
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

fn failed(peer: &verge_fabric::Peer, error: &str) -> Verified {
    Verified {
        node: peer.node.to_string(),
        pop: peer.pop.as_str().to_owned(),
        bookmark: String::new(),
        epoch: 0,
        txid: 0,
        checksum: String::new(),
        pages_agree: false,
        copies_agree: None,
        error: Some(error.to_owned()),
    }
}

fn value(json: &Json) -> Result<Value, Error> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Integer(i64::from(*flag)),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => Value::Real(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(_) | Json::Object(_) => {
            return Err(Error::Command("a parameter is a number, a text or null".to_owned()));
        }
    })
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(integer) => (*integer).into(),
        Value::Real(real) => serde_json::Number::from_f64(*real).map_or(Json::Null, Json::Number),
        Value::Text(text) => text.as_str().into(),
        Value::Blob(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "blob": hex })
        }
    }
}
