//! The commands that end by themselves.

use serde_json::Value;
use verge_types::Limit;

use super::harness::{command, example, stderr, stdout, verge};

#[test]
fn check_lists_every_limit() {
    let output = verge(&["check", "--limits"]);
    assert!(output.status.success());
    let text = stdout(&output);
    for limit in Limit::ALL {
        let spec = limit.spec();
        assert!(text.contains(&format!("limits.{}", spec.key)), "{text}");
        assert!(text.contains(spec.reason), "{text}");
    }
    let output = verge(&["check", "--limits", "--json"]);
    let value: Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
    assert_eq!(value["limits"].as_array().map(Vec::len), Some(Limit::ALL.len()));
}

#[test]
fn check_lists_the_configuration_keys() {
    let text = stdout(&verge(&["check", "--keys"]));
    for key in ["main", "compatibility_date", "assets", "limits"] {
        assert!(text.lines().any(|line| line.starts_with(key)), "{key} is missing in\n{text}");
    }
}

#[test]
fn the_same_source_builds_the_same_deployment() {
    let out = tempfile::tempdir().expect("a folder");
    let build = |name: &str| -> Value {
        let dir = out.path().join(name);
        let worker = example("worker");
        let output =
            command().arg("build").arg(worker).arg("--json").arg("--out").arg(&dir).output();
        let output = output.expect("verge runs");
        assert!(output.status.success(), "{}", stdout(&output));
        serde_json::from_str(&stdout(&output)).expect("one JSON object")
    };
    let (first, second) = (build("a"), build("b"));
    assert_eq!(first["id"], second["id"]);
    assert_eq!(first["id"].as_str().map(str::len), Some(16));
    // Replaces a deployment, never anything else.
    build("a");
    let foreign = out.path().join("mine");
    std::fs::create_dir(&foreign).expect("made");
    std::fs::write(foreign.join("thesis.txt"), "mine").expect("written");
    let output = command()
        .arg("build")
        .arg(example("worker"))
        .arg("--out")
        .arg(&foreign)
        .output()
        .expect("verge runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("holds no deployment"), "{}", stderr(&output));
    assert!(foreign.join("thesis.txt").is_file());
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = verge(&["completion", shell]);
        assert!(output.status.success(), "{shell}");
        let text = stdout(&output);
        assert!(text.contains("completion") && text.contains("template"), "{shell}");
    }
}

#[test]
fn help_teaches_with_examples() {
    for arguments in [&["--help"][..], &["dev", "--help"], &["init", "--help"], &["check", "-h"]] {
        let output = verge(arguments);
        assert!(output.status.success());
        assert!(stdout(&output).contains("Examples:"), "{}", stdout(&output));
    }
}

#[test]
fn there_are_no_colours_in_a_pipe() {
    let output = command().env_remove("NO_COLOR").arg("check").arg("--limits").output();
    let output = output.expect("verge runs");
    assert!(!stdout(&output).contains('\u{1b}'));
    let output = command().env_remove("NO_COLOR").args(["check", "/nowhere"]).output();
    assert!(!stderr(&output.expect("verge runs")).contains('\u{1b}'));
}

#[test]
fn quiet_prints_only_the_result() {
    let worker = example("worker");
    let output = command().arg("check").arg(&worker).arg("--quiet").output().expect("verge runs");
    assert!(output.status.success());
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
}
