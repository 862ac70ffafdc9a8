//! From a configuration to a deployment, again and again.
//!
//! A bundler remembers what it transpiled and hashed, so that a rebuild costs what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use verge_types::{Binding, Deployment, DeploymentId, Module};

use crate::assets::AssetHashes;
use crate::child;
use crate::compiler_options::{self, CompilerOptions};
use crate::config::AppConfig;
use crate::diagnostic::{BuildError, Diagnostic};
use crate::esbuild::{self, Bundled, Job, Wanted};
use crate::folder::StoredDeployment;
use crate::graph::{Graph, TranspileCache, walk, with_stack};

#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// For `verge dev`: development values, `NODE_ENV` is `development`.
    pub dev: bool,
    /// In addition to `minify` of the configuration.
    pub minify: bool,
    /// Handed to `build.command` as `CLOUDFLARE_ENV`; the configuration was already read for it.
    pub environment: Option<String>,
    /// Also write the deployment to this folder, relative to the project.
    pub out_dir: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Built {
    pub deployment: Deployment,
    /// Every file whose change can change the deployment, and folders to watch as a whole.
    pub watched: Vec<PathBuf>,
    pub warnings: Vec<String>,
    pub took: Duration,
}

/// Ends a running build from another thread; later builds run again.
#[derive(Clone, Debug)]
pub struct Canceller(Arc<AtomicBool>);

impl Canceller {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
pub struct Bundler {
    project_dir: PathBuf,
    search: Vec<PathBuf>,
    cancelled: Arc<AtomicBool>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    transpiled: TranspileCache,
    assets: AssetHashes,
    watched: BTreeSet<PathBuf>,
}

impl Bundler {
    /// `search`: folders with a `node_modules` that may hold esbuild, tried after the project's.
    pub fn new(project_dir: &Path, search: Vec<PathBuf>) -> Self {
        esbuild::remove_abandoned();
        Self {
            project_dir: project_dir.to_owned(),
            search,
            cancelled: Arc::default(),
            memory: Mutex::default(),
        }
    }

    pub fn canceller(&self) -> Canceller {
        Canceller(self.cancelled.clone())
    }

    /// What to watch after the last build, also when it failed.
    pub fn watched(&self) -> Vec<PathBuf> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.watched.iter().cloned().collect()
    }

