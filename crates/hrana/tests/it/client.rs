//! What happens to libSQL's clients when they are too slow, and to what is no client:
//! `tests/client/limits.test.mjs` against `examples/serve.rs`. (The clients' other tests run
//! against `verge dev`: `verge::it libsql`.)

use std::path::Path;
use std::process::Command;

#[test]
fn slow_clients_and_what_is_none() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client");
    assert!(folder.join("node_modules").is_dir(), "run `make examples` first");
    // Cargo builds a package's examples with its tests: beside their folder.
    let tests = std::env::current_exe().unwrap();
    let serve = tests.ancestors().nth(2).unwrap().join("examples/serve");
    assert!(serve.is_file(), "{} is not built", serve.display());
    let run = Command::new("npm")
        .args(["run", "--silent", "test:limits"])
        .current_dir(&folder)
        .env("HRANA_SERVE", serve)
        .env_remove("VERGE")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{}\n{}", text(&run.stdout), text(&run.stderr));
}
