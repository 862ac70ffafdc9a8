//! Apps with packages: the real esbuild on the real hono and react.
#![allow(clippy::unwrap_used, reason = "a helper that cannot do its part has failed the test")]

use verge_bundle::{BuildError, BuildOptions};
use verge_types::ModuleKind;

use crate::support::{Folder, all_code, code, module};

const HONO: &str = "import { Hono } from 'hono';\nconst app = new Hono();\n\
    app.get('/', (c) => c.text('hello' as string));\nexport default app;\n";

#[test]
fn a_hono_app_becomes_one_module_with_a_map_to_the_users_file() {
    let folder = Folder::with_packages(&[
        ("wrangler.jsonc", r#"{ "name": "api", "main": "src/index.ts" }"#),
        ("src/index.ts", HONO),
    ]);
    let built = folder.build().unwrap_or_else(|e| panic!("{e}"));
    let deployment = &built.deployment;
    assert_eq!(deployment.main.as_deref(), Some("index.js"));
    let main = module(deployment, "index.js");
    assert!(code(deployment, "index.js").contains("export"));
    let map: serde_json::Value = serde_json::from_slice(main.source_map.as_ref().unwrap()).unwrap();
    let sources: Vec<_> =
        map["sources"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert!(sources.contains(&"src/index.ts"), "{sources:?}");
    assert!(built.watched.contains(&folder.path().join("src/index.ts")), "{:?}", built.watched);
    assert_eq!(deployment.id, folder.deployment().id, "a second build is the same");
}

#[test]
fn react_streaming_uses_the_worker_build_and_its_mode() {
    let folder = Folder::with_packages(&[
        (
            "src/index.tsx",
            "import { renderToReadableStream } from 'react-dom/server';\n\
             const App = () => <html><body>hi</body></html>;\n\
             export default { async fetch() { return new Response(await renderToReadableStream(<App />)); } };\n",
        ),
        ("package.json", r#"{ "dependencies": { "react": "19" } }"#),
    ]);
    let production = all_code(&folder.deployment());
    assert!(production.contains("renderToReadableStream"));
    let dev =
        folder.bundler().build(&folder.config(), BuildOptions { dev: true, ..Default::default() });
    let dev = all_code(&dev.unwrap_or_else(|e| panic!("{e}")).deployment);
    assert!(dev.len() > production.len(), "development builds of react are larger");
    let small = folder
        .bundler()
        .build(&folder.config(), BuildOptions { minify: true, ..Default::default() });
    assert!(all_code(&small.unwrap().deployment).len() < production.len() / 2);
}

#[test]
fn built_ins_are_external_also_for_commonjs_packages() {
    let folder = Folder::new(&[
        (
            "index.js",
            "import old from 'old';\nimport { join } from 'path';\nexport default { fetch: () => new Response(old() + join('a', 'b')) };\n",
        ),
        ("node_modules/old/package.json", r#"{ "name": "old", "main": "index.js" }"#),
        (
            "node_modules/old/index.js",
            "const fs = require('fs'); const { EventEmitter } = require('node:events');\n\
             const url = require('url/'); if (!url.parse) throw new Error('url/');\n\
             let extra; try { extra = require('not-there'); } catch {}\n\
             module.exports = () => typeof fs.readFileSync + typeof EventEmitter + typeof extra;\n",
        ),
    ]);
    let deployment = folder.deployment();
    let main = code(&deployment, "index.js");
    let shim = code(&deployment, "verge-require.js");
    assert!(main.starts_with("import { require } from \"./verge-require.js\";\n"), "{main}");
    assert!(main.contains("\"node:path\""), "{main}");
    assert!(shim.contains("\"node:fs\"") && shim.contains("\"node:events\""), "{shim}");
    assert!(!shim.contains("not-there"), "{shim}");
    // Node itself can run it: the shim serves what the package asks for.
    let out = folder.path().join("out");
    let options = BuildOptions { out_dir: Some(out.clone()), ..Default::default() };
    folder.bundler().build(&folder.config(), options).unwrap();
    std::fs::write(out.join("modules/package.json"), r#"{"type":"module"}"#).unwrap();
    let run = std::process::Command::new("node")
        .args(["--input-type=module", "-e"])
        .arg(
            "const m = await import(process.argv[1]); console.log(await m.default.fetch().text());",
        )
        .arg(out.join("modules/index.js"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert_eq!(text, "functionfunctionundefineda/b\n", "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn other_modules_are_copied_and_dynamic_imports_split() {
    let folder = Folder::with_packages(&[
        (
            "wrangler.jsonc",
            r#"{ "main": "src/index.ts", "rules": [{ "type": "Text", "globs": ["**/*.md"] }] }"#,
        ),
        (
            "src/index.ts",
            "import { Hono } from 'hono';\nimport add from './add.wasm?module';\nimport sql from './q.sql';\n\
             import doc from './doc.md';\nimport data from './d.json';\nimport bin from './x.bin';\n\
             export default { async fetch() { const { late } = await import('./late'); return [new Hono(), add, sql, doc, data, bin, late]; } };\n",
        ),
        ("src/late.ts", "export const late = 1;\n"),
        ("src/add.wasm", "\0asm"),
        ("src/q.sql", "select 1"),
        ("src/doc.md", "# doc"),
        ("src/d.json", "{\"inlined\":true}"),
        ("src/x.bin", "x"),
    ]);
    let deployment = folder.deployment();
    let of = |kind: ModuleKind| deployment.modules.iter().filter(|m| m.kind == kind).count();
    assert_eq!(of(ModuleKind::Wasm), 1);
    assert_eq!(of(ModuleKind::Text), 2);
    assert_eq!(of(ModuleKind::Data), 1);
    assert!(of(ModuleKind::Esm) >= 2, "the dynamic import is a chunk");
    let main = code(&deployment, "index.js");
    assert!(!main.contains("?module") && main.contains(".wasm\""), "{main}");
    for m in deployment.modules.iter().filter(|m| m.kind != ModuleKind::Esm) {
        assert!(main.contains(&format!("\"./{}\"", m.path)), "{} in {main}", m.path);
    }
}

#[test]
fn esbuilds_errors_have_file_line_column_and_excerpt() {
    let folder = Folder::with_packages(&[(
        "src/index.ts",
        "import { Hono } from 'hono';\nimport missing from 'left-pad';\nimport { nope } from './nope';\nexport default [Hono, missing, nope];\n",
    )]);
    let Err(BuildError::Diagnostics(found)) = folder.build() else { panic!("it must fail") };
    assert_eq!(found.len(), 2, "{found:?}");
    let missing = found.iter().find(|d| d.message.contains("left-pad")).unwrap();
    assert_eq!(missing.file.as_deref(), Some(std::path::Path::new("src/index.ts")));
    assert_eq!((missing.line, missing.column), (Some(2), Some(21)));
    assert!(missing.excerpt.as_deref().unwrap().contains("import missing"));
    assert_eq!(missing.notes, ["run `npm install left-pad`"]);
}

#[test]
fn npm_specifiers_and_import_maps() {
    let folder = Folder::with_packages(&[
        (
            "deno.json",
            r#"{ "imports": { "web": "npm:hono@4", "@/": "./src/" }, "compilerOptions": { "jsx": "react-jsx", "jsxImportSource": "hono/jsx" } }"#,
        ),
        (
            "main.tsx",
            "import { Hono } from 'web';\nimport { cors } from 'npm:hono@4/cors';\nimport { n } from '@/n.ts';\n\
             Deno.serve((r) => new Response(String(<p>{n}</p>) + Hono + cors));\n",
        ),
        ("src/n.ts", "export const n: number = 42;\n"),
    ]);
    let text = all_code(&folder.deployment());
    assert!(text.contains("Deno.serve") && text.contains("42"), "{text}");
    assert!(!text.contains("npm:"), "{text}");

    folder.write(
        "deno.json",
        r#"{ "imports": { "web": "npm:hono@4", "std": "jsr:@std/path@1", "zod": "npm:zod@^3" } }"#,
    );
    let text = folder.build().unwrap_err().to_string();
    assert!(text.contains("jsr:@std/path@1"), "{text}");

    folder.write("deno.json", r#"{ "imports": { "zod": "npm:zod@^3" } }"#);
    folder.write("main.tsx", "import { z } from 'zod';\nexport default z;\n");
    let text = folder.build().unwrap_err().to_string();
    assert!(text.contains("npm install zod@^3"), "{text}");
}

#[test]
fn define_and_alias_are_honoured() {
    let folder = Folder::with_packages(&[
        (
            "wrangler.jsonc",
            r#"{ "main": "i.ts", "define": { "VERSION": "\"v-1-2-3\"" }, "alias": { "web": "hono", "here": "./local.ts" } }"#,
        ),
        (
            "i.ts",
            "import { Hono } from 'web';\nimport { local } from 'here';\ndeclare const VERSION: string;\nexport default [VERSION, Hono, local];\n",
        ),
        ("local.ts", "export const local = 'local-file';\n"),
    ]);
    let text = all_code(&folder.deployment());
    assert!(text.contains("v-1-2-3") && text.contains("local-file"));
}

#[test]
fn a_rebuild_after_a_change_is_quick_and_leaves_no_folder_behind() {
    let folder = Folder::with_packages(&[("src/index.ts", HONO)]);
    let bundler = folder.bundler();
    let config = folder.config();
    let first = bundler.build(&config, BuildOptions::default()).unwrap();
    let mut best = std::time::Duration::MAX;
    for round in 0..5 {
        folder.write("src/index.ts", HONO.replace("hello", &format!("hello {round}")));
        let built = bundler.build(&config, BuildOptions::default()).unwrap();
        assert_ne!(built.deployment.id, first.deployment.id);
        best = best.min(built.took);
    }
    eprintln!("first build {:?}, best rebuild {best:?}", first.took);
    assert!(best < std::time::Duration::from_secs(5), "{best:?}");
}

#[test]
fn import_attributes_are_gone_after_bundling() {
    let folder = Folder::with_packages(&[
        (
            "index.ts",
            "import { Hono } from 'hono';\nimport css from './a.css' with { type: 'text' };\n\
             import raw from './a.raw' with { type: 'bytes' };\nimport page from './p.html' with { type: 'text' };\n\
             export default [Hono, css, raw, page];\n",
        ),
        ("a.css", "p { color: red }"),
        ("a.raw", "raw-bytes"),
        ("p.html", "<p>the page"),
    ]);
    let deployment = folder.deployment();
    let main = code(&deployment, "index.js");
    assert!(main.contains("color: red"), "{main}");
    assert!(!main.contains("with {"), "{main}");
    assert!(
        deployment.modules.iter().any(|m| m.source.as_ref() == b"<p>the page")
            || main.contains("<p>the page"),
        "{main}"
    );
}

#[test]
fn an_extended_tsconfig_says_how_jsx_is_meant() {
    let folder = Folder::with_packages(&[
        ("tsconfig.json", r#"{ "extends": "./base" }"#),
        (
            "base.json",
            r#"{ /* c */ "compilerOptions": { "jsx": "react-jsx", "jsxImportSource": "hono/jsx", }, }"#,
        ),
        ("index.tsx", "export default { fetch: () => new Response(String(<p>hi</p>)) };\n"),
    ]);
    let built = folder.build().unwrap_or_else(|e| panic!("{e}"));
    let inputs: Vec<_> = built.watched.iter().map(|p| p.display().to_string()).collect();
    assert!(inputs.iter().any(|i| i.contains("hono/dist/jsx")), "{inputs:?}");
    assert!(!inputs.iter().any(|i| i.contains("react/")), "{inputs:?}");
    assert!(inputs.iter().any(|i| i.ends_with("base.json")), "{inputs:?}");
}

/// A program in the place of the project's own esbuild.
fn fake_esbuild(folder: &Folder, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let arch = if cfg!(target_arch = "x86_64") { "x64" } else { "arm64" };
    let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let path = format!("node_modules/@esbuild/{os}-{arch}/bin/esbuild");
    folder.write(&path, format!("#!/bin/sh\n{script}\n"));
    let path = folder.path().join(path);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_bundler_that_hangs_is_ended_and_its_folder_removed() {
    let folder = Folder::new(&[
        ("verge.jsonc", r#"{ "main": "i.ts", "build": { "timeout": "300ms" } }"#),
        ("i.ts", "import 'x';\n"),
    ]);
    fake_esbuild(
        &folder,
        "for a in \"$@\"; do case $a in --outdir=*) mkdir -p \"${a#--outdir=}\"; echo \"${a#--outdir=}\" > seen;; esac; done\n\
         sleep 60 & echo $! > child; wait",
    );
    let error = folder.build().unwrap_err();
    assert!(matches!(error, BuildError::TimedOut { .. }), "{error}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(!std::path::Path::new(read("seen").trim()).exists(), "the temporary folder is gone");
    // Its children are gone as well (or waiting to be collected by init).
    let status = format!("/proc/{}/stat", read("child").trim());
    let gone = || std::fs::read_to_string(&status).map_or(true, |s| s.contains(") Z "));
    assert!((0..500).any(|_| gone() || {
        std::thread::sleep(std::time::Duration::from_millis(10));
        false
    }));
}

#[test]
fn a_bundler_that_fails_strangely_is_told_so() {
    let folder =
        Folder::new(&[("i.ts", "import 'x';\n"), ("verge.jsonc", r#"{ "main": "i.ts" }"#)]);
    fake_esbuild(&folder, "echo 'panic: oh' >&2; exit 7");
    let text = folder.build().unwrap_err().to_string();
    assert!(text.contains("panic: oh") && text.contains('7'), "{text}");
    fake_esbuild(&folder, "exit 0");
    assert!(folder.build().is_err(), "no output is no success");
    fake_esbuild(&folder, "yes '' | head -c 20000000 >&2; exit 1");
    let text = folder.build().unwrap_err().to_string();
    assert!(text.len() < 10_000, "{} bytes", text.len());
}

#[test]
fn a_failed_build_still_says_what_to_watch() {
    let folder = Folder::with_packages(&[
        ("verge.jsonc", r#"{ "main": "i.ts" }"#),
        ("i.ts", "import './j';\n"),
        ("j.ts", "syntax error here\n"),
    ]);
    let bundler = folder.bundler();
    bundler.build(&folder.config(), BuildOptions::default()).unwrap_err();
    let watched = bundler.watched();
    for name in ["verge.jsonc", "i.ts", "j.ts"] {
        assert!(watched.contains(&folder.path().join(name)), "{name}: {watched:?}");
    }
}
