//! What is said when something is wrong: where it is and what to do.

use std::net::TcpListener;

use serde_json::Value;

use super::harness::{command, project, stderr, stdout, verge};

#[test]
fn a_wrong_configuration_is_shown_with_its_place() {
    let dir = project(&[(
        "wrangler.jsonc",
        "{\n  \"name\": \"app\",\n  \"mian\": \"index.ts\",\n  \"limits\": { \"cpu_time\": \"fast\" }\n}\n",
    )]);
    let path = dir.path().to_str().expect("text");
    let output = verge(&["check", path]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output).replace(path, "DIR");
    let expected = include_str!("golden/wrong_config.txt");
    assert_eq!(text, expected, "\n{text}");
    assert_eq!(stdout(&output), "");

    let output = verge(&["check", path, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let value: Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
    assert_eq!(value["error"]["code"], "config");
    assert_eq!(value["error"]["diagnostics"][0]["line"], 3);
}

#[test]
fn code_that_does_not_parse_is_shown_with_its_place() {
    let dir = project(&[("index.ts", "const a = 1;\nconst b = ;\nexport default {};\n")]);
    let output = verge(&["check", dir.path().to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    for part in ["--> index.ts:2:11", "const b = ;", "does not build"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn a_package_that_is_missing_says_what_to_run() {
    let dir = project(&[
        ("index.ts", "import { Hono } from 'hono';\nexport default new Hono();\n"),
        ("package.json", r#"{ "dependencies": { "hono": "4" } }"#),
    ]);
    let output = verge(&["check", dir.path().to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("npm install"), "{text}");
}

#[test]
fn a_folder_without_an_app_says_what_to_add() {
    let dir = project(&[("notes.md", "")]);
    for name in ["check", "build", "dev"] {
        let output = verge(&[name, dir.path().to_str().expect("text")]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(stderr(&output).contains("add src/index.ts or index.html"), "{}", stderr(&output));
    }
    let output = verge(&["dev", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [&["dve"][..], &["dev", "--prot", "1"], &["init", "--template", "vue"], &[]] {
        let output = verge(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = verge(&["check", "--limit", "--json"]);
    assert_eq!(output.status.code(), Some(2));
    let value: Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
    assert_eq!(value["error"]["code"], "usage");
}

#[test]
fn a_port_that_was_asked_for_and_is_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let dir = project(&[("index.js", "export default { fetch: () => new Response('') };")]);
    let output = command().arg("dev").arg(dir.path()).args(["--port", &port]).output();
    let output = output.expect("verge runs");
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&format!("port {port} is in use")), "{text}");
    assert!(text.contains("leave --port out"), "{text}");
}

#[tokio::test]
async fn a_preferred_port_that_is_taken_gives_way_to_the_next() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let config = format!(r#"{{ "name": "app", "main": "index.js", "dev": {{ "port": {port} }} }}"#);
    let dir = project(&[
        ("verge.jsonc", &config),
        ("index.js", "export default { fetch: () => new Response('here') };"),
    ]);
    let dev = super::harness::Dev::with(&[dir.path()], &[]);
    assert!(dev.port > port);
    assert_eq!(dev.get("/").await.body, "here");
    let note = dev.event("warning", 0);
    assert!(note["message"].as_str().is_some_and(|m| m.contains("is taken")), "{note}");
}

#[test]
fn two_apps_of_one_name_are_refused() {
    let a = project(&[("verge.jsonc", r#"{ "name": "same", "main": "i.js" }"#), ("i.js", "")]);
    let b = project(&[("verge.jsonc", r#"{ "name": "same", "main": "i.js" }"#), ("i.js", "")]);
    let output = command().arg("dev").arg(a.path()).arg(b.path()).output().expect("verge runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("both named `same`"), "{}", stderr(&output));
}
