//! Configuration files as data: `tests/fixtures/config/<case>/` holds the file and `expected.txt`,
//! the errors it must give, or what it is read as. `VERGE_BLESS=1` writes them anew.
#![allow(clippy::unwrap_used, reason = "a helper that cannot do its part has failed the test")]

use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;
use verge_bundle::{AppConfig, Project};

use crate::support::Folder;

/// What a configuration is read as, without paths of this machine.
fn summary(config: &AppConfig) -> String {
    let shown = |path: &Path| path.strip_prefix(&config.root).unwrap_or(path).display().to_string();
    let mut text = String::new();
    let _ = writeln!(text, "name {}", config.name);
    let _ = writeln!(text, "main {}", config.main.as_deref().map_or("-".into(), shown));
    let _ = writeln!(text, "date {} {:?}", config.compatibility_date, config.compatibility_flags);
    for (name, binding) in &config.bindings {
        let _ = writeln!(text, "binding {name} {}", serde_json::to_string(binding).unwrap());
    }
    for limit in verge_types::Limit::ALL {
        let value = config.limits.get(*limit);
        if value != limit.spec().default {
            let _ = writeln!(text, "limit {limit} {value}");
        }
    }
    if let Some(assets) = &config.assets {
        let _ = writeln!(
            text,
            "assets {} {:?} {:?} {:?}",
            shown(&assets.directory),
            assets.html_handling,
            assets.not_found_handling,
            assets.run_worker_first
        );
    }
    for (what, list) in [
        ("cron", &config.crons),
        ("host", &config.hosts),
        ("egress", &config.egress_allow),
        ("guess", &config.guesses),
        ("warning", &config.warnings),
    ] {
        for item in list {
            let _ = writeln!(text, "{what} {item}");
        }
    }
    for (name, value) in config.define.iter().chain(&config.alias) {
        let _ = writeln!(text, "replace {name} {value}");
    }
    for rule in &config.rules {
        let _ = writeln!(text, "rule {:?} {:?}", rule.kind, rule.extensions);
    }
    text
}

