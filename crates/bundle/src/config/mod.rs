//! `verge.jsonc` and `wrangler.*`: found, parsed, validated, then immutable.

mod app;
mod assets_key;
mod databases_key;
mod dotenv;
mod environment;
mod find;
mod guess;
mod keys;
mod read;
mod reader;
mod tree;

pub use app::{AppConfig, BuildCommand, DatabaseConfig, DevSettings, MAX_CONFIG_BYTES, ModuleRule};
pub use databases_key::database_dataset;
pub(crate) use find::read_bounded;
pub use find::{ConfigError, Project};
pub use keys::{KeyDoc, Use as KeyUse, configuration_keys, nearest};

/// Plain JSON of a JSONC text, or where and why it is none.
pub(crate) fn jsonc_to_json(
    text: &str,
) -> Result<serde_json::Value, (std::ops::Range<usize>, String)> {
    match tree::parse_jsonc(text) {
        Ok(node) => Ok(node.to_json()),
        Err(error) => Err((error.span, error.message)),
    }
}
