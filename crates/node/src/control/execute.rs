//! SQL from the command line, run as an app here would run it.

use serde_json::{Value as Json, json};
use verge_services::sql::{self, Freshness, Query, Value};
use verge_types::{Bookmark, DatasetId, Position};

use super::Executed;
use super::run::command_error;
use crate::error::Error;
use crate::node::Node;

impl Node {
    /// Runs a script as an app here would, all of it or nothing.
    pub(super) async fn script(
        &self,
        id: &DatasetId,
        text: String,
    ) -> Result<Vec<Executed>, Error> {
        let database = self.existing(id).await?;
        let answer = database.script(text, None).await.map_err(command_error)?;
        let (node, position) = (answer.node, answer.position);
        let outcomes = answer.value.into_iter();
        Ok(outcomes
            .map(|outcome| executed(id, outcome, 1, &node, position, answer.served_by_primary))
            .collect())
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
                let done = database.exec(None, text, None).await.map_err(command_error)?;
                let mut outcome = sql::Outcome::default();
                outcome.stats.changes = done.value.changes;
                outcome.stats.duration = done.value.duration;
                (outcome, done.value.count, (done.position, done.node, done.served_by_primary))
            }
            Err(error) => return Err(command_error(error)),
        };
        let (position, node, served_by_primary) = answer;
        Ok(executed(id, outcome, statements, &node, position, served_by_primary))
    }
}

fn executed(
    id: &DatasetId,
    outcome: sql::Outcome,
    statements: u64,
    node: &sql::Node,
    position: Position,
    served_by_primary: bool,
) -> Executed {
    let sql::Outcome { rows, stats } = outcome;
    let width = rows.columns.len().max(1);
    Executed {
        rows: rows.values.chunks(width).map(|row| row.iter().map(json_of).collect()).collect(),
        columns: rows.columns.iter().map(|name| name.to_string()).collect(),
        changes: stats.changes,
        rows_read: stats.rows_read,
        rows_written: stats.rows_written,
        duration_us: u64::try_from(stats.duration.as_micros()).unwrap_or(u64::MAX),
        served_by: node.served_by.clone(),
        region: node.region.clone(),
        served_by_primary,
        bookmark: Bookmark::new(id, position).to_string(),
        statements,
    }
}

/// The text has more than one statement, or none; only a script may.
fn is_script(error: &sql::SqlError) -> bool {
    error.message.contains("only one statement")
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
        // JSON has no infinity.
        Value::Real(real) => serde_json::Number::from_f64(*real)
            .map_or_else(|| format!("{real}").into(), Json::Number),
        Value::Text(text) => text.as_str().into(),
        Value::Blob(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "blob": hex })
        }
    }
}
