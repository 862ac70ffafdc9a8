//! The loop of one site: wait for a change, build, swap, tell.

use std::sync::Arc;

use serde_json::json;

use super::site::{Made, Outcome, Site};
use super::watch::Watch;
use crate::failure::Failure;
use crate::package;
use crate::terminal::{Style, failure_json};

pub struct Rebuild {
    site: Arc<Site>,
    watch: Watch,
    /// What was told once is not told again with each build.
    told: Vec<String>,
}

impl Rebuild {
    pub fn start(site: Arc<Site>) -> Result<Self, Failure> {
        let dir = site.parts.project.dir();
        let watch = Watch::new(dir).map_err(|error| {
            Failure::new("watch", format!("cannot watch {}: {error}", dir.display())).hint(
                "on Linux, raise the limits: sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288",
            )
        })?;
        Ok(Self { site, watch, told: Vec::new() })
    }

    /// The first build; its failure is shown and waits to be mended.
    pub async fn first(&mut self) {
        let outcome = self.site.make().await;
        self.tell(&outcome, true);
        self.follow(&outcome);
    }

    /// Until the process is to end.
    pub async fn run(mut self) {
        let mut stopped = self.site.parts.stopped.clone();
        loop {
            let changed = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                changed = self.watch.changed() => changed,
            };
            if changed.is_none() {
                return;
            }
            self.watch.settle().await;
            self.once().await;
        }
    }

    /// One change. A newer change cancels the build once, never twice, so that somebody who
    /// never stops saving sees results.
    async fn once(&mut self) {
        let site = self.site.clone();
        let mut making = std::pin::pin!(site.make());
        let mut outcome = tokio::select! {
            biased;
            outcome = &mut making => outcome,
            _ = self.watch.changed() => {
                site.cancel_build();
                self.watch.settle().await;
                let first = making.await;
                drop(first);
                site.make().await
            }
        };
        if matches!(outcome.made, Ok(Made::Cancelled)) {
            outcome = site.make().await;
        }
        self.tell(&outcome, false);
        self.follow(&outcome);
    }

    fn follow(&mut self, outcome: &Outcome) {
        let failed = outcome.made.is_err();
        if let Err(error) = self.watch.follow(&outcome.watched, failed) {
            let text = format!("some folders are not watched, save elsewhere or restart: {error}");
            self.tell_once(text);
        }
    }

    fn tell_once(&mut self, text: String) {
        if !self.told.contains(&text) {
            let state = self.site.state();
            self.site.parts.terminal.warning(state.config.name.as_str(), &text);
            self.told.push(text);
        }
    }

    fn tell(&mut self, outcome: &Outcome, first: bool) {
        let terminal = self.site.parts.terminal;
        let state = self.site.state();
        let name = state.config.name.as_str();
        let took = u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX);
        if let Some(config) = &outcome.config
            && first
            && terminal.is_verbose()
        {
            for guess in &config.guesses {
                terminal.note(&format!("guessed {guess}"));
            }
        }
        match &outcome.made {
            Ok(Made::Swapped(built)) => {
                terminal.event(
                    "built",
                    json!({ "app": name, "id": built.deployment.id.as_str(), "took_ms": took }),
                );
                let word = if first { "built" } else { "rebuilt" };
                let contents = package::contents(built);
                terminal.note(&format!(
                    "{} {name} in {took} ms {}",
                    terminal.paint(Style::Good, word),
                    terminal.paint(Style::Faint, &format!("({contents})")),
                ));
                for warning in built.warnings.clone() {
                    self.tell_once(warning);
                }
            }
            Ok(Made::Same | Made::Cancelled) => {
                if terminal.is_verbose() {
                    terminal.note(&format!("{name} is unchanged ({took} ms)"));
                }
            }
            Err(failure) => {
                let running = state.version.is_some();
                if terminal.is_json() {
                    let error = failure_json(failure);
                    terminal.event(
                        "build_failed",
                        json!({ "app": name, "error": error, "running": running }),
                    );
                } else {
                    terminal.failure(failure);
                    if running {
                        terminal.complain("the last good version keeps answering");
                    }
                }
            }
        }
    }
}
