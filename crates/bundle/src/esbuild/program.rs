//! Where the esbuild program is.

use std::path::{Path, PathBuf};

use crate::diagnostic::BuildError;

/// The version that `js/bundler/package.json` pins and the tests run.
pub const ESBUILD_VERSION: &str = "0.28.2";

/// `VERGE_ESBUILD`, the project's packages (its own and those of the folders above it), the
/// search folders, `PATH`.
pub fn find(project: &Path, search: &[PathBuf]) -> Result<PathBuf, BuildError> {
    if let Some(named) = std::env::var_os("VERGE_ESBUILD") {
        let named = PathBuf::from(named);
        if named.is_file() {
            return Ok(named);
        }
        let text = format!("VERGE_ESBUILD names `{}`, which is no file", named.display());
        return Err(BuildError::NoBundler(text));
    }
    let folders = project.ancestors().map(Path::to_owned).chain(search.iter().cloned());
    for folder in folders {
        for packages in [folder.join("node_modules"), folder] {
            if let Some(program) = in_packages(&packages) {
                return Ok(program);
            }
        }
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(program) =
        std::env::split_paths(&on_path).map(|p| p.join("esbuild")).find(|p| p.is_file())
    {
        return Ok(program);
    }
    Err(BuildError::NoBundler(format!(
        "this app needs the bundler esbuild, which is not installed; run \
         `npm install --save-dev esbuild@{ESBUILD_VERSION}` in {}, or name the program with VERGE_ESBUILD",
        project.display()
    )))
}

/// The native program of the platform's package, so that no Node is started.
fn in_packages(packages: &Path) -> Option<PathBuf> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        "x86" => "ia32",
        "riscv64" => "riscv64",
        "loongarch64" => "loong64",
        "powerpc64" => "ppc64",
        "s390x" => "s390x",
        "arm" => "arm",
        other => other,
    };
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let program = packages.join("@esbuild").join(format!("{os}-{arch}")).join("bin/esbuild");
    program.is_file().then_some(program)
}
