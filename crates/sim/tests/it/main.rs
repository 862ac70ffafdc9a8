//! Seeds that must hold, and errors that must be seen.

mod bugs;
mod files;
mod seeds;
