//! Following: applies segments, takes snapshots in, sets aside what is not of the primary's
//! history.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use verge_dataset::{Dataset, Error as DatasetError, Role, Seeding};
use verge_replicate::follow::{Effect, Event, Follow, FollowConfig, Health, Quarantine, Replica};
use verge_replicate::lease::Event as LeaseEvent;
use verge_types::Position;

use super::{Done, Driver, Incoming, Installed, Work};
use crate::error::Error;
use crate::large::{self, is_large};
use crate::meta;

/// Segments that are applied in one transaction, at most.
const MAX_BATCH: usize = 256;
/// How often, and how many times, an installation is tried while readers of the old data are out.
const INSTALL_EVERY: Duration = Duration::from_millis(20);
const INSTALL_TRIES: usize = 3000;

impl Driver {
    pub(super) async fn follow_effect(&mut self, effect: Effect) -> Result<(), Error> {
        match effect {
            Effect::Send { to, message } => self.send(to, message),
            Effect::PersistFence { epoch } => {
                self.meta.fence = self.meta.fence.max(epoch);
                self.persist().await?;
                self.queue.push_back(Work::Lease(LeaseEvent::Fenced { epoch }));
            }
            Effect::PersistLineage { lineage } => {
                self.meta.lineage = lineage;
                self.persist().await?;
            }
            Effect::Apply { segment } => {
                self.applying.push_back(segment);
                self.apply_next();
            }
            Effect::PersistQuarantine { quarantine } => self.set_aside(quarantine).await?,
            Effect::PersistSound => {
                self.meta.health = Health::Sound;
                self.persist().await?;
            }
            Effect::SeedBegin { snapshot, lineage } => {
                self.end_relay();
                self.seeds += 1;
                self.seed = None;
                let (store, id) = (self.node.store.clone(), self.desk.id.clone());
                let seeding = spawn_blocking(move || store.seed(&id)).await;
                match seeding {
                    Ok(Ok(seeding)) => {
                        tracing::info!(dataset = %self.desk.id, position = %snapshot.position,
                            bytes = snapshot.bytes, "taking a snapshot in");
                        self.seed = Some(Incoming {
                            number: self.seeds,
                            seeding: Some(seeding),
                            waiting: Default::default(),
                            lineage,
                            position: snapshot.position,
                            checksum: snapshot.checksum,
                        });
                    }
                    Ok(Err(error)) => self.seed_failed(&error.to_string()),
                    Err(error) => self.seed_failed(&error.to_string()),
                }
            }
            Effect::SeedChunk { chunk, last, bytes } => match &mut self.seed {
                Some(seed) => {
                    seed.waiting.push_back((chunk, last, bytes));
                    self.store_next().await?;
                }
                None => self.queue.push_back(Work::Follow(Event::SeedFailed)),
            },
            Effect::SeedAbort => {
                self.seeds += 1;
                self.seed = None;
            }
        }
        Ok(())
    }

    fn seed_failed(&mut self, why: &str) {
        tracing::warn!(dataset = %self.desk.id, why, "a snapshot could not be taken in");
        self.seeds += 1;
        self.seed = None;
        self.queue.push_back(Work::Follow(Event::SeedFailed));
    }

    /// Hands waiting segments to the dataset, one batch at a time; a large one by itself, once its
    /// file has come.
    fn apply_next(&mut self) {
        if !self.in_hand.is_empty() || self.applying.is_empty() {
            return;
        }
        let dataset = self.dataset.clone();
        if let Some(segment) = self.applying.pop_front_if(|segment| is_large(&segment.bytes)) {
            let record = segment.bytes.clone();
            self.in_hand.push_back(segment);
            let (going, stopped) = oneshot::channel();
            self.fetching = Some(going);
            let from = self.upstream.chosen();
            let fetching = large::fetch(self.node.clone(), from, dataset.clone(), record);
            self.jobs.spawn(async move {
                let fetched = tokio::select! {
                    fetched = fetching => fetched,
                    _ = stopped => Err(large::broken("another is followed now")),
                };
                Done::Applied(match fetched {
                    Ok(segment) => dataset.apply_large(segment).await,
                    Err(error) => Err(error),
                })
            });
            return;
        }
        let small = self.applying.iter().take(MAX_BATCH).take_while(|s| !is_large(&s.bytes));
        let count = small.count();
        self.in_hand.extend(self.applying.drain(..count));
        let segments = self.in_hand.iter().map(|segment| segment.bytes.clone()).collect();
        self.jobs.spawn(async move { Done::Applied(dataset.apply(segments).await) });
    }

