//! What `tsconfig.json` and `deno.json` say that changes the code: JSX and import maps.
//!
//! A file that cannot be read as JSONC is an error with its place, never silently skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{AppConfig, MAX_CONFIG_BYTES, read_bounded};
use crate::diagnostic::{BuildError, Diagnostic};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jsx {
    Automatic { import_source: String },
    Classic { factory: String, fragment: String },
}

/// Where a name of an import map leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// An npm package (and a path in it), with the version that was asked for.
    Npm { name: String, requirement: Option<String> },
    /// A file or folder, absolute.
    File(PathBuf),
    /// Left as it is (`node:fs`).
    Provided(String),
    /// From a registry that is not reached.
    Refused { specifier: String },
}

#[derive(Clone, Debug)]
pub struct CompilerOptions {
    pub jsx: Jsx,
    pub legacy_decorators: bool,
    pub decorator_metadata: bool,
    pub verbatim_module_syntax: bool,
    /// Import map of deno.json.
    pub imports: BTreeMap<String, Mapped>,
    /// The files this came from.
    pub files: Vec<PathBuf>,
}

/// Reads the options of a project.
pub fn read(config: &AppConfig) -> Result<CompilerOptions, BuildError> {
    let mut options = CompilerOptions {
        jsx: Jsx::Automatic { import_source: "react".into() },
        legacy_decorators: false,
        decorator_metadata: false,
        verbatim_module_syntax: false,
        imports: BTreeMap::new(),
        files: Vec::new(),
    };
    let tsconfig = config.tsconfig.clone().unwrap_or_else(|| config.root.join("tsconfig.json"));
    extended(&tsconfig, config, &mut options, 0)?;
    for name in ["deno.json", "deno.jsonc"] {
        let path = config.root.join(name);
        if let Some(json) = read_json(&path, &config.root)? {
            compiler(&json, &mut options);
            import_map(&json, &config.root, &mut options.imports);
            options.files.push(path);
            break;
        }
    }
    if config.jsx_factory.is_some() || config.jsx_fragment.is_some() {
        options.jsx = Jsx::Classic {
            factory: config.jsx_factory.clone().unwrap_or_else(|| "React.createElement".into()),
            fragment: config.jsx_fragment.clone().unwrap_or_else(|| "React.Fragment".into()),
        };
    }
    Ok(options)
}

/// Deepest chain of `extends`.
const MAX_EXTENDS: usize = 16;

/// A tsconfig after those that it extends, so that its own values win.
fn extended(
    path: &Path,
    config: &AppConfig,
    options: &mut CompilerOptions,
    depth: usize,
) -> Result<(), BuildError> {
    let Some(json) = read_json(path, &config.root)? else { return Ok(()) };
    if depth >= MAX_EXTENDS {
        let text = format!("`extends` is deeper than {MAX_EXTENDS}");
        return Err(BuildError::one(Diagnostic::error(text).in_file(path)));
    }
    let parents: Vec<&str> = match json.get("extends") {
        Some(serde_json::Value::String(one)) => vec![one],
        Some(serde_json::Value::Array(many)) => many.iter().filter_map(|v| v.as_str()).collect(),
        _ => Vec::new(),
    };
    for parent in parents {
        // One that is not there only matters to the type checker and to the bundler, which warns.
        if let Some(parent) = find_extended(path, parent) {
            extended(&parent, config, options, depth + 1)?;
        }
    }
    compiler(&json, options);
    options.files.push(path.to_owned());
    Ok(())
}

fn find_extended(from: &Path, name: &str) -> Option<PathBuf> {
    let folder = from.parent()?;
    let bases: Vec<PathBuf> = if name.starts_with('.') || name.starts_with('/') {
        vec![crate::paths::join(folder, Path::new(name))]
    } else {
        folder.ancestors().map(|dir| dir.join("node_modules").join(name)).collect()
    };
    bases
        .into_iter()
        .flat_map(|base| {
            let with_suffix = PathBuf::from(format!("{}.json", base.display()));
            [base.clone(), with_suffix, base.join("tsconfig.json")]
        })
        .find(|path| path.is_file())
}

