//! One app that is being worked on: the version that answers, and what is wrong with the next.
//!
//! A new version answers only after its top-level code has run; the old one finishes what it
//! has begun. A version that does not build or start changes nothing but the error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch as signal;
use verge_bundle::{AppConfig, BuildOptions, Built, Bundler, Canceller, ConfigError, Project};
use verge_render::{Assets, AssetsBinding};
use verge_runtime::{App, AppOptions};
use verge_telemetry::Metrics;
use verge_types::{Deployment, Service};

use super::assets;
use super::console::Console;
use super::places::Place;
use crate::failure::Failure;
use crate::package;
use crate::terminal::Terminal;

/// What a site is made of.
pub struct Parts {
    pub project: Project,
    pub environment: Option<String>,
    /// Where the app runs; one point of presence or several.
    pub places: Arc<[Place]>,
    pub metrics: Metrics,
    pub terminal: Terminal,
    pub console: Arc<Console>,
    /// True when the process is to end.
    pub stopped: signal::Receiver<bool>,
    pub live_reload: bool,
}

pub struct Site {
    pub parts: Parts,
    bundler: Arc<Bundler>,
    canceller: Canceller,
    state: RwLock<Arc<State>>,
    /// Names the state; pages that show an older one reload.
    changed: signal::Sender<u64>,
    /// One version is made at a time.
    making: Mutex<()>,
    /// And one is started at a time, at one place or all.
    starting: tokio::sync::Mutex<()>,
}

/// What requests meet. Replaced as a whole.
#[derive(Clone)]
pub struct State {
    pub number: u64,
    pub config: Arc<AppConfig>,
    pub version: Option<Arc<Version>>,
    pub broken: Option<Arc<Failure>>,
}

/// One version of the app that runs.
pub struct Version {
    pub deployment: Arc<Deployment>,
    pub assets: Option<Arc<Assets>>,
    /// As many as there are places, in their order.
    pub running: Vec<Running>,
}

/// A version at one point of presence.
#[derive(Clone)]
pub struct Running {
    /// `None` if it has assets only.
    pub app: Option<Arc<App>>,
    pub service: Arc<dyn Service>,
}

impl Version {
    /// The app where no place was asked for in particular: at the first one that is up.
    pub fn app(&self) -> Option<&Arc<App>> {
        self.running.iter().find_map(|at| at.app.as_ref())
    }
}

/// The next version, or why there is none.
pub struct Outcome {
    pub config: Option<AppConfig>,
    /// Files and folders whose change asks for another build.
    pub watched: Vec<std::path::PathBuf>,
    pub made: Result<Made, Failure>,
    /// From the start of the build to the swap.
    pub took: Duration,
}

pub enum Made {
    Swapped(Box<Built>),
    /// The change made no difference.
    Same,
    /// A newer change made it pointless.
    Cancelled,
}

impl Site {
    pub fn new(parts: Parts, config: AppConfig) -> Self {
        let bundler = Bundler::new(parts.project.dir(), package::bundler_folders());
        // So that a page of an earlier process never takes our state for its own.
        let first = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let state = State { number: first, config: Arc::new(config), version: None, broken: None };
        Self {
            parts,
            canceller: bundler.canceller(),
            bundler: Arc::new(bundler),
            state: RwLock::new(Arc::new(state)),
            changed: signal::Sender::new(first),
            making: Mutex::new(()),
            starting: tokio::sync::Mutex::new(()),
        }
    }

    pub fn state(&self) -> Arc<State> {
        self.state.read().clone()
    }

    /// Tells the number of each new state.
    pub fn changes(&self) -> signal::Receiver<u64> {
        self.changed.subscribe()
    }

    pub fn cancel_build(&self) {
        self.canceller.cancel();
    }

