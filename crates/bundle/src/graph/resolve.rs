//! Which file a relative import means, and of what kind the module is.

use std::path::{Path, PathBuf};

use verge_types::ModuleKind;

use crate::config::ModuleRule;

const TRIED: [&str; 9] = ["tsx", "ts", "mts", "jsx", "js", "mjs", "cjs", "cts", "json"];

/// The file that `specifier` means when `from` imports it, tried as bundlers do.
pub fn file(from: &Path, specifier: &str) -> Option<PathBuf> {
    let specifier = specifier.split(['?', '#']).next().unwrap_or(specifier);
    let path = crate::paths::join(from.parent()?, Path::new(specifier));
    if path.is_file() && !specifier.ends_with('/') {
        return Some(path);
    }
    // TypeScript lets `./a.js` mean `./a.ts`.
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let written: &[&str] = match extension {
        "js" => &["ts", "tsx"],
        "jsx" => &["tsx"],
        "mjs" => &["mts"],
        "cjs" => &["cts"],
        _ => &[],
    };
    written
        .iter()
        .map(|extension| path.with_extension(extension))
        .chain(TRIED.iter().map(|extension| append(&path, &format!(".{extension}"))))
        .chain(TRIED.iter().map(|extension| path.join(format!("index.{extension}"))))
        .find(|candidate| candidate.is_file())
}

fn append(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

/// The kind of a file by `rules` first, then by the usual extensions; `None` when nobody says.
pub fn kind(path: &Path, attribute: Option<&str>, rules: &[ModuleRule]) -> Option<ModuleKind> {
    match attribute {
        Some("json") => return Some(ModuleKind::Json),
        Some("text") => return Some(ModuleKind::Text),
        Some("bytes") => return Some(ModuleKind::Data),
        _ => {}
    }
    let name = path.file_name()?.to_str()?.to_lowercase();
    for rule in rules {
        if rule.extensions.iter().any(|e| name.ends_with(&format!(".{e}"))) {
            return Some(rule.kind);
        }
    }
    match name.rsplit_once('.')?.1 {
        "ts" | "tsx" | "mts" | "cts" | "js" | "jsx" | "mjs" | "cjs" => Some(ModuleKind::Esm),
        "json" => Some(ModuleKind::Json),
        "txt" | "html" | "sql" => Some(ModuleKind::Text),
        "bin" => Some(ModuleKind::Data),
        "wasm" => Some(ModuleKind::Wasm),
        _ => None,
    }
}
