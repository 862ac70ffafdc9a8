//! What esbuild wrote, as modules of a deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde_json::value::RawValue;
use verge_types::{Module, ModuleKind};

use super::arguments::{ENTRY, copied_kind};
use super::metafile::Metafile;
use super::require_shim;
use crate::config::AppConfig;
use crate::diagnostic::BuildError;
use crate::node_builtins::is_provided;

pub struct Collected {
    pub modules: Vec<Module>,
    pub inputs: BTreeSet<PathBuf>,
    pub warnings: Vec<String>,
}

/// Reads the output folder; the paths of the metafile are relative to `root`.
pub fn collect(
    meta: &Metafile,
    out: &Path,
    root: &Path,
    config: &AppConfig,
) -> Result<Collected, BuildError> {
    let inputs = meta
        .inputs
        .keys()
        .map(|input| crate::paths::join(root, Path::new(input)))
        .filter(|path| path.is_file())
        .collect();
    let mut collected = Collected { modules: Vec::new(), inputs, warnings: Vec::new() };
    let mut required = BTreeSet::new();
    let mut slashed = BTreeSet::new();
    for (name, output) in &meta.outputs {
        let path = crate::paths::join(root, Path::new(name));
        let inside = crate::paths::shown(out, &path);
        if !path.starts_with(out) || !crate::paths::is_contained(&inside) {
            return Err(BuildError::Bundler(format!("it wrote outside its folder: {name}")));
        }
        for import in output.imports.iter().filter(|i| i.external && i.kind == "require-call") {
            if is_provided(&import.path) {
                required.insert(import.path.trim_end_matches('/').to_owned());
            }
        }
        slashed.extend(
            output
                .imports
                .iter()
                .filter(|i| i.external && i.path.ends_with('/'))
                .map(|i| i.path.clone()),
        );
        match inside.rsplit_once('.').map(|(_, extension)| extension) {
            Some("map") => {}
            Some("js") => collected.modules.push(code(&path, inside, out, root)?),
            Some("css") => collected.warnings.push(format!(
                "the CSS that the code imports ({inside}) is not served; put it into the assets"
            )),
            _ => {
                let Some(kind) = copied_kind(config, &inside) else {
                    return Err(BuildError::Bundler(format!("`{inside}` is of no known kind")));
                };
                let source = read(&path)?;
                collected.modules.push(Module { path: inside, kind, source, source_map: None });
            }
        }
    }
    if !collected.modules.iter().any(|m| m.path == ENTRY) {
        return Err(BuildError::Bundler("it wrote no entry module".into()));
    }
    strip_queries(&mut collected.modules);
    strip_slashes(&mut collected.modules, &slashed);
    add_require(&mut collected.modules, &required);
    collected.modules.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(collected)
}

fn code(path: &Path, inside: String, out: &Path, root: &Path) -> Result<Module, BuildError> {
    let source = read(path)?;
    let map = path.with_extension("js.map");
    let source_map = if map.is_file() {
        let folder = map.parent().unwrap_or(out);
        let inside = inside.rsplit_once('/').map_or("", |(folder, _)| folder);
        rename_sources(&read(&map)?, folder, inside, root)
    } else {
        None
    };
    Ok(Module { path: inside, kind: ModuleKind::Esm, source, source_map })
}

fn read(path: &Path) -> Result<Bytes, BuildError> {
    std::fs::read(path).map(Bytes::from).map_err(|source| BuildError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })
}

