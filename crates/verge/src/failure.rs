//! Why a command could not do what it was asked.

use std::path::Path;

use verge_bundle::{BuildError, ConfigError, Diagnostic, FolderError};

/// Shown on the terminal, or as `{"error": …}` with `--json`.
#[derive(Debug)]
pub struct Failure {
    /// Stable, for scripts.
    pub code: &'static str,
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Places in the user's files.
    pub diagnostics: Vec<Diagnostic>,
    pub exit: u8,
    /// With `--json` the one object that says all of it is out already.
    pub told: bool,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            diagnostics: Vec::new(),
            exit: 1,
            told: false,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Something the file system refused.
    pub fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new("io", format!("cannot {doing} {}: {error}", path.display()))
    }

    /// The wrong configuration of the app in `dir`.
    pub fn config(dir: &Path, error: ConfigError) -> Self {
        let count = error.diagnostics.len();
        let what = if count == 1 { "is wrong".to_owned() } else { format!("has {count} errors") };
        Self {
            diagnostics: error.diagnostics,
            ..Self::new("config", format!("the configuration of {} {what}", dir.display()))
        }
    }

    /// The failed build of `app`.
    pub fn build(app: &str, error: &BuildError) -> Self {
        let code = match error {
            BuildError::Diagnostics(_) => "build",
            BuildError::NoBundler(_) => "no_bundler",
            BuildError::TimedOut { .. } => "build_timeout",
            BuildError::Cancelled => "cancelled",
            BuildError::ScriptSize { .. } => "script_size_limit",
            BuildError::Io { .. } | BuildError::Folder(_) => "io",
            BuildError::Bundler(_) => "bundler",
        };
        Self {
            diagnostics: error.diagnostics(),
            ..Self::new(code, format!("{app} does not build"))
        }
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        Self::new("io", error.to_string())
    }
}