    pub(super) async fn applied(&mut self, result: Result<Position, DatasetError>) {
        let at = match &result {
            Ok(position) => *position,
            Err(_) => self.dataset.position(),
        };
        while let Some(segment) = self.in_hand.pop_front_if(|s| s.header.position.txid <= at.txid) {
            // The dataset compared it with what it computed from its pages.
            let (txid, checksum) = (segment.header.position.txid, segment.header.after);
            self.queue.push_back(Work::Follow(Event::Applied { txid, checksum }));
        }
        self.in_hand.clear();
        self.fetching = None;
        let Err(error) = result else {
            self.apply_next();
            return;
        };
        self.applying.clear();
        tracing::warn!(dataset = %self.desk.id, %error, at = %at, "a segment was not applied");
        self.superseded |= matches!(error, DatasetError::Closed);
        let hopeless = matches!(
            error,
            DatasetError::Diverged { .. }
                | DatasetError::StaleEpoch { .. }
                | DatasetError::Corrupt { .. }
                | DatasetError::Gap { .. }
                | DatasetError::Quarantined(_)
        );
        self.queue.push_back(Work::Follow(Event::ApplyFailed));
        if hopeless && let Err(error) = self.ask_for_snapshot().await {
            tracing::error!(dataset = %self.desk.id, %error, "asking for a snapshot");
        }
    }

    /// This data does not go with the segments that come: begin again from a snapshot.
    async fn ask_for_snapshot(&mut self) -> Result<(), Error> {
        // What was applied before is told to the old core, then a new one takes its place.
        self.dispatch_follow_only().await?;
        self.meta.health = Health::Quarantined;
        self.persist().await?;
        self.desk.change(|standing| standing.quarantines += 1);
        let (position, checksum) = self.dataset.checksum();
        let replica = Replica {
            lineage: self.meta.lineage.clone(),
            txid: position.txid,
            checksum,
            fence: self.meta.fence,
            health: Health::Quarantined,
        };
        let now = self.node.clock.now();
        self.follow = Follow::new(FollowConfig::new(self.node.jitter(&self.desk.id)), replica, now);
        self.choose_upstream();
        Ok(())
    }

