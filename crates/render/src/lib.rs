//! Static assets, and the order in which assets and code answer a request.
//!
//! [`Assets`] is a folder, scanned once: what matches which path, the headers each file is
//! sent with, its compressed forms. [`Site`] puts it before (or behind) an app's code.

mod assets;
mod site;

pub use assets::{AssetError, Assets, MAX_FILE_SIZE, MAX_FILES};
pub use site::{AssetsBinding, Site};
