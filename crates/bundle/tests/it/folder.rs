//! A deployment written to a folder and read back by somebody who trusts nothing.
#![allow(clippy::unwrap_used, reason = "a helper that cannot do its part has failed the test")]

use std::path::{Path, PathBuf};

use verge_bundle::{BuildError, BuildOptions, FolderError, MANIFEST, read_deployment, read_stored};

use crate::support::Folder;

fn written() -> (Folder, PathBuf) {
    let folder = Folder::new(&[
        (
            "verge.jsonc",
            r#"{ "name": "stored", "main": "index.ts", "limits": { "heap": "64MiB" }, "vars": { "A": { "deep": [1] } }, "triggers": { "crons": ["* * * * *"] },
                 "services": [{ "binding": "B", "service": "other", "props": { "x": 1 } }],
                 "assets": { "directory": "public", "binding": "ASSETS", "run_worker_first": ["/api/*"] } }"#,
        ),
        (
            "index.ts",
            "import t from './t.txt';\nexport default { fetch: () => new Response(t as string) };\n",
        ),
        ("t.txt", "text"),
        ("public/a/b.html", "<p>"),
    ]);
    let out = folder.path().join("out");
    build(&folder, &out).unwrap();
    (folder, out)
}

fn build(folder: &Folder, out: &Path) -> Result<verge_bundle::Built, BuildError> {
    let options = BuildOptions { out_dir: Some(out.to_owned()), ..Default::default() };
    folder.bundler().build(&folder.config(), options)
}

#[test]
fn what_was_written_reads_back_the_same() {
    let (folder, out) = written();
    let built = folder.build().unwrap().deployment;
    let stored = read_stored(&out).unwrap();
    assert_eq!((stored.name.as_str(), stored.limits.heap), ("stored", 64 << 20));
    let read = stored.deployment;
    assert_eq!(read.id, built.id);
    assert_eq!((read.main, read.bindings, read.crons), (built.main, built.bindings, built.crons));
    assert_eq!(read.modules.len(), built.modules.len());
    for (a, b) in read.modules.iter().zip(&built.modules) {
        assert_eq!(
            (&a.path, a.kind, &a.source, &a.source_map),
            (&b.path, b.kind, &b.source, &b.source_map)
        );
    }
    assert!(read.assets.unwrap().directory.join("a/b.html").is_file());
}

#[test]
fn writing_replaces_an_older_one_whole_and_nothing_else() {
    let (folder, out) = written();
    std::fs::write(out.join("modules/stale.js"), "").unwrap();
    build(&folder, &out).unwrap();
    assert!(!out.join("modules/stale.js").exists());
    let mine = folder.path().join("mine");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("thesis.txt"), "x").unwrap();
    let error = build(&folder, &mine).unwrap_err();
    assert!(matches!(error, BuildError::Folder(FolderError::NotOurs { .. })), "{error}");
    assert!(mine.join("thesis.txt").is_file());
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".verge-out-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Changes the manifest's text and reads the folder.
fn tampered(change: impl Fn(&str) -> String) -> FolderError {
    let (_folder, out) = written();
    let path = out.join(MANIFEST);
    let text = std::fs::read_to_string(&path).unwrap();
    let changed = change(&text);
    assert_ne!(text, changed, "the change must change something");
    std::fs::write(&path, changed).unwrap();
    read_deployment(&out).unwrap_err()
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    for bad in ["../index.ts", "/etc/passwd", "a/../../x", "a\\\\b", "./index.ts", ""] {
        let error = tampered(|text| text.replace("\"index.ts\"", &format!("\"{bad}\"")));
        assert!(matches!(error, FolderError::Path { .. }), "{bad}: {error}");
    }
}

#[test]
fn links_that_leave_the_folder_are_refused() {
    let (folder, out) = written();
    std::fs::remove_file(out.join("modules/t.txt")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("t.txt"), out.join("modules/t.txt")).unwrap();
    let error = read_deployment(&out).unwrap_err();
    assert!(matches!(error, FolderError::Path { .. }), "{error}");
}

#[test]
fn other_content_is_refused() {
    let (_folder, out) = written();
    std::fs::write(out.join("modules/index.ts"), "evil").unwrap();
    assert!(matches!(read_deployment(&out), Err(FolderError::Hash { .. })));

    let (_folder, out) = written();
    std::fs::write(out.join("assets/extra.html"), "evil").unwrap();
    assert!(matches!(read_deployment(&out), Err(FolderError::Hash { .. })));

    let error = tampered(|text| text.replace("2026-11-24", "2026-11-25"));
    assert!(matches!(error, FolderError::Id { .. }), "{error}");
    let error = tampered(|text| text.replacen('{', "{ \"surprise\": 1,", 1));
    assert!(matches!(error, FolderError::Manifest { .. }), "{error}");
    let error = tampered(|text| text.replace("\"heap\": 67108864", "\"heap\": 67108865"));
    assert!(matches!(error, FolderError::Id { .. }), "{error}");
    let error = tampered(|text| text.replace("\"heap\": 67108864", "\"heap\": 1"));
    assert!(matches!(error, FolderError::Manifest { .. }), "{error}");
    let error = tampered(|text| text.replace("\"version\": 1", "\"version\": 9"));
    assert!(matches!(error, FolderError::Manifest { .. }), "{error}");
    let error = tampered(|text| text[..text.len() / 2].to_owned());
    assert!(matches!(error, FolderError::Manifest { .. }), "{error}");
}
