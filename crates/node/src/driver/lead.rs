//! Being primary: carries out what the lease decides, and begins and ends terms.

use tokio::sync::oneshot;
use verge_dataset::{Ack, Role};
use verge_replicate::follow::{Follow, FollowConfig, Health, Replica};
use verge_replicate::lease::{Demotion, Effect, Event, Phase, Record, RegisterAnswer};
use verge_replicate::ship::{Event as ShipEvent, Origin, ShipConfig, Shipper};
use verge_replicate::wire::Message;
use verge_replicate::{AckMode, Moment, NodeId, follow as follow_core};

use super::{Done, Driver, Work};
use crate::error::Error;

impl Driver {
    /// What a driver does first: a primary of the last run is none until it holds its lease again.
    pub(super) async fn begin(&mut self) -> Result<(), Error> {
        if self.lease.is_some() {
            self.dataset.fence();
            if let Role::Primary { epoch } = self.dataset.role() {
                self.dataset.demote(epoch).await?;
            }
            return Ok(());
        }
        // Without a register the placement's node is primary for good.
        let home = self.node.home();
        self.desk.change(|standing| standing.primary = Some(home));
        if home != self.node.roster.me {
            if let Role::Primary { epoch } = self.dataset.role() {
                self.dataset.demote(epoch).await?;
            }
            self.follow_primary(Some(home));
            return self.dispatch().await;
        }
        let epoch = self.dataset.epoch().max(self.meta.lineage.epoch()).max(self.meta.fence);
        let led = matches!(self.dataset.role(), Role::Primary { epoch: e } if e == epoch);
        let mut lineage = self.follow.lineage();
        let epoch = if led && (lineage.epoch() == epoch || lineage.begin(epoch, self.txid).is_ok())
        {
            epoch
        } else {
            lineage
                .begin(epoch + 1, self.txid)
                .map_err(|error| Error::Config(error.to_string()))?;
            self.dataset.promote(epoch + 1).await?;
            epoch + 1
        };
        self.meta.lineage = lineage;
        self.meta.fence = self.meta.fence.max(epoch);
        self.persist().await?;
        self.take_office(epoch)?;
        self.dataset.lease_until(None);
        self.desk.set_until(Moment(u64::MAX));
        self.queue.push_back(Work::Ship(ShipEvent::Extended { until: Moment(u64::MAX) }));
        self.dispatch().await
    }

    /// A new dataset goes to its placement, unless nobody there takes it for a while: until then
    /// an empty register is not told to our lease, so that it does not run for it. Who has data
    /// runs at once.
    pub(super) fn place(&self, answer: RegisterAnswer) -> RegisterAnswer {
        let vacant = matches!(answer, RegisterAnswer::Value(None) | RegisterAnswer::Conflict(None));
        let waited = self.node.clock.now().since(self.born);
        if vacant
            && self.node.home() != self.node.roster.me
            && self.current_txid() == 0
            && waited < self.node.config.timing.placement_patience
        {
            return RegisterAnswer::Unknown;
        }
        answer
    }

    /// The first record of a dataset that the register does not know, released in our own name, so
    /// that we may claim it at once and others after a while: of a new one at its placement, of one
    /// that was made here with data (a branch, or while this node was alone) right here.
    fn first_record(&self) -> Option<Record> {
        let me = self.node.roster.me;
        let (txid, lineage) = (self.current_txid(), self.current_lineage());
        let ours = if txid == 0 && lineage.terms().is_empty() {
            self.node.home() == me && self.is_sound()
        } else {
            txid > 0 && self.is_sound()
        };
        let patience = self.node.config.timing.placement_patience.as_millis();
        (ours && self.node.roster.voters.contains(&me)).then(|| Record {
            epoch: lineage.epoch(),
            holder: me,
            incarnation: 0,
            sequence: 0,
            base: txid,
            ttl_ms: u64::try_from(patience).unwrap_or(u64::MAX),
            phase: Phase::Released { successor: Some(me) },
        })
    }

