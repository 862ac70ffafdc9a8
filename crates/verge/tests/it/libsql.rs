//! libSQL's own clients, unmodified, with a database of `verge dev`: the tests of
//! `crates/hrana/tests/client`, at the primary's place and at another one.

use std::process::Command;

use super::harness::repository;

fn clients(place: &str) {
    let folder = repository().join("crates/hrana/tests/client");
    let packages = folder.join("node_modules");
    assert!(packages.is_dir(), "the clients are not installed: run `make examples` first");
    let run = Command::new("npm")
        .args(["run", "--silent", "test:dev"])
        .current_dir(&folder)
        .env("VERGE", env!("CARGO_BIN_EXE_verge"))
        .env("VERGE_PLACE", place)
        .env("NO_COLOR", "1")
        .env_remove("HRANA_SERVE")
        .output()
        .expect("npm runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{}\n{}", text(&run.stdout), text(&run.stderr));
}

#[test]
fn the_unmodified_clients_work_where_the_primary_is() {
    clients("iad");
}

#[test]
fn the_unmodified_clients_work_at_another_place() {
    clients("nrt");
}