    async fn dispatch_follow_only(&mut self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.queue);
        for work in waiting {
            match work {
                Work::Follow(event) => {
                    for effect in self.follow.on(event, self.node.clock.now()) {
                        match effect {
                            // It will be asked for anew.
                            Effect::Apply { .. } => {}
                            Effect::Send { to, message } => self.send(to, message),
                            Effect::PersistFence { epoch } => {
                                self.meta.fence = self.meta.fence.max(epoch);
                                self.persist().await?;
                                let fenced = LeaseEvent::Fenced { epoch };
                                self.queue.push_back(Work::Lease(fenced));
                            }
                            Effect::PersistLineage { lineage } => {
                                self.meta.lineage = lineage;
                                self.persist().await?;
                            }
                            _ => {}
                        }
                    }
                }
                other => self.queue.push_back(other),
            }
        }
        Ok(())
    }

    /// Marks the data as not to be read. The dataset keeps its history when a snapshot takes its
    /// place; until then a diverged one still votes, and may even lead again.
    async fn set_aside(&mut self, quarantine: Quarantine) -> Result<(), Error> {
        tracing::warn!(dataset = %self.desk.id, ?quarantine, at = %self.dataset.position(),
            "this copy's history is not the primary's: it is set aside");
        self.meta.health = match quarantine {
            Quarantine::Diverged { .. } => Health::Diverged,
            Quarantine::Checksum => Health::Quarantined,
        };
        self.persist().await?;
        self.desk.change(|standing| standing.quarantines += 1);
        Ok(())
    }

    /// Stores the next chunk of the incoming snapshot; after the last it takes the data's place.
    async fn store_next(&mut self) -> Result<(), Error> {
        let Some(seed) = &mut self.seed else { return Ok(()) };
        let Some(seeding) = seed.seeding.take() else { return Ok(()) };
        let Some((chunk, last, bytes)) = seed.waiting.pop_front() else {
            seed.seeding = Some(seeding);
            return Ok(());
        };
        if last {
            // Before the data moves: whichever of the two a crash leaves, the lineage is known.
            self.meta.seeding = Some(meta::Seeding {
                position: seed.position,
                checksum: seed.checksum,
                lineage: seed.lineage.clone(),
            });
            let number = seed.number;
            self.installing = true;
            self.persist().await?;
            if self.meta.health != Health::Sound && self.dataset.role() != Role::Quarantined {
                // So that the dataset keeps all of its history.
                self.dataset.quarantine().await?;
            }
            self.jobs.spawn(install(number, chunk, seeding, bytes));
            return Ok(());
        }
        let number = seed.number;
        self.jobs.spawn(async move {
            let stored = spawn_blocking(move || {
                let mut seeding = seeding;
                let pushed = seeding.push(&bytes);
                (seeding, pushed)
            });
            let (seeding, installed) = match stored.await {
                Ok((seeding, Ok(()))) => (Some(seeding), Installed::NotYet),
                Ok((_, Err(error))) => (None, Installed::Failed(error)),
                Err(_) => (None, Installed::Failed(DatasetError::JobPanicked)),
            };
            Done::Stored { seed: number, chunk, seeding, installed }
        });
        Ok(())
    }

    pub(super) async fn stored(
        &mut self,
        number: u64,
        chunk: u64,
        seeding: Option<Seeding>,
        installed: Installed,
    ) {
        if !matches!(installed, Installed::NotYet) {
            self.installing = false;
        }
        let current = self.seed.as_mut().filter(|seed| seed.number == number);
        match (installed, current) {
            (Installed::Yes(dataset), _) => self.installed(chunk, dataset).await,
            (Installed::NotYet, Some(seed)) => {
                seed.seeding = seeding;
                self.queue.push_back(Work::Follow(Event::ChunkStored { chunk }));
                if let Err(error) = self.store_next().await {
                    self.seed_failed(&error.to_string());
                }
            }
            (Installed::Failed(error), current) => {
                let wanted = current.is_some();
                self.meta.seeding = None;
                if wanted {
                    self.seed_failed(&error.to_string());
                }
            }
            (Installed::NotYet, None) => {}
        }
    }

    /// The snapshot is the data now, also if the core has given it up meanwhile.
    async fn installed(&mut self, chunk: u64, dataset: Arc<Dataset>) {
        let (position, checksum) = dataset.checksum();
        self.dataset = dataset;
        self.positions = self.dataset.watch();
        let wanted = self.seed.take().is_some();
        if self.meta.settle(position, checksum)
            && let Err(error) = self.persist().await
        {
            tracing::error!(dataset = %self.desk.id, %error, "a snapshot's lineage is not durable");
        }
        if wanted {
            let txid = position.txid;
            self.queue.push_back(Work::Follow(Event::ChunkStored { chunk }));
            self.queue.push_back(Work::Follow(Event::Seeded { txid, checksum }));
            return;
        }
        let replica = Replica {
            lineage: self.meta.lineage.clone(),
            txid: position.txid,
            checksum,
            fence: self.meta.fence,
            health: self.meta.health,
        };
        let now = self.node.clock.now();
        self.follow = Follow::new(FollowConfig::new(self.node.jitter(&self.desk.id)), replica, now);
        self.choose_upstream();
    }
}

async fn install(number: u64, chunk: u64, seeding: Seeding, bytes: bytes::Bytes) -> Done {
    let installing = spawn_blocking(move || {
        let mut seeding = seeding;
        seeding.push(&bytes)?;
        let mut tries = 0;
        loop {
            match seeding.finish() {
                // Readers of the old data are out.
                Err(DatasetError::Overloaded { .. }) if tries < INSTALL_TRIES => {
                    tries += 1;
                    std::thread::sleep(INSTALL_EVERY);
                }
                other => return other,
            }
        }
    });
    let installed = match installing.await {
        Ok(Ok(dataset)) => Installed::Yes(dataset),
        Ok(Err(error)) => Installed::Failed(error),
        Err(_) => Installed::Failed(DatasetError::JobPanicked),
    };
    Done::Stored { seed: number, chunk, seeding: None, installed }
}
