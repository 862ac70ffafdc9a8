//! The command line that esbuild gets.
//!
//! Only documented flags: the service protocol of its JavaScript package is an inner matter that
//! may change with any release, and a project may bring its own version.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use verge_types::ModuleKind;

use crate::compiler_options::{CompilerOptions, Jsx, Mapped, resolve};
use crate::config::AppConfig;
use crate::diagnostic::{BuildError, Diagnostic};
use crate::node_builtins::NODE_BUILTINS;

/// The entry's name in the output.
pub const ENTRY: &str = "index.js";

pub struct Wanted<'a> {
    pub main: &'a Path,
    pub config: &'a AppConfig,
    pub options: &'a CompilerOptions,
    /// Specifiers other than relative ones in the app's own modules.
    pub specifiers: &'a BTreeSet<String>,
    pub dev: bool,
    pub minify: bool,
}

pub fn arguments(
    wanted: &Wanted<'_>,
    out: &Path,
    meta: &Path,
) -> Result<Vec<OsString>, BuildError> {
    let config = wanted.config;
    let mut list: Vec<OsString> = Vec::new();
    let mut push = |text: String| list.push(text.into());
    for fixed in [
        "--bundle",
        "--format=esm",
        "--platform=browser",
        "--target=es2024",
        "--conditions=workerd,worker,browser",
        "--splitting",
        "--sourcemap=external",
        "--sources-content=true",
        "--charset=utf8",
        "--log-level=warning",
        "--log-limit=0",
        "--color=false",
        "--chunk-names=chunks/[name]-[hash]",
        "--asset-names=modules/[name]-[hash]",
        "--external:node:*",
        "--external:cloudflare:*",
        // Workers code may hold JSX in any JavaScript file.
        "--loader:.js=jsx",
        "--loader:.mjs=jsx",
        "--loader:.cjs=jsx",
    ] {
        push(fixed.into());
    }
    for (extension, loader) in loaders(config) {
        push(format!("--loader:.{extension}={loader}"));
    }
    for builtin in NODE_BUILTINS {
        if !config.alias.contains_key(*builtin) && !wanted.options.imports.contains_key(*builtin) {
            push(format!("--alias:{builtin}=node:{builtin}"));
        }
    }
    for (name, target) in aliases(wanted)? {
        push(format!("--alias:{name}={target}"));
    }
    let mode = if wanted.dev { "development" } else { "production" };
    let node_env = "process.env.NODE_ENV";
    if !config.define.contains_key(node_env) {
        push(format!("--define:{node_env}=\"{mode}\""));
    }
    for (name, value) in &config.define {
        push(format!("--define:{name}={value}"));
    }
    if config.keep_names {
        push("--keep-names".into());
    }
    if wanted.minify {
        push("--minify".into());
    }
    match &wanted.options.jsx {
        Jsx::Automatic { import_source } => {
            push("--jsx=automatic".into());
            push(format!("--jsx-import-source={import_source}"));
        }
        Jsx::Classic { factory, fragment } => {
            push("--jsx=transform".into());
            push(format!("--jsx-factory={factory}"));
            push(format!("--jsx-fragment={fragment}"));
        }
    }
    let mut path = |flag: &str, path: &Path| {
        let mut text = OsString::from(flag);
        text.push(path);
        list.push(text);
    };
    if let Some(tsconfig) = &config.tsconfig {
        path("--tsconfig=", tsconfig);
    }
    path("--outdir=", out);
    path("--metafile=", meta);
    path("index=", wanted.main);
    Ok(list)
}

/// Extension to loader: rules first, then what Workers code expects.
fn loaders(config: &AppConfig) -> BTreeMap<String, &'static str> {
    let mut loaders: BTreeMap<String, &'static str> =
        ["wasm", "txt", "html", "sql", "bin"].iter().map(|e| ((*e).to_owned(), "copy")).collect();
    for rule in config.rules.iter().rev() {
        for extension in &rule.extensions {
            let loader = match rule.kind {
                ModuleKind::Esm => match extension.as_str() {
                    "ts" | "mts" | "cts" => "ts",
                    "tsx" => "tsx",
                    _ => "jsx",
                },
                ModuleKind::Json => "json",
                ModuleKind::Text | ModuleKind::Data | ModuleKind::Wasm => "copy",
            };
            loaders.insert(extension.clone(), loader);
        }
    }
    loaders
}

/// The kind of a copied module by its extension.
pub fn copied_kind(config: &AppConfig, name: &str) -> Option<ModuleKind> {
    crate::graph::kind_of(Path::new(name), &config.rules)
}

/// `alias` of the configuration, the import map, and `npm:` specifiers in the code.
fn aliases(wanted: &Wanted<'_>) -> Result<BTreeMap<String, String>, BuildError> {
    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, target) in &wanted.options.imports {
        alias(name, target, &mut found, &mut wrong);
    }
    for specifier in wanted.specifiers {
        let mapped = wanted.options.imports.iter().any(|(name, _)| {
            specifier == name || (name.ends_with('/') && specifier.starts_with(name.as_str()))
        });
        let scheme = ["npm:", "jsr:", "http:", "https:"].iter().any(|s| specifier.starts_with(s));
        if scheme && !mapped {
            alias(specifier, &resolve(specifier, &wanted.config.root), &mut found, &mut wrong);
        }
    }
    for (name, target) in &wanted.config.alias {
        found.insert(name.clone(), target.clone());
    }
    if wrong.is_empty() { Ok(found) } else { Err(BuildError::Diagnostics(wrong)) }
}

fn alias(
    name: &str,
    target: &Mapped,
    found: &mut BTreeMap<String, String>,
    wrong: &mut Vec<Diagnostic>,
) {
    if name.starts_with('.') || name.starts_with('/') {
        let text = format!("import map: `{name}` is a path; only names like `@/` can be mapped");
        wrong.push(Diagnostic::error(text));
        return;
    }
    // An alias also stands for what is below it, so `@/` is the alias `@`.
    let key = name.trim_end_matches('/');
    match target {
        Mapped::Npm { name: package, .. } => {
            let package = package.trim_end_matches('/');
            if key != package {
                found.insert(key.to_owned(), package.to_owned());
            }
        }
        Mapped::File(path) => {
            found.insert(key.to_owned(), path.to_string_lossy().into_owned());
        }
        Mapped::Provided(specifier) => {
            if key != specifier {
                found.insert(key.to_owned(), specifier.clone());
            }
        }
        Mapped::Refused { specifier } => {
            let text = if specifier.starts_with("jsr:") {
                format!(
                    "`{specifier}`: packages of JSR are not in this version of Verge; use `npx jsr add` or an npm package"
                )
            } else {
                format!(
                    "`{specifier}`: modules are not fetched from the network; install the package with npm"
                )
            };
            wrong.push(Diagnostic::error(text));
        }
    }
}
