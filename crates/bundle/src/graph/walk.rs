//! Follows the relative imports from the entry and gathers the modules.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use verge_types::{Module, ModuleKind};

use super::imports::Import;
use super::resolve;
use super::transpile::{TranspileCache, Transpiled};
use crate::compiler_options::CompilerOptions;
use crate::config::AppConfig;
use crate::diagnostic::{BuildError, Diagnostic};
use crate::node_builtins::{is_node_builtin, is_provided};

/// Most modules of an app's own.
const MAX_MODULES: usize = 20_000;

/// Why the modules as they are do not make the deployment.
#[derive(Clone, Debug)]
pub struct Outside {
    /// What was imported, or what else needs the bundler.
    pub specifier: String,
    pub diagnostic: Diagnostic,
}

/// What the walk found.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: BTreeMap<PathBuf, Found>,
    /// Bare specifiers and other things only the bundler can do; empty: no bundler is needed.
    pub outside: Vec<Outside>,
    /// Relative imports that lead nowhere, files without a kind.
    pub errors: Vec<Diagnostic>,
}

#[derive(Debug)]
enum Found {
    Code(Arc<Transpiled>, Vec<(Import, Target)>),
    Other(ModuleKind, Bytes),
}

#[derive(Clone, Debug)]
enum Target {
    File(PathBuf),
    Provided(String),
}

pub fn walk(
    main: &Path,
    config: &AppConfig,
    options: &CompilerOptions,
    cache: &mut TranspileCache,
    watched: &mut BTreeSet<PathBuf>,
) -> Result<Graph, BuildError> {
    let mut graph = Graph::default();
    let mut queue = VecDeque::from([(main.to_owned(), ModuleKind::Esm)]);
    let mut seen: HashSet<PathBuf> = HashSet::from([main.to_owned()]);
    let mut syntax = Vec::new();
    while let Some((path, kind)) = queue.pop_front() {
        if graph.nodes.len() >= MAX_MODULES {
            let text = format!("the app has more than {MAX_MODULES} modules");
            return Err(BuildError::one(Diagnostic::error(text)));
        }
        watched.insert(path.clone());
        let bytes = std::fs::read(&path).map_err(|source| BuildError::Io {
            doing: "read",
            path: path.clone(),
            source,
        })?;
        if kind != ModuleKind::Esm {
            graph.nodes.insert(path, Found::Other(kind, bytes.into()));
            continue;
        }
        let shown = PathBuf::from(crate::paths::shown(&config.root, &path));
        let Ok(text) = String::from_utf8(bytes) else {
            graph.errors.push(Diagnostic::error("this module is not UTF-8").in_file(&shown));
            continue;
        };
        if !super::depth::is_shallow(&text) {
            let text =
                "this module nests too deep to be transpiled in process; it needs the bundler";
            graph.outside.push(Outside {
                specifier: String::new(),
                diagnostic: Diagnostic::error(text).in_file(&shown),
            });
            continue;
        }
        let module = match cache.get(&path, &shown, text, options) {
            Ok(module) => module,
            Err(errors) => {
                syntax.extend(errors);
                continue;
            }
        };
        if module.imports.is_commonjs || is_commonjs_file(&path) {
            let text = "CommonJS modules need the bundler";
            graph.outside.push(Outside {
                specifier: String::new(),
                diagnostic: Diagnostic::error(text).in_file(&shown),
            });
        }
        let mut targets = Vec::new();
        for import in &module.imports.imports {
            match follow(import, &path, &module, &shown, config, options, &mut graph) {
                Some((Target::File(file), kind)) => {
                    targets.push((import.clone(), Target::File(file.clone())));
                    if seen.insert(file.clone()) {
                        queue.push_back((file, kind));
                    }
                }
                Some((target, _)) => targets.push((import.clone(), target)),
                None => {}
            }
        }
        graph.nodes.insert(path, Found::Code(module, targets));
    }
    cache.retain(|path| seen.contains(path));
    if syntax.is_empty() { Ok(graph) } else { Err(BuildError::Diagnostics(syntax)) }
}

fn is_commonjs_file(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "cjs" || e == "cts")
}

