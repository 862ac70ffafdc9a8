//! `verge build`: from a folder to a deployment folder.

use std::path::{Path, PathBuf};

use serde_json::json;
use verge_bundle::{AppConfig, BuildOptions, Built, Bundler, Project};

use crate::cli::Build;
use crate::failure::Failure;
use crate::terminal::{Style, Terminal};

/// Below the project; dot folders are neither assets nor watched.
const DEFAULT_OUT: &str = ".verge/deployment";

pub fn run(args: &Build, terminal: &Terminal) -> Result<(), Failure> {
    let (project, config) = open(&args.dir, args.env.as_deref())?;
    let out = args.out.clone().unwrap_or_else(|| project.dir().join(DEFAULT_OUT));
    let options = BuildOptions {
        minify: args.minify,
        environment: args.env.clone(),
        out_dir: Some(out.clone()),
        ..BuildOptions::default()
    };
    let built = build(&project, &config, options, terminal)?;
    if terminal.is_json() {
        let mut value = summary(&config, &built);
        value["out"] = json!(out);
        terminal.result(&value);
        return Ok(());
    }
    terminal.note(&format!(
        "{} {} {} in {} ms: {}",
        terminal.paint(Style::Good, "built"),
        config.name,
        terminal.paint(Style::Faint, built.deployment.id.as_str()),
        built.took.as_millis(),
        contents(&built),
    ));
    terminal.print(&out.display().to_string());
    Ok(())
}

/// The project in `dir` and its configuration.
pub fn open(dir: &Path, environment: Option<&str>) -> Result<(Project, AppConfig), Failure> {
    let project = Project::find(dir).map_err(|error| Failure::config(dir, error))?;
    let config = project.config(environment).map_err(|error| Failure::config(dir, error))?;
    Ok((project, config))
}

/// One build, with its warnings told.
pub fn build(
    project: &Project,
    config: &AppConfig,
    options: BuildOptions,
    terminal: &Terminal,
) -> Result<Built, Failure> {
    for guess in &config.guesses {
        if terminal.is_verbose() {
            terminal.note(&format!("guessed {guess}"));
        }
    }
    let built = Bundler::new(project.dir(), bundler_folders())
        .build(config, options)
        .map_err(|error| Failure::build(config.name.as_str(), &error))?;
    if !terminal.is_json() {
        for warning in &built.warnings {
            terminal.warning(config.name.as_str(), warning);
        }
    }
    Ok(built)
}

/// What scripts want to know of a build.
pub fn summary(config: &AppConfig, built: &Built) -> serde_json::Value {
    json!({
        "app": config.name.as_str(),
        "id": built.deployment.id.as_str(),
        "modules": built.deployment.modules.len(),
        "bytes": built.deployment.script_size(),
        "took_ms": u64::try_from(built.took.as_millis()).unwrap_or(u64::MAX),
        "warnings": built.warnings,
    })
}

/// `3 modules, 12.4 kB; assets of public`.
pub fn contents(built: &Built) -> String {
    let deployment = &built.deployment;
    let mut parts = Vec::new();
    if !deployment.modules.is_empty() {
        let count = deployment.modules.len();
        let plural = if count == 1 { "" } else { "s" };
        parts.push(format!("{count} module{plural}, {}", size(deployment.script_size())));
    }
    if let Some(assets) = &deployment.assets {
        let name = assets.directory.file_name().unwrap_or(assets.directory.as_os_str());
        parts.push(format!("assets of {}", name.to_string_lossy()));
    }
    parts.join("; ")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// Where a bundler may lie that came with this program: `js/bundler` beside any folder above it.
pub fn bundler_folders() -> Vec<PathBuf> {
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    program
        .ancestors()
        .map(|folder| folder.join("js/bundler"))
        .filter(|folder| folder.is_dir())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(12_345), "12.3 kB");
        assert_eq!(size(7_650_000), "7.6 MB");
    }
}