    /// Reads the configuration, builds, starts and swaps.
    pub async fn make(self: &Arc<Self>) -> Outcome {
        let started = Instant::now();
        let site = self.clone();
        let built = tokio::task::spawn_blocking(move || site.build()).await;
        let (config, built) = match built {
            Ok(built) => built,
            Err(error) => (None, Err(Failure::new("internal", format!("the build: {error}")))),
        };
        let mut watched = Vec::new();
        let made = match (built, &config) {
            (Ok(built), Some(config)) => {
                watched.clone_from(&built.watched);
                self.start(built, config).await
            }
            (Ok(_), None) => Err(Failure::new("internal", "a build without a configuration")),
            (Err(failure), _) if failure.code == "cancelled" => Ok(Made::Cancelled),
            (Err(failure), _) => Err(failure),
        };
        if let Err(failure) = &made {
            self.fail(config.as_ref(), failure);
        }
        Outcome { config, watched, made, took: started.elapsed() }
    }

    fn build(&self) -> (Option<AppConfig>, Result<Built, Failure>) {
        let _one_at_a_time = self.making.lock();
        let environment = self.parts.environment.as_deref();
        // Found again each time: a configuration file may have come or gone.
        let project = match Project::find(self.parts.project.dir()) {
            Ok(found) if self.parts.project.config_file().is_none() => found,
            Ok(_) => self.parts.project.clone(),
            Err(error) => return (None, Err(self.config_failure(error))),
        };
        let config = match project.config(environment) {
            Ok(config) => config,
            Err(error) => return (None, Err(self.config_failure(error))),
        };
        let options = BuildOptions {
            dev: true,
            environment: self.parts.environment.clone(),
            ..BuildOptions::default()
        };
        let built = self
            .bundler
            .build(&config, options)
            .map_err(|error| Failure::build(config.name.as_str(), &error));
        (Some(config), built)
    }

    fn config_failure(&self, error: ConfigError) -> Failure {
        Failure::config(self.parts.project.dir(), error)
    }

    /// Starts the built version and lets it answer.
    async fn start(&self, built: Built, config: &AppConfig) -> Result<Made, Failure> {
        let _one_at_a_time = self.starting.lock().await;
        let old = self.state();
        let deployment = &built.deployment;
        let same = old.version.as_ref().is_some_and(|v| v.deployment.id == deployment.id)
            && old.config.limits == config.limits
            && old.config.name == config.name;
        if same && old.broken.is_none() {
            self.replace(|state| state.config = Arc::new(config.clone()));
            return Ok(Made::Same);
        }
        let version = self.version(&built, config).await?;
        let number = self.replace(|state| {
            state.config = Arc::new(config.clone());
            state.version = Some(Arc::new(version));
            state.broken = None;
            state.number += 1;
        });
        for app in
            old.version.iter().flat_map(|version| &version.running).filter_map(|at| at.app.as_ref())
        {
            app.retire();
        }
        self.changed.send_replace(number);
        Ok(Made::Swapped(Box::new(built)))
    }

    async fn version(&self, built: &Built, config: &AppConfig) -> Result<Version, Failure> {
        let deployment = &built.deployment;
        let previous = self.state().version.as_ref().and_then(|version| version.assets.clone());
        let wanted = deployment.assets.clone();
        let assets = tokio::task::spawn_blocking(move || assets::load(wanted, previous))
            .await
            .map_err(|error| Failure::new("internal", format!("the assets: {error}")))??;
        for warning in assets.iter().flat_map(|assets| assets.warnings()) {
            self.parts.terminal.warning(config.name.as_str(), warning);
        }
        let deployment = Arc::new(deployment.clone());
        let mut running = Vec::with_capacity(self.parts.places.len());
        for place in self.parts.places.iter() {
            running.push(self.at(place, &deployment, &assets, config).await?);
        }
        // Only now: a version that does not start anywhere must not be called by other apps.
        for (place, at) in self.parts.places.iter().zip(&running) {
            if let Some(app) = &at.app {
                place.runtime.publish(app);
            }
        }
        Ok(Version { deployment, assets, running })
    }

