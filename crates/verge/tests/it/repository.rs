//! What the documentation says of the repository is true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Everything under `folder` in Rust, as one text.
fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "node_modules") {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("readable"));
        }
    }
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    let text = fs::read_to_string(root().join("docs/guarantees.md")).expect("the document");
    let mut named = 0;
    let mut by_crate: BTreeMap<&str, String> = BTreeMap::new();
    for (package, test) in
        text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(": "))
    {
        let folder = package.strip_prefix("verge-").unwrap_or("verge");
        let code = by_crate.entry(package).or_insert_with(|| {
            let mut code = String::new();
            sources(&root().join("crates").join(folder), &mut code);
            code
        });
        let name = test.rsplit("::").next().unwrap_or(test);
        assert!(code.contains(&format!("fn {name}(")), "{package} has no test {test}");
        named += 1;
    }
    assert!(named > 30, "the document's form has changed: {named} tests found in it");
}

/// Which of our crates may use which: an arrow that is not here is a decision to be made.
const ARROWS: &[(&str, &[&str])] = &[
    ("verge-types", &[]),
    ("verge-telemetry", &["verge-types"]),
    ("verge-dataset", &["verge-telemetry", "verge-types"]),
    ("verge-gateway", &["verge-telemetry", "verge-types"]),
    ("verge-render", &["verge-types"]),
    ("verge-bundle", &["verge-types"]),
    ("verge-fabric", &["verge-telemetry", "verge-types"]),
    ("verge-engine", &["verge-telemetry", "verge-types"]),
    ("verge-snapshot", &["verge-engine"]),
    ("verge-runtime", &["verge-engine", "verge-snapshot", "verge-telemetry", "verge-types"]),
];

#[test]
fn crates_use_only_what_the_architecture_lets_them() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    for (name, allowed) in ARROWS {
        let package = packages.iter().find(|package| package["name"] == *name).expect(name);
        let used: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| dependency.starts_with("verge-"))
            .collect();
        let more: Vec<_> = used.iter().filter(|used| !allowed.contains(used)).collect();
        assert!(more.is_empty(), "{name} uses {more:?}");
    }
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        assert!(
            listed.contains(name) || ["verge", "verge-bench"].contains(&name),
            "{name} is not in the list"
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut files = vec![root().join("README.md"), root().join("examples/README.md")];
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).expect("a folder").flatten();
        files.extend(entries.map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or(link);
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = file.parent().expect("a folder").join(target);
            assert!(path.exists(), "{} links to {target}", file.display());
        }
    }
}