/// Where an import leads, or `None` after it was noted as outside or as an error.
fn follow(
    import: &Import,
    from: &Path,
    module: &Transpiled,
    shown: &Path,
    config: &AppConfig,
    options: &CompilerOptions,
    graph: &mut Graph,
) -> Option<(Target, ModuleKind)> {
    let specifier = import.specifier.as_str();
    if is_provided(specifier) {
        return Some((Target::Provided(specifier.to_owned()), ModuleKind::Esm));
    }
    let relative = specifier.starts_with("./") || specifier.starts_with("../");
    let mapped = options.imports.iter().any(|(name, _)| specifier.starts_with(name.as_str()));
    if !relative && !mapped && is_node_builtin(specifier) {
        return Some((Target::Provided(format!("node:{specifier}")), ModuleKind::Esm));
    }
    // The place in what the user wrote: transpiling moves lines.
    let place = |message: String| {
        let quoted = [format!("\"{specifier}\""), format!("'{specifier}'")];
        let at =
            quoted.iter().find_map(|q| module.original.find(q.as_str()).map(|n| n..n + q.len()));
        match at {
            Some(span) => Diagnostic::error(message).at(shown, &module.original, &span),
            None => Diagnostic::error(message).in_file(shown),
        }
    };
    if !relative {
        graph.outside.push(Outside {
            specifier: specifier.to_owned(),
            diagnostic: place(format!("\"{specifier}\" is a package and needs the bundler")),
        });
        return None;
    }
    let Some(file) = resolve::file(from, specifier) else {
        graph.errors.push(place(format!("there is no file \"{specifier}\"")));
        return None;
    };
    match resolve::kind(&file, import.kind.as_deref(), &config.rules) {
        Some(kind) => Some((Target::File(file), kind)),
        None => {
            let text =
                format!("\"{specifier}\" is of no known kind of module; `rules` can say which");
            graph.errors.push(place(text));
            None
        }
    }
}

impl Graph {
    /// The modules with imports rewritten, and the entry's path among them.
    pub fn into_modules(self, main: &Path, root: &Path) -> (String, Vec<Module>) {
        let base = common_folder(self.nodes.keys().map(PathBuf::as_path), root);
        let name = |path: &Path| crate::paths::shown(&base, path);
        let mut modules = Vec::with_capacity(self.nodes.len());
        for (path, found) in &self.nodes {
            let module_path = name(path);
            modules.push(match found {
                Found::Other(kind, bytes) => Module {
                    path: module_path,
                    kind: *kind,
                    source: bytes.clone(),
                    source_map: None,
                },
                Found::Code(code, targets) => {
                    let folder = module_path.rsplit_once('/').map_or("", |(f, _)| f).to_owned();
                    let rewritten =
                        rewrite(code, targets, |file| crate::paths::relative(&folder, &name(file)));
                    let shown =
                        crate::paths::source_name(&folder, &crate::paths::shown(root, path));
                    Module {
                        path: module_path,
                        kind: ModuleKind::Esm,
                        source: rewritten.into(),
                        source_map: code
                            .source_map
                            .as_deref()
                            .and_then(|map| name_source(map, &shown, &code.original)),
                    }
                }
            });
        }
        (name(main), modules)
    }
}

/// The project, or the nearest folder above it that holds all modules.
fn common_folder<'a>(paths: impl Iterator<Item = &'a Path>, root: &Path) -> PathBuf {
    let mut base = root.to_owned();
    for path in paths {
        while !path.starts_with(&base) {
            if !base.pop() {
                break;
            }
        }
    }
    base
}

/// Replaces specifiers and takes import attributes away, from the end so that spans stay true.
fn rewrite(
    code: &Transpiled,
    targets: &[(Import, Target)],
    relative: impl Fn(&Path) -> String,
) -> String {
    let mut text = code.code.clone();
    let mut edits: Vec<_> = targets.iter().collect();
    edits.sort_by_key(|(import, _)| std::cmp::Reverse(import.span.start));
    for (import, target) in edits {
        let specifier = match target {
            Target::File(file) => relative(file),
            Target::Provided(name) => name.clone(),
        };
        if let Some(attributes) = &import.attributes {
            text.replace_range(attributes.clone(), "");
        }
        if specifier != import.specifier {
            // A path is written as a JSON string, which is a JavaScript string as well.
            let literal = serde_json::Value::from(specifier).to_string();
            text.replace_range(import.span.clone(), &literal);
        }
    }
    text
}

/// Names the one source of a map and puts its content in.
fn name_source(map: &str, shown: &str, original: &str) -> Option<Bytes> {
    let mut map: serde_json::Map<String, serde_json::Value> = serde_json::from_str(map).ok()?;
    map.insert("sources".into(), vec![shown].into());
    map.insert("sourcesContent".into(), vec![original].into());
    serde_json::to_vec(&map).ok().map(Bytes::from)
}
