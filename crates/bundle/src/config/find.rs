//! Finds a project's configuration, or guesses what it would say.

use std::io::Read;
use std::path::{Path, PathBuf};

use verge_types::{AppName, AssetsConfig};

use super::app::{AppConfig, MAX_CONFIG_BYTES};
use super::environment::effective;
use super::read::{check_keys, defaults, read_into};
use super::reader::{Reader, entry};
use super::tree::{self, Entry, Node};
use super::{dotenv, guess};
use crate::diagnostic::{Diagnostic, join};

/// In order of preference.
const FILES: [&str; 5] =
    ["verge.jsonc", "verge.json", "wrangler.jsonc", "wrangler.json", "wrangler.toml"];

/// All that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{}", join(&self.diagnostics))]
pub struct ConfigError {
    pub diagnostics: Vec<Diagnostic>,
}

impl From<Diagnostic> for ConfigError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

/// A folder with an app in it.
#[derive(Clone, Debug)]
pub struct Project {
    dir: PathBuf,
    config_file: Option<PathBuf>,
}

impl Project {
    /// Finds the configuration in `dir`, or takes `dir` itself when it is a configuration file.
    pub fn find(dir: &Path) -> Result<Self, ConfigError> {
        let found = std::fs::canonicalize(dir).map_err(|error| {
            Diagnostic::error(format!("cannot open the project: {error}")).in_file(dir)
        })?;
        if found.is_file() {
            let known =
                found.extension().is_some_and(|e| e == "json" || e == "jsonc" || e == "toml");
            let Some(parent) = found.parent().filter(|_| known) else {
                let text = "this is neither a folder nor a .jsonc, .json or .toml file";
                return Err(Diagnostic::error(text).in_file(dir).into());
            };
            return Ok(Self { dir: parent.to_owned(), config_file: Some(found.clone()) });
        }
        let config_file = FILES.iter().map(|name| found.join(name)).find(|path| path.is_file());
        Ok(Self { dir: found, config_file })
    }

    /// The folder that paths start from. Absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn config_file(&self) -> Option<&Path> {
        self.config_file.as_deref()
    }

    /// The configuration of one environment; all errors of the file come together.
    pub fn config(&self, environment: Option<&str>) -> Result<AppConfig, ConfigError> {
        let mut config = defaults(&self.dir, self.folder_name(environment), environment);
        match &self.config_file {
            Some(file) => self.read_file(file, environment, &mut config)?,
            None => {
                if let Some(environment) = environment {
                    let text = format!(
                        "there is no environment `{environment}` without a configuration file"
                    );
                    return Err(Diagnostic::error(text).in_file(&self.dir).into());
                }
            }
        }
        self.guess_missing(&mut config)?;
        let dev = dotenv::read_dev_vars(&self.dir, environment)
            .map_err(|diagnostics| ConfigError { diagnostics })?;
        config.dev_vars = dev.values;
        config.files.extend(dev.files);
        Ok(config)
    }

    fn read_file(
        &self,
        file: &Path,
        environment: Option<&str>,
        config: &mut AppConfig,
    ) -> Result<(), ConfigError> {
        let shown = PathBuf::from(file.file_name().unwrap_or_default());
        let text = read_bounded(file, MAX_CONFIG_BYTES).map_err(|error| {
            Diagnostic::error(format!("cannot read it: {error}")).in_file(&shown)
        })?;
        let mut reader = Reader::new(&shown, &text);
        let read = read_text(&mut reader, environment, config);
        if !reader.errors.is_empty() {
            let mut diagnostics = std::mem::take(&mut reader.errors);
            diagnostics.sort_by_key(|d| (d.line, d.column));
            return Err(ConfigError { diagnostics });
        }
        debug_assert!(read, "a file that is not read has errors");
        config.warnings = reader.take_warnings();
        config.files.push(file.to_owned());
        Ok(())
    }

    fn folder_name(&self, environment: Option<&str>) -> AppName {
        let folder = self.dir.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        guess::app_name(&folder, environment)
    }

    fn guess_missing(&self, config: &mut AppConfig) -> Result<(), ConfigError> {
        if config.main.is_some() || config.assets.is_some() {
            return Ok(());
        }
        if let Some((main, why)) = guess::main(&self.dir) {
            config
                .guesses
                .push(format!("main: `{}` ({why})", crate::paths::shown(&self.dir, &main)));
            config.main = Some(main);
            return Ok(());
        }
        if let Some(directory) = guess::site(&self.dir) {
            config.guesses.push(format!(
                "a static site in `{}` (it has an index.html)",
                crate::paths::shown(&self.dir, &directory)
            ));
            config.assets = Some(AssetsConfig {
                directory,
                html_handling: Default::default(),
                not_found_handling: Default::default(),
                run_worker_first: Default::default(),
            });
            return Ok(());
        }
        let file = match &self.config_file {
            Some(file) => PathBuf::from(file.file_name().unwrap_or_default()),
            None => self.dir.clone(),
        };
        let text = "there is nothing to serve: set `main` or `assets.directory`, or add src/index.ts or index.html";
        Err(Diagnostic::error(text).in_file(file).into())
    }
}

/// Reads a whole file of text; `false` when it could not be read further.
pub fn read_text(
    reader: &mut Reader<'_>,
    environment: Option<&str>,
    config: &mut AppConfig,
) -> bool {
    let toml = reader.file.extension().is_some_and(|e| e == "toml");
    let text = reader.text;
    let parsed = if toml { tree::parse_toml(text) } else { tree::parse_jsonc(text) };
    let root = match parsed {
        Ok(root) => root,
        Err(error) => {
            reader.error(&error.span, error.message);
            return false;
        }
    };
    let top = reader.object("", &root);
    check_keys(reader, "", top);
    let environments = entry(top, "env").map(|e| reader.object("env", &e.node)).unwrap_or_default();
    for env in environments {
        let path = format!("env.{}", env.key);
        let own = reader.object(&path, &env.node);
        check_keys(reader, &path, own);
    }
    read_selected(reader, &root, top, environments, environment, config)
}

/// Reads every environment, so that all errors show, and keeps the one asked for.
fn read_selected(
    reader: &mut Reader<'_>,
    root: &Node,
    top: &[Entry],
    environments: &[Entry],
    environment: Option<&str>,
    config: &mut AppConfig,
) -> bool {
    let blank = config.clone();
    let mut scratch = blank.clone();
    let all: Vec<&Entry> = top.iter().collect();
    let wanted = if environment.is_none() { &mut *config } else { &mut scratch };
    read_into(reader, &all, wanted);
    let top_name = entry(top, "name").is_some().then(|| wanted.name.clone());
    for env in environments {
        let selected = environment == Some(env.key.as_str());
        let mut scratch = blank.clone();
        let into = if selected { &mut *config } else { &mut scratch };
        let before = reader.warnings.len();
        let Some(entries) = effective(reader, top, &env.key, root) else { continue };
        read_into(reader, &entries, into);
        if entry(env.node.entries(), "name").is_none()
            && let Some(name) = &top_name
        {
            into.name = guess::app_name(name.as_str(), Some(&env.key));
        }
        if !selected {
            reader.warnings.truncate(before);
        }
    }
    match environment {
        Some(name) if entry(environments, name).is_none() => {
            effective(reader, top, name, root);
            false
        }
        _ => true,
    }
}

/// The text of a file that is not longer than `max` bytes.
pub fn read_bounded(path: &Path, max: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(std::io::Error::other(format!("it is larger than {max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8"))
}
