//! The way to the nodes that have the databases: through the process that runs them, or in this
//! one where none does.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use verge_node::{Command, ControlClient, NodeLock, Progress, Report};
use verge_types::PopName;

use super::fleet::{self, Opened};
use super::problem;
use super::project::{Context, Named};
use crate::dev::fleet::FleetFile;
use crate::dev::places;
use crate::failure::Failure;

/// How long a folder may be in the hands of a process that does not listen.
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether a data folder may be made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Make {
    Yes,
    No,
}

/// What runs in this process and can be ended without a change.
static RUNNING: parking_lot::Mutex<Option<Report>> = parking_lot::Mutex::new(None);

/// Ctrl-C ends what runs in good order; where nothing does, and the second time, the process.
pub async fn end_on_interrupt() {
    while tokio::signal::ctrl_c().await.is_ok() {
        match RUNNING.lock().take() {
            Some(report) => report.give_up(),
            None => std::process::exit(INTERRUPTED),
        }
    }
}

/// As a shell says of a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

pub struct Access {
    way: RwLock<Arc<Way>>,
    context: Context,
    /// The place to ask first.
    default: PopName,
    /// What `--pop` said.
    asked: Option<PopName>,
}

enum Way {
    /// A node's folder for each place.
    Running(BTreeMap<PopName, PathBuf>),
    Here(Opened),
}

/// The nodes' folders of a data folder, and whether a process has them.
#[derive(Default)]
struct Found {
    resting: Vec<PopName>,
    running: BTreeMap<PopName, PathBuf>,
}

fn look(data: &Path) -> Result<Found, Failure> {
    let mut found = Found::default();
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(Failure::io("read", data, &error)),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_str().and_then(|name| name.parse::<PopName>().ok());
        let Some(pop) = name.filter(|_| path.join("datasets").is_dir()) else { continue };
        let owner = NodeLock::owner(&path).map_err(|error| problem::of_node(&error))?;
        match owner {
            Some(owner) if owner.control.is_some() => drop(found.running.insert(pop, path)),
            // It is just starting, or does not listen.
            Some(owner) => {
                let in_use = verge_node::Error::InUse { dir: path, pid: owner.pid };
                return Err(problem::of_node(&in_use));
            }
            None => found.resting.push(pop),
        }
    }
    found.resting.sort();
    Ok(found)
}

fn is_alone(pop: &PopName) -> bool {
    pop.as_str() == places::ALONE
}

fn names<'a>(pops: impl IntoIterator<Item = &'a PopName>) -> String {
    pops.into_iter().map(PopName::as_str).collect::<Vec<_>>().join(", ")
}

fn ambiguous(data: &Path, pops: &str) -> Failure {
    let data = data.display();
    Failure::new(
        "usage",
        format!("{data} has the data of a single place and of several points of presence"),
    )
    .hint(format!("say which one with --pop: {pops}"))
}

