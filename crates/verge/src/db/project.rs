//! Which databases a command may mean: those of the project's configuration, and those that lie in
//! its data folder.

use std::path::{Path, PathBuf};

use verge_bundle::{AppConfig, DatabaseConfig, Project, database_dataset};
use verge_types::DatasetId;

use super::args::Place;
use crate::failure::Failure;
use crate::terminal::Terminal;

/// What every database's dataset begins with.
const PREFIX: &str = "sql/";

/// Where a command works.
#[derive(Clone)]
pub struct Context {
    pub terminal: Terminal,
    pub place: Place,
    /// `None` where there is no project and only `--data` was given.
    config: Option<AppConfig>,
    pub data: PathBuf,
}

/// A database that was named.
#[derive(Clone, Debug)]
pub struct Named {
    pub dataset: DatasetId,
    pub name: String,
    /// Its entry in the configuration, if it has one: then it is made by its first use.
    pub config: Option<DatabaseConfig>,
}

impl Context {
    pub fn new(place: Place, terminal: Terminal) -> Result<Self, Failure> {
        let dir = place.config.clone().unwrap_or_else(|| PathBuf::from("."));
        let project = Project::find(&dir).map_err(|error| Failure::config(&dir, error))?;
        if let Some(data) = &place.data
            && place.config.is_none()
            && project.config_file().is_none()
        {
            // A data folder needs no project.
            let data = data.clone();
            return Ok(Self { terminal, place, config: None, data });
        }
        let config = project.config(place.env.as_deref());
        let config = config.map_err(|error| Failure::config(&dir, error))?;
        let data = place.data.clone().unwrap_or_else(|| config.root.join(".verge/data"));
        Ok(Self { terminal, place, config: Some(config), data })
    }

    pub fn databases(&self) -> &[DatabaseConfig] {
        self.config.as_ref().map_or(&[], |config| &config.databases)
    }

    /// The database of a name, or the only one.
    pub fn database(&self, name: Option<&str>) -> Result<Named, Failure> {
        let Some(name) = name else { return self.only_one() };
        let known = self
            .databases()
            .iter()
            .find(|database| database.binding == name || database.name.eq_ignore_ascii_case(name));
        if let Some(config) = known {
            return Ok(Named::of(config));
        }
        let dataset = dataset_of(name)?;
        Ok(Named { dataset, name: name.to_ascii_lowercase(), config: None })
    }

    fn only_one(&self) -> Result<Named, Failure> {
        match self.databases() {
            [one] => Ok(Named::of(one)),
            [] => Err(Failure::new("usage", "which database? The configuration has none")
                .hint("name one (`verge db list` shows them), or add it to `d1_databases`")),
            several => {
                let names: Vec<_> = several.iter().map(|one| one.binding.as_str()).collect();
                let message = format!("which database? The configuration has {}", several.len());
                Err(Failure::new("usage", message)
                    .hint(format!("name one of them: {}", names.join(", "))))
            }
        }
    }

    /// Nothing of that name is there.
    pub fn missing(&self, named: &Named) -> Failure {
        let mut message = format!("there is no database `{}`", named.name);
        if named.config.is_some() {
            message.push_str(" yet");
        }
        let known = self.databases().iter().flat_map(|one| [&one.binding, &one.name]);
        let near = verge_bundle::nearest(&named.name, known.map(String::as_str));
        let hint = match (&named.config, near) {
            (Some(_), _) => format!(
                "it is made by its first use: by the app, by `verge db execute`, or by `verge db create {}`",
                named.name
            ),
            (None, Some(near)) => format!("did you mean `{near}`? `verge db list` shows all"),
            (None, None) => {
                format!("`verge db list` shows all; `verge db create {}` makes it", named.name)
            }
        };
        Failure::new("no_database", message).hint(hint)
    }
}

/// The `database_name` that is meant, for asking a `verge dev` that may serve another project than
/// the one here: what this one does not know is left as it is.
pub fn name_for_running(
    place: &Place,
    terminal: &Terminal,
    name: Option<&str>,
) -> Result<String, Failure> {
    match (Context::new(place.clone(), *terminal), name) {
        (Ok(context), None) => context.only_one().map(|named| named.name),
        (Err(failure), None) => Err(failure),
        (Err(_), Some(name)) => Ok(name.to_owned()),
        (Ok(context), Some(name)) => {
            let bound = context.databases().iter().find(|database| database.binding == name);
            Ok(bound.map_or_else(|| name.to_owned(), |database| database.name.clone()))
        }
    }
}

impl Named {
    pub fn of(config: &DatabaseConfig) -> Self {
        Self {
            dataset: config.dataset.clone(),
            name: config.name.clone(),
            config: Some(config.clone()),
        }
    }

    /// Its first use may make it.
    pub fn may_be_made(&self) -> bool {
        self.config.is_some()
    }
}

pub fn dataset_of(name: &str) -> Result<DatasetId, Failure> {
    database_dataset(name).ok_or_else(|| {
        Failure::new("usage", format!("`{name}` is no database name"))
            .hint("use letters, digits, `-`, `_` and `.`, at most 120")
    })
}

/// The name of a dataset that is a database.
pub fn name_of(dataset: &str) -> Option<&str> {
    dataset.strip_prefix(PREFIX)
}

/// As the user may have written it: relative to here if that is shorter.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    relative.unwrap_or_else(|| path.to_owned()).display().to_string()
}