/// Sources are written relative to the temporary folder; name them as the user knows them, seen
/// from the folder of the deployment that the map's module is in.
fn rename_sources(map: &[u8], folder: &Path, inside: &str, root: &Path) -> Option<Bytes> {
    // Everything but the names stays as it is, unparsed: maps are large.
    let mut map: BTreeMap<&str, &RawValue> = serde_json::from_slice(map).ok()?;
    let sources: Vec<String> = serde_json::from_str(map.get("sources")?.get()).ok()?;
    let named: Vec<String> = sources
        .iter()
        .map(|source| {
            let path = crate::paths::join(folder, Path::new(source));
            let shown = if path.starts_with(root) {
                crate::paths::shown(root, &path)
            } else {
                outside_name(root, &path)
            };
            crate::paths::source_name(inside, &shown)
        })
        .collect();
    let named = serde_json::value::to_raw_value(&named).ok()?;
    map.insert("sources", &named);
    serde_json::to_vec(&map).ok().map(Bytes::from)
}

/// `../shared/x.ts`: how the project would name a file beside it.
fn outside_name(root: &Path, path: &Path) -> String {
    let common = root.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let up = "../".repeat(root.components().count() - common);
    let rest: PathBuf = path.components().skip(common).collect();
    format!("{up}{}", rest.to_string_lossy())
}

/// `./add-HASH.wasm?module` becomes `./add-HASH.wasm`; blanks keep the columns of the map true.
fn strip_queries(modules: &mut [Module]) {
    let copied: Vec<String> = modules
        .iter()
        .filter(|m| m.kind != ModuleKind::Esm)
        .filter_map(|m| m.path.rsplit('/').next().map(str::to_owned))
        .collect();
    for module in modules.iter_mut().filter(|m| m.kind == ModuleKind::Esm) {
        let Ok(text) = std::str::from_utf8(&module.source) else { continue };
        if copied.is_empty() || !text.contains("?module") {
            continue;
        }
        let mut text = text.to_owned();
        for name in &copied {
            for quote in ['"', '\'', '`'] {
                let blanks = " ".repeat("?module".len());
                text = text
                    .replace(&format!("{name}?module{quote}"), &format!("{name}{quote}{blanks}"));
            }
        }
        module.source = text.into();
    }
}

/// `require("punycode/")` is how packages ask for the package and not for the built-in; here
/// both are the built-in, whose name has no slash. Blanks keep columns true.
fn strip_slashes(modules: &mut [Module], slashed: &BTreeSet<String>) {
    for module in modules.iter_mut().filter(|m| m.kind == ModuleKind::Esm) {
        let Ok(text) = std::str::from_utf8(&module.source) else { continue };
        let mut text = text.to_owned();
        for path in slashed.iter().filter(|path| is_provided(path)) {
            let bare = path.trim_end_matches('/');
            text = text.replace(&format!("\"{path}\""), &format!("\"{bare}\" "));
        }
        if text.len() == module.source.len() && text.as_bytes() != module.source.as_ref() {
            module.source = text.into();
        }
    }
}

fn add_require(modules: &mut Vec<Module>, required: &BTreeSet<String>) {
    if required.is_empty() {
        return;
    }
    let mut used = false;
    for module in modules.iter_mut().filter(|m| m.kind == ModuleKind::Esm) {
        let Ok(text) = std::str::from_utf8(&module.source) else { continue };
        if !require_shim::wants_require(text) {
            continue;
        }
        used = true;
        module.source = format!("{}{text}", require_shim::prelude(&module.path)).into();
        module.source_map = module.source_map.take().map(|map| shift_one_line(&map));
    }
    if used {
        modules.push(Module {
            path: require_shim::PATH.into(),
            kind: ModuleKind::Esm,
            source: require_shim::source(required).into(),
            source_map: None,
        });
    }
}

/// A `;` at the start of the mappings is an empty first line.
fn shift_one_line(map: &Bytes) -> Bytes {
    let shifted = || {
        let mut map: BTreeMap<&str, &RawValue> = serde_json::from_slice(map).ok()?;
        let mappings: String = serde_json::from_str(map.get("mappings")?.get()).ok()?;
        let mappings = serde_json::value::to_raw_value(&format!(";{mappings}")).ok()?;
        map.insert("mappings", &mappings);
        serde_json::to_vec(&map).ok()
    };
    shifted().map_or_else(|| map.clone(), Bytes::from)
}
