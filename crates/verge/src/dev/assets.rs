//! Reads an app's static files.

use std::sync::Arc;

use verge_bundle::Diagnostic;
use verge_render::{AssetError, Assets};
use verge_types::AssetsConfig;

use crate::failure::Failure;

/// Scans the folder; what the previous scan knew and did not change is kept. It blocks.
pub fn load(
    config: Option<AssetsConfig>,
    previous: Option<Arc<Assets>>,
) -> Result<Option<Arc<Assets>>, Failure> {
    let Some(config) = config else { return Ok(None) };
    let same_folder = previous.filter(|known| known.config().directory == config.directory);
    Assets::load(&config, same_folder.as_deref()).map(|assets| Some(Arc::new(assets))).map_err(
        |error: AssetError| Failure {
            diagnostics: vec![Diagnostic::error(error.to_string())],
            ..Failure::new("assets", "the assets cannot be served")
        },
    )
}
