//! Whole fleets in one thread, in virtual time, from one seed: the real cores of
//! `verge-replicate` on simulated disks, networks, clocks and a simulated register, with faults,
//! and checkers of what clients saw. A violation names its seed; the seed replays it.
//!
//! A node's copy of the dataset is a [`storage::Storage`]: real SQLite files under the real engine
//! (`files`) on a disk that loses its power (`power`), or a `model` of them for many more seeds.
//! How a node carries out the cores' effects is in `node`; `world` moves time; `faults` breaks
//! things; `clients` ask for `content`; `history` judges. `bug` holds the errors that are put in on
//! purpose to show that the judges can see them.

pub mod bug;
pub mod clients;
pub mod content;
mod cycle;
pub mod faults;
pub mod files;
pub mod history;
pub mod model;
pub mod net;
pub mod node;
pub mod plan;
pub mod power;
pub mod rng;
pub mod storage;
pub mod world;

pub use bug::Bug;
pub use plan::Plan;
pub use world::{Report, run};