    pub(super) async fn lease_effect(&mut self, effect: Effect) -> Result<(), Error> {
        match effect {
            Effect::Read { op } => {
                let Some(register) = &self.node.config.register else { return Ok(()) };
                let (register, id) = (register.clone(), self.desk.id.clone());
                let first = self.first_record();
                self.jobs.spawn(async move {
                    let mut answer = register.read(&id).await;
                    if let (RegisterAnswer::Value(None), Some(first)) = (answer, first) {
                        answer = match register.swap(&id, None, first).await {
                            RegisterAnswer::Swapped => RegisterAnswer::Value(Some(first)),
                            RegisterAnswer::Conflict(current) => RegisterAnswer::Value(current),
                            other => other,
                        };
                    }
                    Done::Register { op, answer }
                });
            }
            Effect::Swap { op, expected, new } => {
                let Some(register) = &self.node.config.register else { return Ok(()) };
                let swap = register.swap(&self.desk.id, expected, new);
                self.jobs.spawn(async move { Done::Register { op, answer: swap.await } });
            }
            Effect::SendPoll { to, poll } => self.send(to, Message::Poll(poll)),
            Effect::SendReply { to, reply } => self.send(to, Message::PollReply(reply)),
            Effect::PersistFence { epoch } => {
                self.meta.fence = self.meta.fence.max(epoch);
                self.persist().await?;
                self.queue.push_back(Work::Follow(follow_core::Event::Fence { epoch }));
            }
            Effect::Promote { epoch, base } => self.promote(epoch, base).await?,
            Effect::Extended { until, .. } => {
                self.dataset.lease_until(Some(self.node.clock.boot_time(until)));
                self.desk.set_until(until);
                self.queue.push_back(Work::Ship(ShipEvent::Extended { until }));
            }
            Effect::Retracted => {
                self.dataset.fence();
                self.desk.set_until(Moment(0));
                self.queue.push_back(Work::Ship(ShipEvent::Retracted));
            }
            Effect::StopWrites => {
                self.desk.gate.close();
                self.stops += 1;
                let (desk, stop) = (self.desk.clone(), self.stops);
                self.jobs.spawn(async move {
                    desk.gate.empty().await;
                    Done::Stopped { stop }
                });
            }
            Effect::ResumeWrites => self.desk.gate.open(),
            Effect::Demote { reason } => self.demote(reason).await?,
            Effect::Offer { to } => self.send(to, Message::Offer { epoch: 0 }),
            Effect::HandOverFailed { to } => {
                tracing::warn!(dataset = %self.desk.id, %to, "a hand-over was called off");
                if let Some(done) = self.hand_over.take() {
                    let why = "the successor could not be brought up to date in time, or may not be primary";
                    let _ = done.send(Err(why.to_owned()));
                }
            }
            Effect::Primary { node, .. } => self.primary_is(node),
        }
        Ok(())
    }

    fn primary_is(&mut self, node: NodeId) {
        if self.desk.standing().primary != Some(node) {
            self.fetching = None;
            self.desk.change(|standing| standing.primary = Some(node));
            self.node.changed();
        }
        if self.primary.is_none() && node != self.node.roster.me {
            self.follow_primary(Some(node));
        }
    }

    async fn promote(&mut self, epoch: u64, base: u64) -> Result<(), Error> {
        self.desk.gate.close();
        self.fetching = None;
        self.end_relay();
        self.follow_primary(None);
        let busy = !self.in_hand.is_empty() || !self.applying.is_empty() || self.installing;
        let mut lineage = self.current_lineage();
        let ready = !busy && self.current_txid() == base && lineage.begin(epoch, base).is_ok();
        if !ready || self.dataset.position().txid != base {
            // Something was still being applied when we claimed: begin anew, after it.
            return self.rise_above(epoch);
        }
        self.meta.lineage = lineage;
        self.meta.health = Health::Sound;
        self.persist().await?;
        if let Err(error) = self.dataset.promote(epoch).await {
            tracing::warn!(dataset = %self.desk.id, epoch, %error, "cannot begin as primary");
            let known = match error {
                verge_dataset::Error::StaleEpoch { known, .. } => known,
                _ => epoch,
            };
            return self.rise_above(known.max(epoch));
        }
        // Until the lease says how long.
        self.dataset.fence();
        tracing::info!(dataset = %self.desk.id, epoch, base, "primary");
        self.take_office(epoch)
    }

