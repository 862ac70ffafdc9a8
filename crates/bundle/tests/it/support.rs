//! Projects in temporary folders and the bundler for them.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up its project has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use verge_bundle::{AppConfig, BuildError, BuildOptions, Built, Bundler, Project};
use verge_types::{Deployment, Module};

/// A project that is removed with the test.
pub struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            folder.write(path, text);
        }
        folder
    }

    /// With `node_modules` that hold hono, react and react-dom.
    pub fn with_packages(files: &[(&str, &str)]) -> Self {
        let folder = Self::new(files);
        let link = folder.path().join("node_modules");
        std::os::unix::fs::symlink(packages(), link).unwrap();
        folder
    }

    pub fn path(&self) -> PathBuf {
        std::fs::canonicalize(self.dir.path()).unwrap()
    }

    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn config(&self) -> AppConfig {
        Project::find(&self.path()).unwrap().config(None).unwrap()
    }

    pub fn bundler(&self) -> Bundler {
        Bundler::new(&self.path(), vec![esbuild()])
    }

    /// A bundler that finds no esbuild but one on `PATH`.
    pub fn bundler_without_search(&self) -> Bundler {
        Bundler::new(&self.path(), Vec::new())
    }

    pub fn build(&self) -> Result<Built, BuildError> {
        self.bundler().build(&self.config(), BuildOptions::default())
    }

    pub fn deployment(&self) -> Deployment {
        self.build().unwrap_or_else(|e| panic!("{e}")).deployment
    }
}

pub fn module<'a>(deployment: &'a Deployment, path: &str) -> &'a Module {
    let paths: Vec<_> = deployment.modules.iter().map(|m| &m.path).collect();
    deployment
        .modules
        .iter()
        .find(|m| m.path == path)
        .unwrap_or_else(|| panic!("no module {path} among {paths:?}"))
}

pub fn code(deployment: &Deployment, path: &str) -> String {
    String::from_utf8(module(deployment, path).source.to_vec()).unwrap()
}

/// All ES modules together.
pub fn all_code(deployment: &Deployment) -> String {
    deployment
        .modules
        .iter()
        .filter(|m| m.kind == verge_types::ModuleKind::Esm)
        .map(|m| String::from_utf8_lossy(&m.source).into_owned())
        .collect()
}

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder whose `node_modules` holds the pinned esbuild.
pub fn esbuild() -> PathBuf {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY.get_or_init(|| installed(&manifest_dir().join("../../js/bundler"), "@esbuild")).clone()
}

fn packages() -> PathBuf {
    static READY: OnceLock<PathBuf> = OnceLock::new();
    READY
        .get_or_init(|| installed(&manifest_dir().join("tests/fixtures/packages"), "hono"))
        .join("node_modules")
}

/// `npm ci` where it was not run yet; a lock file keeps two test processes apart.
fn installed(folder: &Path, has: &str) -> PathBuf {
    let folder = std::fs::canonicalize(folder).unwrap();
    let lock = std::fs::File::create(
        std::env::temp_dir()
            .join(format!("verge-npm-{}.lock", folder.to_string_lossy().replace('/', "-"))),
    )
    .unwrap();
    lock.lock().unwrap();
    if !folder.join("node_modules").join(has).is_dir() {
        let status = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&folder)
            .status()
            .unwrap();
        assert!(status.success(), "npm ci in {}", folder.display());
    }
    folder
}