    /// A version at one place. One that is down has none until it is started again.
    async fn at(
        &self,
        place: &Place,
        deployment: &Arc<Deployment>,
        assets: &Option<Arc<Assets>>,
        config: &AppConfig,
    ) -> Result<Running, Failure> {
        if place.is_down().await {
            return Ok(Running { app: None, service: Arc::new(Down) });
        }
        let app = if deployment.main.is_some() {
            Some(self.warmed(place, deployment, assets, config).await?)
        } else {
            None
        };
        let code = app.clone().map(|app| app as Arc<dyn Service>);
        let service = match (assets.clone(), code) {
            (None, Some(code)) => code,
            (assets, code) => Arc::new(verge_render::Site::new(assets, code)),
        };
        Ok(Running { app, service })
    }

    /// What runs at one place is made anew, on the node that runs there now, or ended.
    pub async fn restart_at(&self, index: usize) -> Result<(), Failure> {
        let _one_at_a_time = self.starting.lock().await;
        let state = self.state();
        let Some(version) = &state.version else { return Ok(()) };
        let place = &self.parts.places[index];
        let next = self.at(place, &version.deployment, &version.assets, &state.config).await?;
        if let Some(app) = &next.app {
            place.runtime.publish(app);
        }
        let mut running = version.running.clone();
        let old = std::mem::replace(&mut running[index], next);
        let (deployment, assets) = (version.deployment.clone(), version.assets.clone());
        self.replace(|state| {
            state.version = Some(Arc::new(Version { deployment, assets, running }));
        });
        if let Some(app) = old.app {
            app.retire();
        }
        Ok(())
    }

    /// The version's code at one place, its top-level code run.
    async fn warmed(
        &self,
        place: &Place,
        deployment: &Arc<Deployment>,
        assets: &Option<Arc<Assets>>,
        config: &AppConfig,
    ) -> Result<Arc<App>, Failure> {
        let app = place.runtime.prepare(AppOptions {
            name: config.name.clone(),
            deployment: deployment.clone(),
            limits: config.limits.clone(),
            assets: assets.clone().map(|a| Arc::new(AssetsBinding(a)) as Arc<dyn Service>),
            databases: place.databases(deployment).await?,
        });
        let console = &self.parts.console;
        console.hold(&config.name);
        let warmed = app.warm().await;
        let told = warmed.as_ref().err().and_then(|fault| fault.detail.as_deref());
        console.release(&config.name, told);
        warmed.map_err(|fault| super::stack::start_failure(&fault, config))?;
        Ok(app)
    }

    fn fail(&self, config: Option<&AppConfig>, failure: &Failure) {
        let failure = Arc::new(Failure {
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            diagnostics: failure.diagnostics.clone(),
            ..*failure
        });
        let number = self.replace(|state| {
            if let Some(config) = config.filter(|_| state.version.is_none()) {
                state.config = Arc::new(config.clone());
            }
            state.broken = Some(failure);
            state.number += 1;
        });
        self.changed.send_replace(number);
    }

    fn replace(&self, change: impl FnOnce(&mut State)) -> u64 {
        let mut state = self.state.write();
        let mut next = State::clone(&state);
        change(&mut next);
        let number = next.number;
        *state = Arc::new(next);
        number
    }
}

/// What answers at a place that is down, to a request that was on its way.
struct Down;

impl Service for Down {
    fn call(
        &self,
        _: http::Request<verge_types::Body>,
        _: verge_types::RequestContext,
    ) -> verge_types::BoxFuture<Result<http::Response<verge_types::Body>, verge_types::Fault>> {
        let blame = verge_types::Blame::Platform;
        let text = "This point of presence is down";
        let fault = verge_types::Fault::new("pop_down", blame, 503, text).with_retry_after(1);
        Box::pin(std::future::ready(Err(fault)))
    }
}

/// Numbers that differ from one call to the next; names, not secrets.
pub fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
