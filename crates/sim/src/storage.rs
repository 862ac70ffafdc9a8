//! The seam between a simulated node and its copy of the data: real files (`files`), or a model of
//! them that is quick (`model`). A node carries out the cores' effects through it, whichever it is.

use bytes::Bytes;
use verge_replicate::follow::Health;
use verge_replicate::wire::{Segment, SnapshotHeader};
use verge_replicate::{Lineage, Moment, NodeId};
use verge_types::Position;

use crate::content::{Content, Write};
use crate::rng::Rng;

/// Metadata beside the dataset; written whole, synced, renamed.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub fence: u64,
    pub lineage: Lineage,
    pub health: Health,
    /// A snapshot is about to take the data's place, or has.
    pub seeding: Option<Seeding>,
}

/// Where a snapshot that is taken in ends, and its lineage.
#[derive(Clone, Debug)]
pub struct Seeding {
    pub position: Position,
    pub checksum: u64,
    pub lineage: Lineage,
}

impl Meta {
    /// The data tells whether a snapshot was installed before its lineage was written down.
    pub fn settle(&mut self, position: Position, checksum: u64) {
        if let Some(seeding) = self.seeding.take()
            && seeding.position == position
            && seeding.checksum == checksum
        {
            self.lineage = seeding.lineage;
            self.health = Health::Sound;
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug)]
pub enum Failure {
    /// Nothing was changed, for certain.
    Refused,
    /// Whether it was kept is not known.
    Unknown,
    /// What was given does not go with the data. Correct nodes do not come here.
    Misfit(String),
    /// A newer epoch is known.
    Stale { known: u64 },
}

/// What became of a group of writes that was begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Whether each of them goes on.
    pub ran: Vec<bool>,
    /// The checksum after it, if that is known already.
    pub checksum: Option<u64>,
}

/// Something that goes wrong with a machine.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// No space; `tells` if the disk says so before it is written to.
    Full {
        tells: bool,
    },
    Space,
    SyncFails,
    /// The power fails after so many steps of the disk.
    Power {
        steps: u64,
    },
    /// None of these any more.
    Heal,
}

/// Histories that were set aside on a machine.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// Writes in them, where they are known by themselves,
    pub ops: Vec<u32>,
    /// and positions with their checksums, where they are known by these.
    pub positions: Vec<(Position, u64)>,
}

/// A snapshot that goes to a follower in a session.
pub type Outlet = (NodeId, u64);

/// A machine's copy of the dataset.
pub trait Storage {
    fn set_clock(&mut self, now: Moment, wall_ms: u64);
    fn meta(&self) -> &Meta;
    fn meta_mut(&mut self) -> &mut Meta;

    /// A process begins: recovers what is durable. `Unknown` if the disk fails.
    fn open(&mut self) -> Result<(), Failure>;
    /// The process ends; what was not synced is left to luck.
    fn crash(&mut self, rng: &mut Rng);
    /// The disk was replaced by an empty one; the process knows that it had data here.
    fn wipe(&mut self);
    fn fault(&mut self, fault: Fault);
    fn is_on(&self) -> bool;
    /// A sync fails now, after which the process cannot go on.
    fn is_lost(&self) -> bool;

    /// The last transaction, and the rolling checksum there.
    fn head(&self) -> (u64, u64);
    /// The highest epoch that the data knows.
    fn epoch(&self) -> u64;
    /// The checksum of all pages as readers see them.
    fn page_checksum(&mut self) -> Option<u64>;
    /// What a reader gets, and the position that it is told. `lineage` and `txid` are the node's.
    fn look(&mut self, lineage: &Lineage, txid: u64) -> Option<(Content, Position)>;
    /// Reads all of it and compares it with itself.
    fn verify(&mut self) -> Result<(), String>;

    fn promote(&mut self, epoch: u64) -> Result<(), Failure>;
    /// A failure ends the process: it must not stay what it was.
    fn demote(&mut self) -> Result<(), Failure>;
    fn lease(&mut self, until: Moment);
    /// A group of transactions begins to be made durable as one segment.
    fn begin(
        &mut self,
        position: Position,
        wall_ms: u64,
        writes: &[Write],
        rng: &mut Rng,
    ) -> Result<Begun, Failure>;
    /// It is durable: whether each of its transactions ran.
    fn finish(&mut self) -> Result<Vec<bool>, Failure>;
    /// It is not: nothing of it was written.
    fn drop_group(&mut self);
    /// What a read in the middle of the last group's sync got, with the position that it was told.
    fn glimpsed(&mut self) -> Option<(Content, Position)>;
    /// Something that changes pages but nothing that clients see.
    fn maintain(&mut self, kind: u64) -> Result<(), Failure>;
    /// Goes back to the content at `position`.
    fn restore(&mut self, position: Position) -> Result<(), Failure>;
    /// What our own log has new, while primary.
    fn pick_up(&mut self) -> Vec<Segment>;

    /// How many segments are applied together at most.
    fn batch(&self) -> usize;
    fn apply_begin(&mut self, segments: &[Segment]) -> Result<(), Failure>;
    fn apply_end(&mut self, segments: &[Segment]) -> Result<(), Failure>;
    /// Work that a writer does now and then.
    fn chores(&mut self, rng: &mut Rng);

    /// The oldest segment that can be given, and the checksum after `txid`.
    fn judge(&mut self, lineage: &Lineage, txid: u64) -> (u64, Option<u64>);
    fn load(&mut self, lineage: &Lineage, after: u64, up_to: u64, max_bytes: usize)
    -> Vec<Segment>;
    fn open_snapshot(&mut self, to: Outlet, position: Position) -> Option<SnapshotHeader>;
    /// A chunk, and whether it is the last.
    fn chunk(&mut self, to: Outlet, chunk: u64) -> Option<(Bytes, bool)>;
    fn close_snapshot(&mut self, to: Outlet);
    fn close_snapshots(&mut self);
    /// Followers need nothing before `from`.
    fn retain(&mut self, from: u64);

    fn seed_begin(&mut self, snapshot: &SnapshotHeader, lineage: Lineage) -> Result<(), Failure>;
    fn seed_chunk(&mut self, bytes: Bytes, last: bool) -> Result<(), Failure>;
    /// The finished seed takes the place of data and lineage, in one step.
    fn seed_install(&mut self) -> Result<(), Failure>;
    fn seed_abort(&mut self);
    /// The data is marked as diverged after `fork`: what is there is to be kept.
    fn set_aside(&mut self, fork: u64);
    fn aside(&mut self) -> Aside;
}