    /// Has the lease begin a higher epoch than `epoch`, which it must not use.
    fn rise_above(&mut self, epoch: u64) -> Result<(), Error> {
        self.queue.push_back(Work::Lease(Event::Fenced { epoch: epoch + 1 }));
        Ok(())
    }

    /// Ships, and lets writes in.
    fn take_office(&mut self, epoch: u64) -> Result<(), Error> {
        let (position, checksum) = self.dataset.checksum();
        let (roster, mode) = (&self.node.roster, self.node.config.ack);
        self.lineage = self.meta.lineage.clone();
        self.txid = position.txid;
        self.primary = Some(epoch);
        let origin = Origin::Primary { me: roster.me, mode, voters: roster.voters.clone() };
        let now = self.node.clock.now();
        let (lineage, config) = (self.lineage.clone(), ShipConfig::default());
        self.shipper =
            Some(Shipper::new(config, origin, epoch, lineage, position.txid, checksum, now));
        self.snapshots.clear();
        self.positions = self.dataset.watch();
        self.live = Some(self.dataset.subscribe(position)?);
        self.dataset.set_ack(match mode {
            AckMode::Local => Ack::Local,
            AckMode::Follower | AckMode::Quorum => Ack::Remote,
        });
        let me = roster.me;
        self.desk.change(|standing| {
            standing.ours = Some(epoch);
            standing.primary = Some(me);
            standing.lineage = self.lineage.clone();
            standing.has_history = true;
        });
        self.desk.gate.open();
        self.node.changed();
        Ok(())
    }

    async fn demote(&mut self, reason: Demotion) -> Result<(), Error> {
        tracing::info!(dataset = %self.desk.id, ?reason, "primary no more");
        self.desk.gate.close();
        self.dataset.fence();
        self.end_relay();
        let led = self.primary.take().is_some();
        self.shipper = None;
        self.live = None;
        self.snapshots.clear();
        // Whoever still waits for an acknowledgement learns that its outcome is unknown.
        self.desk.change(|standing| standing.ours = None);
        self.dataset.demote(self.dataset.epoch()).await?;
        // Where the promotion had failed it has followed all the while, and `lineage` is an old one.
        if led {
            let (position, checksum) = self.dataset.checksum();
            let replica = Replica {
                lineage: self.lineage.clone(),
                txid: position.txid,
                checksum,
                fence: self.meta.fence,
                health: Health::Sound,
            };
            let config = FollowConfig::new(self.node.jitter(&self.desk.id));
            self.follow = Follow::new(config, replica, self.node.clock.now());
        }
        match reason {
            Demotion::Replaced { by, .. } => self.primary_is(by),
            Demotion::HandedOver { .. } => {
                self.desk.change(|standing| standing.primary = None);
                if let Some(done) = self.hand_over.take() {
                    let _ = done.send(Ok(()));
                }
            }
        }
        self.node.changed();
        Ok(())
    }

    pub(super) fn hand_over_to(&mut self, to: NodeId, done: oneshot::Sender<Result<(), String>>) {
        if self.lease.is_none() || self.primary.is_none() || self.hand_over.is_some() {
            let why = if self.lease.is_none() {
                "without a lease register the primary cannot move"
            } else if self.primary.is_none() {
                "this node is not the primary"
            } else {
                "another hand-over is under way"
            };
            let _ = done.send(Err(why.to_owned()));
            return;
        }
        self.hand_over = Some(done);
        self.queue.push_back(Work::Lease(Event::HandOver { to }));
    }
}