fn read_json(path: &Path, root: &Path) -> Result<Option<serde_json::Value>, BuildError> {
    if !path.is_file() {
        return Ok(None);
    }
    let shown = PathBuf::from(crate::paths::shown(root, path));
    let text = read_bounded(path, MAX_CONFIG_BYTES).map_err(|e| {
        BuildError::one(Diagnostic::error(format!("cannot read it: {e}")).in_file(&shown))
    })?;
    crate::config::jsonc_to_json(&text).map(Some).map_err(|(span, message)| {
        BuildError::one(Diagnostic::error(message).at(&shown, &text, &span))
    })
}

fn compiler(json: &serde_json::Value, options: &mut CompilerOptions) {
    let Some(compiler) = json.get("compilerOptions") else { return };
    let text = |key: &str| compiler.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let flag = |key: &str| compiler.get(key).and_then(serde_json::Value::as_bool) == Some(true);
    let source = text("jsxImportSource");
    match text("jsx").as_deref() {
        Some("react") => {
            options.jsx = Jsx::Classic {
                factory: text("jsxFactory").unwrap_or_else(|| "React.createElement".into()),
                fragment: text("jsxFragmentFactory").unwrap_or_else(|| "React.Fragment".into()),
            };
        }
        _ => {
            if let Some(import_source) = source {
                options.jsx = Jsx::Automatic { import_source };
            }
        }
    }
    options.legacy_decorators |= flag("experimentalDecorators");
    options.decorator_metadata |= flag("emitDecoratorMetadata");
    options.verbatim_module_syntax |= flag("verbatimModuleSyntax");
}

fn import_map(json: &serde_json::Value, root: &Path, map: &mut BTreeMap<String, Mapped>) {
    let Some(imports) = json.get("imports").and_then(|v| v.as_object()) else { return };
    for (name, target) in imports {
        if let Some(target) = target.as_str() {
            map.insert(name.clone(), resolve(target, root));
        }
    }
}

/// What a specifier with a scheme, or a relative one of an import map, means.
pub fn resolve(target: &str, root: &Path) -> Mapped {
    if let Some(package) = target.strip_prefix("npm:") {
        let (name, requirement) = split_npm(package);
        return Mapped::Npm { name, requirement };
    }
    if target.starts_with("./") || target.starts_with("../") || target.starts_with('/') {
        return Mapped::File(crate::paths::join(root, Path::new(target)));
    }
    if ["jsr:", "http:", "https:"].iter().any(|scheme| target.starts_with(scheme)) {
        return Mapped::Refused { specifier: target.to_owned() };
    }
    if crate::node_builtins::is_provided(target) {
        return Mapped::Provided(target.to_owned());
    }
    Mapped::Npm { name: target.to_owned(), requirement: None }
}

/// `@scope/name@^1/path` is the package path `@scope/name/path` and the requirement `^1`.
pub fn split_npm(package: &str) -> (String, Option<String>) {
    let package = package.trim_start_matches('/');
    let name_end = if package.starts_with('@') {
        package.find('/').map_or(package.len(), |slash| {
            package[slash + 1..].find(['@', '/']).map_or(package.len(), |n| slash + 1 + n)
        })
    } else {
        package.find(['@', '/']).unwrap_or(package.len())
    };
    let (name, rest) = package.split_at(name_end);
    let Some(rest) = rest.strip_prefix('@') else {
        return (package.trim_end_matches('/').to_owned(), None);
    };
    let (requirement, path) = rest.split_once('/').unwrap_or((rest, ""));
    let joined = if path.is_empty() { name.to_owned() } else { format!("{name}/{path}") };
    (joined, Some(requirement.to_owned()).filter(|r| !r.is_empty()))
}

/// The package that a bare specifier names: `hono/jsx` is in `hono`.
pub fn package_of(specifier: &str) -> &str {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    match specifier.match_indices('/').nth(parts - 1) {
        Some((at, _)) => &specifier[..at],
        None => specifier,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npm_specifiers() {
        let split = |s: &str| split_npm(s);
        assert_eq!(split("hono@4"), ("hono".into(), Some("4".into())));
        assert_eq!(split("hono"), ("hono".into(), None));
        assert_eq!(split("/@a/b@^1.2/c/d"), ("@a/b/c/d".into(), Some("^1.2".into())));
        assert_eq!(split("@a/b/c"), ("@a/b/c".into(), None));
        assert_eq!(split("@a"), ("@a".into(), None));
        assert_eq!(package_of("@a/b/c"), "@a/b");
        assert_eq!(package_of("hono/jsx/x"), "hono");
    }
}