#[test]
fn every_case_reads_as_expected() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config");
    let bless = std::env::var_os("VERGE_BLESS").is_some();
    let mut count = 0;
    let mut failed = Vec::new();
    for case in std::fs::read_dir(&cases).unwrap() {
        let case = case.unwrap().path();
        count += 1;
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        // `<name>@<environment>` asks for an environment.
        let environment = name.split_once('@').map(|(_, e)| e);
        let got = match Project::find(&case).and_then(|p| p.config(environment)) {
            Ok(config) => summary(&config),
            Err(error) => format!("{error}\n"),
        };
        let expected = case.join("expected.txt");
        if bless {
            std::fs::write(&expected, &got).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if got != wanted {
            failed.push(format!("--- {name}\nexpected:\n{wanted}\ngot:\n{got}"));
        }
    }
    assert!(count >= 10, "only {count} cases");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn verge_jsonc_wins_over_wrangler() {
    let folder = Folder::new(&[
        ("verge.jsonc", r#"{ "name": "ours", "main": "a.ts" }"#),
        ("wrangler.toml", "name = 'theirs'\n"),
    ]);
    assert_eq!(folder.config().name.as_str(), "ours");
}

#[test]
fn a_folder_without_configuration_is_guessed() {
    let site = Folder::new(&[("index.html", "<p>")]);
    let config = site.config();
    assert!(config.main.is_none() && config.assets.is_some(), "{config:?}");
    assert!(config.guesses[0].contains("static site"), "{:?}", config.guesses);

    let app = Folder::new(&[("src/index.tsx", ""), ("index.html", "")]);
    let config = app.config();
    assert!(config.main.is_some_and(|m| m.ends_with("src/index.tsx")));
    assert!(config.guesses[0].contains("src/index.tsx"), "{:?}", config.guesses);

    let package = Folder::new(&[("package.json", r#"{"main":"lib/app.js"}"#), ("lib/app.js", "")]);
    assert!(package.config().main.is_some_and(|m| m.ends_with("lib/app.js")));

    let empty = Folder::new(&[]);
    let error = Project::find(&empty.path()).unwrap().config(None).unwrap_err();
    assert!(error.to_string().contains("nothing to serve"), "{error}");
}

#[test]
fn dev_values_follow_wranglers_order() {
    let folder = Folder::new(&[
        ("wrangler.jsonc", r#"{ "main": "a.ts", "env": { "staging": {} } }"#),
        (".env", "A=1\nB=1\n"),
        (".env.staging", "B=2\n"),
    ]);
    let dev =
        |environment| Project::find(&folder.path()).unwrap().config(environment).unwrap().dev_vars;
    assert_eq!(dev(None)["B"], "1");
    assert_eq!(
        (dev(Some("staging"))["A"].as_str(), dev(Some("staging"))["B"].as_str()),
        ("1", "2")
    );
    folder.write(".dev.vars", "C=3\n");
    assert_eq!(dev(None).keys().collect::<Vec<_>>(), ["C"], "`.env` is not read then");
    folder.write(".dev.vars.staging", "D=4\n");
    assert_eq!(dev(Some("staging")).keys().collect::<Vec<_>>(), ["D"]);
    folder.write(".dev.vars", "not a line with the-secret\n");
    let error = Project::find(&folder.path()).unwrap().config(None).unwrap_err().to_string();
    assert!(error.starts_with(".dev.vars:1:1") && !error.contains("the-secret"), "{error}");
}

#[test]
fn a_file_that_is_too_large_or_too_deep_is_refused() {
    let folder = Folder::new(&[("main.ts", "")]);
    let read = || Project::find(&folder.path()).unwrap().config(None);
    folder.write("verge.jsonc", " ".repeat(2 * 1024 * 1024));
    assert!(read().unwrap_err().to_string().contains("larger than"));
    folder.write("verge.jsonc", "[".repeat(500_000));
    assert!(read().is_err());
    folder.write("verge.jsonc", format!("{{\"vars\":{}", "{\"a\":".repeat(100_000)));
    assert!(read().is_err());
    std::fs::remove_file(folder.path().join("verge.jsonc")).unwrap();
    folder.write("wrangler.toml", format!("vars = {}", "[".repeat(100_000)));
    assert!(read().is_err());
    folder.write("wrangler.toml", b"\xff\xfe");
    assert!(read().unwrap_err().to_string().contains("UTF-8"));
}

/// Text that is near to a configuration: real keys with arbitrary values.
fn near_configuration() -> impl Strategy<Value = String> {
    let keys: Vec<&'static str> =
        verge_bundle::configuration_keys().iter().map(|k| k.key).collect();
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        ".{0,12}".prop_map(|s| serde_json::Value::from(s).to_string()),
    ];
    let inner = prop::sample::select(vec![
        "binding",
        "service",
        "directory",
        "type",
        "globs",
        "allow",
        "crons",
        "command",
        "heap",
        "cpu_ms",
        "port",
        "staging",
        "main",
        "vars",
        "é",
    ]);
    let value = leaf.prop_recursive(4, 24, 4, move |element| {
        prop_oneof![
            prop::collection::vec(element.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(","))),
            prop::collection::vec((inner.clone(), element), 0..4).prop_map(|entries| {
                let list: Vec<_> = entries.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
                format!("{{{}}}", list.join(","))
            }),
        ]
    });
    prop::collection::vec((prop::sample::select(keys), value), 0..6).prop_map(|entries| {
        let list: Vec<_> = entries.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("{{{}}}", list.join(","))
    })
}

fn read_as(name: &str, text: &str) {
    let folder = Folder::new(&[(name, text), ("main.ts", ""), (".dev.vars", text)]);
    if let Ok(project) = Project::find(&folder.path()) {
        for environment in [None, Some("staging")] {
            if let Err(error) = project.config(environment) {
                assert!(!error.diagnostics.is_empty());
                error.to_string();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}", toml in any::<bool>()) {
        read_as(if toml { "wrangler.toml" } else { "wrangler.jsonc" }, &text);
    }

    #[test]
    fn no_values_make_the_reader_panic(text in near_configuration()) {
        read_as("verge.jsonc", &text);
    }
}

/// The tables of `docs/configuration.md` are what the code knows.
#[test]
fn the_documentation_has_every_key_default_and_unit() {
    use verge_bundle::KeyUse;
    use verge_types::{Limit, Unit};
    let mut keys =
        String::from("| Key | Default | Inherited | Holds |\n| --- | --- | --- | --- |\n");
    let mut others = [String::new(), String::new(), String::new()];
    for doc in verge_bundle::configuration_keys() {
        let (list, text) = match doc.usage {
            KeyUse::Read => {
                let inherited = if doc.inherited { "yes" } else { "no" };
                let _ = writeln!(
                    keys,
                    "| `{}` | {} | {inherited} | {} |",
                    doc.key,
                    if doc.default.is_empty() { "none" } else { doc.default },
                    doc.holds
                );
                continue;
            }
            KeyUse::Ignored("") => (0, format!("`{}`", doc.key)),
            KeyUse::Ignored(why) => (0, format!("`{}` ({why})", doc.key)),
            KeyUse::Later(service) => (1, format!("`{}` ({service})", doc.key)),
            KeyUse::Refused(instead) => (2, format!("`{}` ({instead})", doc.key)),
        };
        let _ = write!(others[list], "{}{text}", if others[list].is_empty() { "" } else { ", " });
    }
    let _ = write!(
        keys,
        "\nAccepted without effect, with a warning: {}.\n\n\
         Of services that this version does not have, refused by name: {}.\n\n\
         Never supported: {}.\n",
        others[0], others[1], others[2]
    );
    let mut limits =
        String::from("| Key | Default | Least | Most | Why |\n| --- | --- | --- | --- | --- |\n");
    for limit in Limit::ALL {
        let spec = limit.spec();
        let shown = |value: u64| match spec.unit {
            Unit::Bytes if value > 0 && value.is_multiple_of(1 << 20) => {
                format!("{} MiB", value >> 20)
            }
            Unit::Bytes if value > 0 && value.is_multiple_of(1 << 10) => {
                format!("{} KiB", value >> 10)
            }
            Unit::Bytes => format!("{value} bytes"),
            Unit::Milliseconds => format!("{value} ms"),
            Unit::Count => value.to_string(),
        };
        let _ = writeln!(
            limits,
            "| `{}` | {} | {} | {} | {} |",
            spec.key,
            shown(spec.default),
            shown(spec.min),
            shown(spec.max),
            spec.reason
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let before = std::fs::read_to_string(&path).unwrap();
    let mut after = before.clone();
    for (name, table) in [("keys", &keys), ("limits", &limits)] {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let start = after.find(&open).unwrap() + open.len();
        let end = after.find(&close).unwrap();
        after.replace_range(start..end, table);
    }
    if std::env::var_os("VERGE_BLESS").is_some() {
        std::fs::write(&path, &after).unwrap();
        return;
    }
    assert!(before == after, "docs/configuration.md is behind the code: run with VERGE_BLESS=1");
}