impl Access {
    /// Finds the nodes; opens them here if nobody has. Another command may be at the same just now:
    /// then it is looked again who has them.
    pub async fn open(context: &Context, make: Make) -> Result<Self, Failure> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            match Self::open_now(context, make).await {
                Err(failure) if failure.code == "in_use" && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                done => {
                    let (way, default, asked) = done?;
                    let way = RwLock::new(Arc::new(way));
                    return Ok(Self { way, context: context.clone(), default, asked });
                }
            }
        }
    }

    /// The way, the place to ask first, and what `--pop` said.
    async fn open_now(
        context: &Context,
        make: Make,
    ) -> Result<(Way, PopName, Option<PopName>), Failure> {
        let (data, asked) = (&context.data, context.place.pop.clone());
        let found = look(data)?;
        let fleet = FleetFile::load(data);
        if !found.running.is_empty() {
            let mut running = found.running;
            if let Some(pop) = &asked {
                if !running.contains_key(pop) {
                    let message = format!(
                        "`{pop}` does not run; what runs here is {}",
                        names(running.keys())
                    );
                    return Err(Failure::new("no_pop", message).hint(
                        "leave --pop out, or start `verge dev` with that point of presence",
                    ));
                }
                running.retain(|one, _| is_alone(one) == is_alone(pop));
            } else if running.keys().any(is_alone) && running.len() > 1 {
                return Err(ambiguous(data, &names(running.keys())));
            }
            let primary = fleet.map(|fleet| fleet.primary).filter(|pop| running.contains_key(pop));
            let default = asked.clone().or(primary).or_else(|| running.keys().next().cloned());
            let default = default.ok_or_else(|| nothing(context))?;
            return Ok((Way::Running(running), default, asked));
        }
        let pops: Vec<_> = found.resting.iter().filter(|pop| !is_alone(pop)).cloned().collect();
        let alone = found.resting.len() > pops.len();
        let wants_alone = match &asked {
            Some(pop) if is_alone(pop) => true,
            Some(pop) if pops.contains(pop) => false,
            Some(pop) if found.resting.is_empty() => {
                let message =
                    format!("there is no point of presence `{pop}` in {}", data.display());
                return Err(Failure::new("no_pop", message)
                    .hint(format!("`verge dev --pops {pop},…` makes it")));
            }
            Some(pop) => {
                let message =
                    format!("there is no point of presence `{pop}` in {}", data.display());
                let hint = format!("there are: {}", names(&found.resting));
                return Err(Failure::new("no_pop", message).hint(hint));
            }
            None if alone && !pops.is_empty() => {
                return Err(ambiguous(data, &names(&found.resting)));
            }
            None => pops.is_empty(),
        };
        if wants_alone {
            if !alone && make == Make::No {
                return Err(nothing(context));
            }
            let opened = fleet::open_alone(data).await?;
            let default = places::ALONE.parse().map_err(|_| nothing(context))?;
            return Ok((Way::Here(opened), default, asked));
        }
        // As `verge dev` had them the last time; a folder alone does not say who belongs together.
        let known = fleet.filter(|fleet| asked.as_ref().is_none_or(|pop| fleet.pops.contains(pop)));
        let fleet = known.unwrap_or_else(|| FleetFile { primary: pops[0].clone(), pops });
        let default = asked.clone().unwrap_or_else(|| fleet.primary.clone());
        Ok((Way::Here(fleet::open_fleet(data, &fleet).await?), default, asked))
    }

    /// `None` where nothing is there yet, which is no failure for a list.
    pub async fn open_if_there(context: &Context) -> Result<Option<Self>, Failure> {
        match Self::open(context, Make::No).await {
            Ok(access) => Ok(Some(access)),
            Err(failure) if failure.code == "no_data" => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub fn default_pop(&self) -> &PopName {
        &self.default
    }

    pub fn asked(&self) -> Option<&PopName> {
        self.asked.as_ref()
    }

    /// True where there are several points of presence.
    pub fn is_fleet(&self) -> bool {
        !is_alone(&self.default)
    }

    pub async fn ask<T: DeserializeOwned>(
        &self,
        pop: &PopName,
        command: Command,
    ) -> Result<T, Failure> {
        self.ask_watched(pop, command, |_| ()).await
    }

    /// Asks for something that takes time; `progress` hears how far it is.
    pub async fn ask_watched<T: DeserializeOwned>(
        &self,
        pop: &PopName,
        command: Command,
        mut progress: impl FnMut(Progress),
    ) -> Result<T, Failure> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let way = self.way.read().clone();
            let asked = Self::ask_once(&way, pop, command.clone(), &mut progress).await;
            let answer = match asked {
                // Another command had the data, and was done just then.
                Err(failure)
                    if failure.code == problem::ENDED
                        && self.is_running()
                        && tokio::time::Instant::now() < until =>
                {
                    tokio::time::sleep(LOOK_EVERY).await;
                    self.look_again().await?;
                    continue;
                }
                asked => asked?,
            };
            return serde_json::from_value(answer).map_err(|error| {
                Failure::new("internal", format!("an answer that is none: {error}"))
            });
        }
    }

    /// Finds who has the data now that the process that had it has ended.
    async fn look_again(&self) -> Result<(), Failure> {
        let found = Self::open(&self.context, Make::No).await?;
        *self.way.write() = found.way.into_inner();
        Ok(())
    }

    async fn ask_once(
        way: &Way,
        pop: &PopName,
        command: Command,
        progress: &mut impl FnMut(Progress),
    ) -> Result<serde_json::Value, Failure> {
        let answer = match way {
            Way::Running(folders) => {
                let folder = folders.get(pop).ok_or_else(|| problem::no_pop(pop))?;
                let mut client = match ControlClient::connect(folder).await {
                    Ok(Some(client)) => client,
                    // Who had the data is gone; another command may be starting on it just now.
                    Ok(None) | Err(verge_node::Error::InUse { .. }) => {
                        return Err(problem::ended());
                    }
                    Err(error) => return Err(problem::of_node(&error)),
                };
                let last = Cell::new(Progress::default());
                let running = client.run_reporting(&command, |now| last.set(now));
                ticking(running, || progress(last.get())).await
            }
            Way::Here(opened) => {
                let node = opened.nodes.get(pop).ok_or_else(|| problem::no_pop(pop))?;
                let report = Report::default();
                let can_give_up = matches!(
                    command,
                    Command::Import { .. } | Command::Export { .. } | Command::Migrate { .. }
                );
                *RUNNING.lock() = can_give_up.then(|| report.clone());
                let running = node.run_reporting(command, &report);
                let answer = ticking(running, || progress(report.progress())).await;
                *RUNNING.lock() = None;
                answer
            }
        };
        answer.map_err(|error| problem::of_node(&error))
    }

    /// Where a database's primary is; waits until one is.
    pub async fn primary(&self, context: &Context, named: &Named) -> Result<PopName, Failure> {
        let command =
            Command::Primary { dataset: named.dataset.to_string(), create: named.may_be_made() };
        let mut last = None;
        // A point of presence that has no copy yet does not know who has one.
        for pop in self.pops() {
            match self.ask::<serde_json::Value>(&pop, command.clone()).await {
                Ok(answer) => {
                    let pop = answer["pop"].as_str().and_then(|pop| pop.parse().ok());
                    return pop
                        .ok_or_else(|| Failure::new("internal", "a primary without a place"));
                }
                Err(failure) if failure.code == "no_database" => {
                    last = Some(context.missing(named))
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(last.unwrap_or_else(|| context.missing(named)))
    }

    /// The place that a read is asked of. One that has no copy yet gets it now.
    pub async fn reader(&self, context: &Context, named: &Named) -> Result<PopName, Failure> {
        let primary = self.primary(context, named).await?;
        match &self.asked {
            Some(asked) if *asked != primary => {
                let dataset = named.dataset.to_string();
                let command = Command::Primary { dataset, create: true };
                self.ask::<serde_json::Value>(asked, command).await?;
                Ok(asked.clone())
            }
            _ => Ok(primary),
        }
    }

    /// All places, the one to ask first before the others.
    pub fn pops(&self) -> Vec<PopName> {
        let way = self.way.read().clone();
        let all: Vec<_> = match &*way {
            Way::Running(folders) => folders.keys().cloned().collect(),
            Way::Here(opened) => opened.nodes.keys().cloned().collect(),
        };
        let others = all.into_iter().filter(|pop| *pop != self.default);
        std::iter::once(self.default.clone()).chain(others).collect()
    }

    /// Places of the running fleet that do not run just now, as after `verge pop kill`.
    pub fn down(&self) -> Vec<PopName> {
        if !self.is_running() || !self.is_fleet() {
            return Vec::new();
        }
        let pops = self.pops();
        let all = FleetFile::load(&self.context.data).map(|fleet| fleet.pops).unwrap_or_default();
        all.into_iter().filter(|pop| !pops.contains(pop)).collect()
    }

    /// A process outside has the data.
    pub fn is_running(&self) -> bool {
        matches!(**self.way.read(), Way::Running(_))
    }

    pub async fn close(&self) {
        let way = self.way.read().clone();
        if let Way::Here(opened) = &*way {
            opened.close().await;
        }
    }
}

/// Calls `tick` now and then while something runs.
async fn ticking<T>(running: impl Future<Output = T>, mut tick: impl FnMut()) -> T {
    let mut running = std::pin::pin!(running);
    let mut every = tokio::time::interval(super::progress::EVERY);
    loop {
        tokio::select! {
            biased;
            done = &mut running => return done,
            _ = every.tick() => tick(),
        }
    }
}

fn nothing(context: &Context) -> Failure {
    Failure::new("no_data", format!("there are no databases in {}", context.data.display())).hint(
        "`verge db create NAME` makes one; --data names the folder that `verge dev` was given",
    )
}

#[cfg(test)]
mod tests {
    use super::super::args::Place;
    use super::*;
    use crate::cli::Output;
    use crate::terminal::Terminal;

    #[tokio::test]
    async fn a_command_that_is_just_starting_on_the_data_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place { data: Some(folder.path().join("data")), ..Place::default() };
        let terminal = Terminal::new(&Output::default());
        let context = Context::new(place, terminal).expect("a context");
        let access = Access::open(&context, Make::Yes).await.expect("nobody has it");
        let pop = access.default_pop().clone();
        access.close().await;
        // Another had it, and a third one has taken it and does not listen yet.
        let node = context.data.join(pop.as_str());
        *access.way.write() = Arc::new(Way::Running([(pop.clone(), node.clone())].into()));
        let third = NodeLock::take(&node).expect("it is free");
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(third);
        });
        let answer = access.ask::<serde_json::Value>(&pop, Command::List).await;
        assert!(answer.is_ok(), "{answer:?}");
        ends.join().expect("it does not panic");
    }
}
