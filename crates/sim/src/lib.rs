//! Whole fleets in one thread, in virtual time, from one seed: the real cores of
//! `verge-replicate` on simulated disks, networks, clocks and a simulated register, with faults,
//! and checkers of what clients saw. A violation names its seed; the seed replays it.
//!
//! What is simulated of a dataset is in `data` (pages, segments) and `disk` (log, file, crash);
//! how a node carries out the cores' effects is in `node`; `world` moves time; `faults` breaks
//! things; `clients` ask; `history` judges. `bug` holds the errors that are put in on purpose to
//! show that the judges can see them.

pub mod bug;
pub mod clients;
pub mod data;
pub mod disk;
pub mod faults;
pub mod history;
pub mod net;
pub mod node;
pub mod plan;
pub mod rng;
pub mod world;

pub use bug::Bug;
pub use plan::Plan;
pub use world::{Report, run};