    /// Builds; it blocks, and one build of a bundler runs at a time.
    pub fn build(&self, config: &AppConfig, options: BuildOptions) -> Result<Built, BuildError> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        self.cancelled.store(false, Ordering::Release);
        let mut watched: BTreeSet<PathBuf> = config.files.iter().cloned().collect();
        watched.extend(config.main.iter().cloned());
        let built = self.build_watching(config, &options, &mut memory, &mut watched);
        if built.is_err() {
            // A failed build may have stopped before it saw what the one before it saw.
            let before = std::mem::take(&mut memory.watched);
            watched.extend(before);
        }
        memory.watched = watched;
        built
    }

    fn build_watching(
        &self,
        config: &AppConfig,
        options: &BuildOptions,
        memory: &mut Memory,
        watched: &mut BTreeSet<PathBuf>,
    ) -> Result<Built, BuildError> {
        let started = Instant::now();
        let mut warnings = config.warnings.clone();
        self.run_build_command(config, options, watched)?;
        let mut deployment = Deployment {
            id: DeploymentId::from_digest(&[]),
            main: None,
            modules: Vec::new(),
            compatibility_date: config.compatibility_date.clone(),
            compatibility_flags: config.compatibility_flags.clone(),
            bindings: bindings(config, options.dev),
            crons: config.crons.clone(),
            assets: config.assets.clone(),
        };
        if let Some(main) = &config.main {
            let made = self.modules(main, config, options, &mut memory.transpiled, watched)?;
            deployment.main = Some(made.main);
            deployment.modules = made.modules;
            warnings.extend(made.warnings);
        }
        let (size, limit) = (deployment.script_size(), config.limits.script_size);
        if size > limit {
            return Err(BuildError::ScriptSize { size, limit });
        }
        let mut assets = BTreeMap::new();
        if let Some(wanted) = &deployment.assets {
            assets = memory.assets.read(&wanted.directory)?;
            watched.insert(wanted.directory.clone());
        }
        deployment.id = crate::identity::deployment_id(&deployment, &config.limits, &assets);
        if let Some(out) = &options.out_dir {
            let out = &crate::paths::join(&self.project_dir, out);
            if deployment.assets.as_ref().is_some_and(|a| out.starts_with(&a.directory)) {
                let text = "the output folder lies inside the assets; choose one outside";
                return Err(BuildError::one(Diagnostic::error(text).in_file(out)));
            }
            let stored = StoredDeployment {
                name: config.name.clone(),
                hosts: config.hosts.clone(),
                limits: config.limits.clone(),
                deployment: deployment.clone(),
            };
            crate::folder::write_deployment(&stored, &assets, out)?;
        }
        let watched = watched.iter().cloned().collect();
        Ok(Built { deployment, watched, warnings, took: started.elapsed() })
    }

    fn run_build_command(
        &self,
        config: &AppConfig,
        options: &BuildOptions,
        watched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), BuildError> {
        let Some(build) = &config.build else { return Ok(()) };
        watched.extend(build.watch_dirs.iter().cloned());
        let Some(text) = &build.command else { return Ok(()) };
        let mut command = Command::new("sh");
        command.arg("-c").arg(text).current_dir(&build.cwd);
        if let Some(environment) = &options.environment {
            command.env("CLOUDFLARE_ENV", environment);
        }
        let limit = config.build_timeout;
        let what = "`build.command`";
        let finished = child::run(command, what, Path::new("sh"), limit, &self.cancelled, true)?;
        if finished.status.success() {
            return Ok(());
        }
        let mut diagnostic =
            Diagnostic::error(format!("`build.command` failed: {text} ({})", finished.status));
        let lines: Vec<&str> = finished.output.lines().collect();
        let last = lines.len().saturating_sub(40);
        diagnostic.notes = lines[last..].iter().map(|l| (*l).to_owned()).collect();
        Err(BuildError::one(diagnostic))
    }

    fn modules(
        &self,
        main: &Path,
        config: &AppConfig,
        options: &BuildOptions,
        cache: &mut TranspileCache,
        watched: &mut BTreeSet<PathBuf>,
    ) -> Result<Made, BuildError> {
        let compiler = compiler_options::read(config)?;
        if !main.is_file() {
            let text = "`main`: there is no such file";
            let shown = crate::paths::shown(&config.root, main);
            return Err(BuildError::one(Diagnostic::error(text).in_file(shown)));
        }
        // The same file by another name would be two modules.
        let main = &std::fs::canonicalize(main).map_err(|source| BuildError::Io {
            doing: "open",
            path: main.to_owned(),
            source,
        })?;
        watched.extend(compiler.files.iter().cloned());
        let graph =
            with_stack(|| walk(main, config, &compiler, cache, watched)).map_err(|source| {
                BuildError::Io { doing: "transpile", path: main.clone(), source }
            })??;
        let minify = options.minify || config.minify;
        let replaced = !config.define.is_empty() || !config.alias.is_empty();
        if config.no_bundle || (graph.outside.is_empty() && !minify && !replaced) {
            let mut made = as_they_are(graph, main, config)?;
            if config.no_bundle && (minify || replaced) {
                let text = "`minify`, `define` and `alias` have no effect with `no_bundle`";
                made.warnings.push(text.into());
            }
            return Ok(made);
        }
        let bundled = self.bundle(main, config, &compiler, &graph, options.dev, minify)?;
        watched.extend(bundled.inputs);
        Ok(Made { main: bundled.main, modules: bundled.modules, warnings: bundled.warnings })
    }

    fn bundle(
        &self,
        main: &Path,
        config: &AppConfig,
        compiler: &CompilerOptions,
        graph: &Graph,
        dev: bool,
        minify: bool,
    ) -> Result<Bundled, BuildError> {
        let specifiers: BTreeSet<String> = graph
            .outside
            .iter()
            .map(|o| o.specifier.clone())
            .filter(|specifier| !specifier.is_empty())
            .collect();
        let wanted =
            Wanted { main, config, options: compiler, specifiers: &specifiers, dev, minify };
        let job = Job { wanted, search: &self.search, cancelled: &self.cancelled };
        match esbuild::bundle(&job) {
            Err(BuildError::NoBundler(text)) => {
                // Say which import asks for it.
                let mut found: Vec<_> =
                    graph.outside.iter().map(|o| o.diagnostic.clone()).take(5).collect();
                match found.first_mut() {
                    Some(first) => {
                        first.notes.push(text);
                        Err(BuildError::Diagnostics(found))
                    }
                    None => Err(BuildError::NoBundler(text)),
                }
            }
            other => other,
        }
    }

    pub fn project_dir(&self) -> &Path {
        &self.project_dir
    }
}

struct Made {
    main: String,
    modules: Vec<Module>,
    warnings: Vec<String>,
}

/// The modules without a bundler; whatever would need one is an error here.
fn as_they_are(graph: Graph, main: &Path, config: &AppConfig) -> Result<Made, BuildError> {
    let mut wrong: Vec<Diagnostic> = graph.errors.clone();
    wrong.extend(graph.outside.iter().map(|outside| {
        outside.diagnostic.clone().note("`no_bundle` is set; remove it to use packages")
    }));
    if !wrong.is_empty() {
        return Err(BuildError::Diagnostics(wrong));
    }
    let (main, modules) = graph.into_modules(main, &config.root);
    Ok(Made { main, modules, warnings: Vec::new() })
}

fn bindings(config: &AppConfig, dev: bool) -> BTreeMap<String, Binding> {
    let mut bindings = config.bindings.clone();
    if dev {
        for (name, value) in &config.dev_vars {
            bindings.insert(name.clone(), Binding::Var { value: value.clone().into() });
        }
    }
    bindings
}
