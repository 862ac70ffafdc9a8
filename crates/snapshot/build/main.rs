//! Evaluates the engine's JavaScript at build time, once for each surface, and writes the heaps
//! as snapshots.
//!
//! Each step runs in a process of its own, since V8 has its flags and the memory that all
//! isolates share once a process.

#![allow(clippy::expect_used, reason = "a build script reports by failing")]

#[cfg(not(feature = "quickjs"))]
mod heap;
mod sources;

use std::path::{Path, PathBuf};
use std::process::Command;

use verge_engine::Surface;

/// The file of a surface's heap, in its folder.
const SNAPSHOT: &str = "snapshot.bin";
const SURFACES: [(&str, Surface); 2] = [("web", Surface::Web), ("node", Surface::Node)];

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => make_all(&out),
        ["sources", name] => sources::write(&out, name, surface(name)),
        #[cfg(not(feature = "quickjs"))]
        ["shared"] => heap::write_shared(&out),
        #[cfg(not(feature = "quickjs"))]
        ["heap", name] => heap::write(&out, name, surface(name)),
        _ => panic!("cargo runs this without arguments, and it itself runs its steps"),
    }
}

fn surface(name: &str) -> Surface {
    let found = SURFACES.iter().find(|(known, _)| *known == name);
    found.expect("a surface has one of two names").1
}

fn make_all(out: &Path) {
    for (name, _) in SURFACES {
        step(&["sources", name]);
    }
    #[cfg(not(feature = "quickjs"))]
    {
        step(&["shared"]);
        for (name, _) in SURFACES {
            step(&["heap", name]);
        }
        heap::check(out);
    }
}

fn step(arguments: &[&str]) {
    let this = std::env::current_exe().expect("a process has an executable");
    let status = Command::new(&this).args(arguments).status().expect("it can be run again");
    assert!(status.success(), "making the snapshots failed at {arguments:?}: {status}");
}
