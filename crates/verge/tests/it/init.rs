//! Every template makes a project that checks, builds and answers.

use std::collections::BTreeSet;
use std::path::Path;

use super::harness::{Dev, example, stderr, stdout, verge};

fn files(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(dir).expect("below");
                found.insert(below.to_string_lossy().into_owned());
            }
        }
    }
    found
}

#[tokio::test]
async fn every_template_becomes_an_app_that_answers() {
    for (template, text) in [
        ("worker", "Hello from Verge"),
        ("hono", "Hello from Hono"),
        ("react", "Streamed by React"),
        ("static", "A static site"),
    ] {
        let parent = tempfile::tempdir().expect("a folder");
        let dir = parent.path().join("My App");
        let path = dir.to_str().expect("text");
        let output = verge(&["init", path, "--template", template]);
        assert!(output.status.success(), "{template}: {}", stderr(&output));
        if dir.join("package.json").is_file() {
            // Only `npm install` is left out, for the sake of time.
            let packages = example(template).join("node_modules");
            std::os::unix::fs::symlink(packages, dir.join("node_modules")).expect("a link");
        }
        let output = verge(&["check", path, "--json"]);
        assert!(output.status.success(), "{template}: {}", stdout(&output));
        let value: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        assert_eq!((&value["app"], &value["ok"]), (&"my-app".into(), &true.into()));
        let out = parent.path().join("out");
        let output = verge(&["build", path, "--out", out.to_str().expect("text")]);
        assert!(output.status.success(), "{template}: {}", stderr(&output));
        assert!(out.join("verge-deployment.json").is_file());
        let dev = Dev::start(&[&dir]);
        let answer = dev.get("/").await;
        assert!(answer.body.contains(text), "{template}: {answer:?}");
    }
}

#[test]
fn a_file_in_the_way_is_kept_and_nothing_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("wrangler.jsonc"), "mine").expect("written");
    let output = verge(&["init", dir.path().to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("already has wrangler.jsonc"), "{}", stderr(&output));
    assert_eq!(files(dir.path()), BTreeSet::from(["wrangler.jsonc".to_owned()]));
    let text = std::fs::read_to_string(dir.path().join("wrangler.jsonc")).expect("read");
    assert_eq!(text, "mine");
}

#[test]
fn an_existing_folder_gets_the_files_beside_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("LICENSE"), "mine").expect("written");
    let output = verge(&["init", dir.path().to_str().expect("text"), "--json"]);
    assert!(output.status.success(), "{}", stdout(&output));
    let found = files(dir.path());
    for file in ["LICENSE", "src/index.ts", "wrangler.jsonc", ".gitignore", "README.md"] {
        assert!(found.contains(file), "{file} is missing in {found:?}");
    }
}
