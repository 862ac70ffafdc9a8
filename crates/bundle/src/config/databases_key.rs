//! The `d1_databases` key.

use std::path::Path;

use verge_types::{Binding, CutOff, DatabaseTarget, DatasetId, Unit, parse_quantity};

use super::app::{AppConfig, DatabaseConfig};
use super::keys;
use super::read::bind;
use super::reader::{Reader, entry};
use super::tree::Node;

/// As wrangler has them.
const MIGRATIONS_DIR: &str = "migrations";
const MIGRATIONS_TABLE: &str = "d1_migrations";

/// How long a write waits in a queue, where nothing else is said: well within a request's
/// `wall_time`.
const QUEUE_WAIT_MS: u64 = 20_000;

pub fn read_databases(reader: &mut Reader<'_>, node: &Node, config: &mut AppConfig) {
    for (index, item) in reader.list("d1_databases", node).iter().enumerate() {
        let path = format!("d1_databases[{index}]");
        let entries = reader.record(&path, item, keys::DATABASE);
        let mut binding = None;
        let (mut name, mut id) = (None, None);
        let mut migrations_dir = MIGRATIONS_DIR.to_owned();
        let mut migrations_table = MIGRATIONS_TABLE.to_owned();
        let (mut queues, mut queue_wait) = (None, None);
        for e in entries {
            let at = format!("{path}.{}", e.key);
            match e.key.as_str() {
                "binding" => binding = reader.non_empty(&at, &e.node).map(|name| (name, e)),
                "database_name" => name = reader.non_empty(&at, &e.node),
                "database_id" => id = reader.non_empty(&at, &e.node),
                "migrations_dir" => {
                    migrations_dir = reader.non_empty(&at, &e.node).unwrap_or(migrations_dir);
                }
                "migrations_table" => {
                    let Some(table) = reader.non_empty(&at, &e.node) else { continue };
                    if table.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                        migrations_table = table;
                    } else {
                        let message =
                            format!("`{at}`: \"{table}\": use letters, digits and `_` only");
                        reader.error(&e.node.span, message);
                    }
                }
                "writes_when_cut_off" => {
                    let words = [("refuse", false), ("queue", true)];
                    queues = reader.one_of(&at, &e.node, &words);
                }
                "queue_wait" => {
                    let Some(text) = reader.quantity(&at, &e.node) else { continue };
                    match parse_quantity(&text, Unit::Milliseconds) {
                        Some(ms) if (100..=600_000).contains(&ms) => queue_wait = Some((ms, e)),
                        _ => {
                            let message = format!(
                                "`{at}`: `{text}` is not understood; write \"100ms\" to \"10m\""
                            );
                            reader.error(&e.node.span, message);
                        }
                    }
                }
                "migrations_pattern" => {
                    reader.error(&e.key_span, format!("`{at}` is not supported: migrations are the `.sql` files of `migrations_dir`"));
                }
                "remote" if reader.boolean(&at, &e.node) == Some(true) => {
                    let message = format!("`{at}`: remote bindings are not supported");
                    reader.error(&e.node.span, message);
                }
                // Names of Cloudflare's own; a preview gets a branch of the data.
                _ => {}
            }
        }
        if entry(entries, "binding").is_none() {
            reader.error(&item.span, format!("`{path}` needs `binding`"));
        }
        if let Some((_, e)) = queue_wait
            && queues != Some(true)
        {
            let message =
                format!("`{path}.queue_wait` goes with `\"writes_when_cut_off\": \"queue\"`");
            reader.error(&e.key_span, message);
        }
        let when_cut_off = match queues {
            Some(true) => CutOff::Queue { wait_ms: queue_wait.map_or(QUEUE_WAIT_MS, |(ms, _)| ms) },
            _ => CutOff::Refuse,
        };
        let Some((binding, e)) = binding else { continue };
        let name = name.or(id).unwrap_or_else(|| format!("{}-{binding}", config.name));
        match database_dataset(&name) {
            Some(dataset) => {
                let target = DatabaseTarget { dataset: dataset.clone(), when_cut_off };
                bind(reader, config, e, &binding, Binding::Database(target));
                config.databases.push(DatabaseConfig {
                    binding,
                    dataset,
                    name,
                    migrations_dir: crate::paths::join(&config.root, Path::new(&migrations_dir)),
                    migrations_table,
                });
            }
            None => {
                let message = format!(
                    "`{path}`: `{name}` is no database name: use letters, digits, `-`, `_` and `.`, at most 120"
                );
                reader.error(&item.span, message);
            }
        }
    }
}

/// The dataset a database of that name is. `My_DB` and `my_db` are one: file systems and
/// people mix them up.
pub fn database_dataset(name: &str) -> Option<DatasetId> {
    let plain = !name.contains('/') && name.len() <= 120;
    plain.then(|| format!("sql/{}", name.to_ascii_lowercase()).parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::database_dataset;

    #[test]
    fn names_become_datasets() {
        assert_eq!(database_dataset("My_DB").unwrap().as_str(), "sql/my_db");
        for bad in ["", "a/b", "..", "a b", "ä"] {
            assert!(database_dataset(bad).is_none(), "{bad}");
        }
    }
}
