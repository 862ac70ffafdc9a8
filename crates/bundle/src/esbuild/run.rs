//! One run of esbuild.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use verge_types::Module;

use super::arguments::{ENTRY, Wanted, arguments};
use super::metafile::Metafile;
use super::{messages, outputs, program};
use crate::child;
use crate::compiler_options::{Mapped, package_of, resolve};
use crate::diagnostic::{BuildError, Diagnostic, Severity};

pub struct Job<'a> {
    pub wanted: Wanted<'a>,
    /// Folders with a `node_modules` that may hold esbuild.
    pub search: &'a [PathBuf],
    pub cancelled: &'a Arc<AtomicBool>,
}

pub struct Bundled {
    pub main: String,
    pub modules: Vec<Module>,
    pub inputs: BTreeSet<PathBuf>,
    pub warnings: Vec<String>,
}

/// Prefix of the temporary folders.
const TEMPORARY: &str = "verge-build-";

/// A folder that nobody touched for this long belongs to a build that was killed: no build may
/// take longer than an hour.
const ABANDONED_AFTER: Duration = Duration::from_secs(2 * 3600);

/// Removes what killed builds left behind.
pub fn remove_abandoned() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let old = || {
            let changed = entry.metadata().ok()?.modified().ok()?;
            Some(changed.elapsed().ok()? > ABANDONED_AFTER)
        };
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if ours && old() == Some(true) {
            // Somebody else may be removing it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

pub fn bundle(job: &Job<'_>) -> Result<Bundled, BuildError> {
    let config = job.wanted.config;
    let root = &config.root;
    // Removed when this returns, whatever happens.
    let temporary = tempfile::Builder::new().prefix(TEMPORARY).tempdir().map_err(|source| {
        BuildError::Io { doing: "make a folder in", path: std::env::temp_dir(), source }
    })?;
    let folder = std::fs::canonicalize(temporary.path()).map_err(|source| BuildError::Io {
        doing: "open",
        path: temporary.path().to_owned(),
        source,
    })?;
    let (out, meta) = (folder.join("out"), folder.join("meta.json"));
    // First: what is wrong with the code is told whether or not there is a bundler.
    let arguments = arguments(&job.wanted, &out, &meta)?;
    let program = program::find(root, job.search)?;
    let mut command = Command::new(&program);
    command.current_dir(root).args(arguments);
    // It must not read flags or a service address out of our environment.
    command.env_remove("ESBUILD_BINARY_PATH").env("NO_COLOR", "1");
    let limit = config.build_timeout;
    let finished = child::run(command, "esbuild", &program, limit, job.cancelled, false)?;
    let mut found = messages::parse(&finished.output);
    if !finished.status.success() {
        found.retain(|d| d.severity == Severity::Error);
        if found.is_empty() {
            let text = finished.output.lines().take(20).collect::<Vec<_>>().join("\n");
            return Err(BuildError::Bundler(format!(
                "esbuild ended with {}: {text}",
                finished.status
            )));
        }
        found.iter_mut().for_each(|d| explain(d, &job.wanted));
        return Err(BuildError::Diagnostics(found));
    }
    let meta = read_meta(&meta)?;
    let collected = outputs::collect(&meta, &out, root, config)?;
    let mut warnings: Vec<String> = found.iter().map(ToString::to_string).collect();
    warnings.extend(collected.warnings);
    Ok(Bundled {
        main: ENTRY.into(),
        modules: collected.modules,
        inputs: collected.inputs,
        warnings,
    })
}

fn read_meta(path: &Path) -> Result<Metafile, BuildError> {
    let bytes = std::fs::read(path).map_err(|source| BuildError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|e| BuildError::Bundler(format!("its metafile is not understood: {e}")))
}

/// Says what to run when a package is missing, in place of the bundler's own advice.
fn explain(diagnostic: &mut Diagnostic, wanted: &Wanted<'_>) {
    let Some(specifier) = diagnostic
        .message
        .strip_prefix("Could not resolve \"")
        .and_then(|rest| rest.split('"').next())
        .map(str::to_owned)
    else {
        return;
    };
    if specifier.starts_with('.') || specifier.starts_with('/') {
        return;
    }
    let root = &wanted.config.root;
    let asked = wanted
        .options
        .imports
        .values()
        .cloned()
        .chain(wanted.specifiers.iter().map(|s| resolve(s, root)))
        .find_map(|mapped| match mapped {
            Mapped::Npm { name, requirement: Some(requirement) }
                if package_of(&name) == package_of(&specifier) =>
            {
                Some(requirement)
            }
            _ => None,
        });
    let package = package_of(&specifier);
    let at = asked.map(|r| format!("@{r}")).unwrap_or_default();
    let installed = root.ancestors().any(|dir| dir.join("node_modules").join(package).is_dir());
    diagnostic.notes.clear();
    diagnostic.notes.push(if installed {
        format!("`{package}` is installed but has no such module for Workers")
    } else if root.join("package.json").is_file() && listed(root, package) {
        format!("`{package}` is in package.json but not installed: run `npm install`")
    } else {
        format!("run `npm install {package}{at}`")
    });
}

fn listed(root: &Path, package: &str) -> bool {
    crate::config::read_bounded(&root.join("package.json"), 1024 * 1024)
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .is_some_and(|json| {
            ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"]
                .iter()
                .any(|key| json.get(key).and_then(|d| d.get(package)).is_some())
        })
}
