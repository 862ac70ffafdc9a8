//! A driver's life: its loop, its ticks, what it publishes, its rest.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use verge_replicate::follow::Health;
use verge_replicate::{Moment, follow as follow_core, lease as lease_core, ship as ship_core};

use super::{BUSY_FOR, Driver, INSTALL_END, Input, MAX_QUEUED, QUIET_TICK, TICK, Work};
use crate::clock::wall_ms;

impl Driver {
    /// Runs until the node stops it or nobody uses the dataset any more.
    pub(crate) async fn run(mut self, mut mailbox: mpsc::Receiver<Input>) {
        // What an earlier run left here may be shown at once, though it may be old.
        let has_history = self.txid > 0 && self.follow.health() == Health::Sound;
        self.desk.change(|standing| {
            standing.awake = true;
            standing.has_history |= has_history;
        });
        let began = self.begin().await;
        if let Err(error) = began {
            tracing::error!(dataset = %self.desk.id, %error, "a dataset's driver cannot begin");
            self.rest().await;
            return;
        }
        self.publish();
        let mut next_tick = tokio::time::Instant::now();
        loop {
            tokio::select! {
                input = mailbox.recv() => match input {
                    None | Some(Input::Stop) => break,
                    Some(input) => {
                        self.take(input);
                        while let Ok(input) = mailbox.try_recv() {
                            if matches!(input, Input::Stop) {
                                self.rest().await;
                                return;
                            }
                            self.take(input);
                            if self.queue.len() > MAX_QUEUED {
                                break;
                            }
                        }
                    }
                },
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.finished(done).await,
                    Err(error) => {
                        tracing::error!(dataset = %self.desk.id, %error, "a replication job died");
                        break;
                    }
                },
                moved = self.positions.changed(), if self.shipper.is_some() => {
                    if moved.is_err() && self.relay.is_some() {
                        self.end_relay();
                    } else {
                        self.superseded |= moved.is_err();
                    }
                }
                () = tokio::time::sleep_until(next_tick) => {
                    if self.may_rest() && self.node.retire(&self.desk) {
                        tracing::debug!(dataset = %self.desk.id, "nobody uses it: it rests");
                        break;
                    }
                    self.tick();
                    next_tick = tokio::time::Instant::now() + self.pace();
                }
            }
            self.ship_new();
            self.keep_relay();
            if let Err(error) = self.dispatch().await {
                tracing::error!(dataset = %self.desk.id, %error, "a dataset's driver stops");
                break;
            }
            self.publish();
            if self.superseded {
                break;
            }
        }
        self.rest().await;
        if self.superseded {
            self.node.wake(&self.desk.id);
        }
    }

    fn pace(&self) -> Duration {
        let quiet = self.node.clock.now().since(self.active) > BUSY_FOR;
        if quiet && self.in_hand.is_empty() { QUIET_TICK } else { TICK }
    }

    fn tick(&mut self) {
        let now = self.node.clock.now();
        if self.lease.is_some() {
            self.queue.push_back(Work::Lease(lease_core::Event::Tick));
        }
        self.choose_upstream();
        self.queue.push_back(Work::Follow(follow_core::Event::Tick));
        if self.shipper.is_some() {
            self.queue.push_back(Work::Ship(ship_core::Event::Tick { wall_ms: wall_ms() }));
        }
        // Used here: the others shall attend to it too, so that writes reach them as they come.
        let idle_after = self.node.config.timing.idle_after;
        let used = now.since(self.desk.used()) < idle_after;
        // Whoever has data that nobody leads claims it first, before others begin it empty.
        let led = self.desk.standing().primary.is_some();
        let may_tell = led || self.current_txid() == 0;
        if used
            && may_tell
            && (self.told_wanted == Moment(0) || now.since(self.told_wanted) > idle_after / 4)
        {
            self.told_wanted = now;
            self.node.tell_wanted(&self.desk.id);
        }
    }

    /// A primary outlasts its followers, so that they do not take its rest for its end.
    fn may_rest(&self) -> bool {
        let idle = self.node.config.timing.idle_after * if self.primary.is_some() { 2 } else { 1 };
        self.node.clock.now().since(self.desk.wanted()) > idle
            && self.seed.is_none()
            && !self.installing
            && self.in_hand.is_empty()
    }

    /// Tells readers and writers what they look at.
    fn publish(&self) {
        let quarantined = self.primary.is_none() && self.follow.health() != Health::Sound;
        self.desk.set_as_of(if self.primary.is_some() { None } else { self.follow.as_of() });
        let synced = self.primary.is_some() || self.follow.as_of().is_some();
        let lineage = self.current_lineage();
        let followers: Vec<_> =
            self.shipper.as_ref().map(|s| s.followers().collect()).unwrap_or_default();
        let stale = {
            let now = self.desk.standing();
            (now.ours, now.quarantined, now.synced) != (self.primary, quarantined, synced)
                || now.lineage != lineage
                || now.followers != followers
        };
        if stale {
            self.desk.change(|standing| {
                standing.ours = self.primary;
                standing.quarantined = quarantined;
                standing.synced = synced;
                standing.has_history |= synced;
                standing.lineage = lineage;
                standing.followers = followers;
            });
            self.node.changed();
        }
    }

    /// Ends: nobody may write here without a driver.
    async fn rest(&mut self) {
        self.desk.gate.close();
        self.end_relay();
        if self.node.transport.is_some() {
            self.dataset.fence();
        }
        while self.installing
            && let Ok(Some(Ok(done))) = timeout(INSTALL_END, self.jobs.join_next()).await
        {
            // It cannot be ended half-way, and nobody may open the dataset before.
            self.finished(done).await;
        }
        self.jobs.shutdown().await;
        self.desk.set_as_of(None);
        self.desk.change(|standing| {
            standing.ours = None;
            standing.primary = None;
            standing.relay = None;
            standing.awake = false;
            standing.synced = false;
            standing.followers.clear();
        });
        if let Some(done) = self.hand_over.take() {
            let _ = done.send(Err("the node stopped attending to it".to_owned()));
        }
        self.node.rested(&self.desk);
    }
}
