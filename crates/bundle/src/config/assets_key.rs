//! The `assets` key.

use std::path::Path;

use verge_types::{AssetsConfig, HtmlHandling, NotFoundHandling, RunWorkerFirst};

use super::keys;
use super::reader::{Reader, entry};
use super::tree::{Node, Value};

/// Most patterns in `run_worker_first`; each is tried for each request.
const MAX_PATTERNS: usize = 100;

/// The assets and the name of their binding.
pub fn read_assets(
    reader: &mut Reader<'_>,
    node: &Node,
    root: &Path,
) -> Option<(AssetsConfig, Option<String>)> {
    let entries = reader.record("assets", node, keys::ASSETS);
    let mut assets = AssetsConfig {
        directory: root.to_owned(),
        html_handling: HtmlHandling::default(),
        not_found_handling: NotFoundHandling::default(),
        run_worker_first: RunWorkerFirst::default(),
    };
    let mut binding = None;
    let mut directory = None;
    for e in entries {
        let at = format!("assets.{}", e.key);
        match e.key.as_str() {
            "directory" => {
                // A build command may be what makes it, so its absence is told when building.
                directory = reader
                    .non_empty(&at, &e.node)
                    .map(|text| crate::paths::join(root, Path::new(&text)));
            }
            "binding" => binding = reader.non_empty(&at, &e.node),
            "html_handling" => {
                let words = &[
                    ("auto-trailing-slash", HtmlHandling::AutoTrailingSlash),
                    ("force-trailing-slash", HtmlHandling::ForceTrailingSlash),
                    ("drop-trailing-slash", HtmlHandling::DropTrailingSlash),
                    ("none", HtmlHandling::None),
                ];
                assets.html_handling = reader.one_of(&at, &e.node, words).unwrap_or_default();
            }
            "not_found_handling" => {
                let words = &[
                    ("none", NotFoundHandling::None),
                    ("404-page", NotFoundHandling::NotFoundPage),
                    ("single-page-application", NotFoundHandling::SinglePageApplication),
                ];
                assets.not_found_handling = reader.one_of(&at, &e.node, words).unwrap_or_default();
            }
            "run_worker_first" => {
                assets.run_worker_first = read_worker_first(reader, &at, &e.node);
            }
            _ => {}
        }
    }
    if entry(entries, "directory").is_none() && !node.is_empty() {
        reader.error(&node.span, "`assets` needs `directory`");
    }
    assets.directory = directory?;
    Some((assets, binding))
}

fn read_worker_first(reader: &mut Reader<'_>, at: &str, node: &Node) -> RunWorkerFirst {
    let items = match &node.value {
        Value::Bool(all) => return RunWorkerFirst::All(*all),
        Value::Array(items) => items,
        other => {
            let message =
                format!("`{at}` takes true, false or a list of paths, not {}", other.kind());
            reader.error(&node.span, message);
            return RunWorkerFirst::default();
        }
    };
    if items.len() > MAX_PATTERNS {
        reader.error(&node.span, format!("`{at}` takes at most {MAX_PATTERNS} paths"));
    }
    let mut paths = Vec::new();
    for item in items {
        let Some(path) = reader.non_empty(at, item) else { continue };
        if !path.strip_prefix('!').unwrap_or(&path).starts_with('/') {
            let message = format!("`{at}`: \"{path}\" must begin with \"/\" or \"!/\"");
            reader.error(&item.span, message);
        }
        paths.push(path);
    }
    if !paths.is_empty() && paths.iter().all(|p| p.starts_with('!')) {
        reader
            .error(&node.span, format!("`{at}` has only exceptions; begin with what they except"));
    }
    RunWorkerFirst::Paths(paths)
}
