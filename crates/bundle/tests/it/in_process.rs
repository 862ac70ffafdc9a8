//! Apps without packages: no child process, no Node.

use verge_bundle::{BuildError, BuildOptions};
use verge_types::ModuleKind;

use crate::support::{Folder, code, module};

/// No esbuild is to be found, so a build that wants it fails.
fn build(folder: &Folder) -> Result<verge_types::Deployment, BuildError> {
    folder
        .bundler_without_search()
        .build(&folder.config(), BuildOptions::default())
        .map(|b| b.deployment)
}

#[test]
fn typescript_becomes_a_graph_of_modules() {
    let folder = Folder::new(&[
        (
            "src/index.ts",
            "import type { T } from './types';\nimport { hi, type U } from './lib/hi';\n\
             import data from './data.json' with { type: 'json' };\nimport page from './page.html';\n\
             import fs from 'fs';\nimport { env } from 'cloudflare:workers';\n\
             export default { async fetch(r: Request): Promise<Response> {\n\
             const late = await import('./late.js');\n\
             return new Response(hi(r.url) + data.x + page + late.z + import.meta.url + env + fs);\n} } satisfies T as U;\n",
        ),
        ("src/types.ts", "export interface T { fetch: unknown }"),
        (
            "src/lib/hi.ts",
            "export type U = unknown;\nexport const hi = (s: string): string => s;\n",
        ),
        ("src/data.json", "{\"x\":1}"),
        ("src/page.html", "<p>"),
        ("src/late.ts", "export enum E { A = 1 }\nexport const z: number = E.A;\n"),
    ]);
    let deployment = build(&folder).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(deployment.main.as_deref(), Some("src/index.ts"));
    let paths: Vec<_> = deployment.modules.iter().map(|m| m.path.as_str()).collect();
    assert_eq!(
        paths,
        ["src/data.json", "src/index.ts", "src/late.ts", "src/lib/hi.ts", "src/page.html"]
    );
    let main = code(&deployment, "src/index.ts");
    assert!(main.contains("\"./lib/hi.ts\""), "{main}");
    assert!(main.contains("import(\"./late.ts\")"), "{main}");
    assert!(main.contains("\"node:fs\"") && main.contains("cloudflare:workers"), "{main}");
    assert!(!main.contains("with {") && !main.contains("Promise<"), "{main}");
    assert_eq!(module(&deployment, "src/data.json").kind, ModuleKind::Json);
    assert_eq!(module(&deployment, "src/page.html").kind, ModuleKind::Text);
    let map = module(&deployment, "src/index.ts").source_map.clone().unwrap();
    let map: serde_json::Value = serde_json::from_slice(&map).unwrap();
    assert_eq!(map["sources"][0], "index.ts", "relative to the map's own folder");
    assert!(map["sourcesContent"][0].as_str().unwrap().contains("satisfies T"));
}

#[test]
fn binary_modules_and_attributes_decide_the_kind() {
    let folder = Folder::new(&[
        (
            "index.js",
            "import a from './a.wasm';\nimport b from './b.bin';\nimport c from './c.css' with {type: \"text\"};\n\
             import d from './d.png' with { type: 'bytes' };\nimport e from './a.wasm?module';\n\
             export default { fetch() { return new Response([a, b, c, d, e].join()); } };\n",
        ),
        ("a.wasm", "\0asm"),
        ("b.bin", "x"),
        ("c.css", "p{}"),
        ("d.png", "png"),
    ]);
    let deployment = build(&folder).unwrap_or_else(|e| panic!("{e}"));
    let kind = |path: &str| module(&deployment, path).kind;
    assert_eq!(kind("a.wasm"), ModuleKind::Wasm);
    assert_eq!(kind("b.bin"), ModuleKind::Data);
    assert_eq!(kind("c.css"), ModuleKind::Text);
    assert_eq!(kind("d.png"), ModuleKind::Data);
    let main = code(&deployment, "index.js");
    assert!(!main.contains("?module") && !main.contains("with"), "{main}");
}

#[test]
fn errors_have_places_and_come_together() {
    let folder = Folder::new(&[
        (
            "src/index.ts",
            "import { a } from './nowhere';\nimport b from './pic.gif';\nexport default { fetch() { return a + b; } };\n",
        ),
        ("src/pic.gif", "x"),
    ]);
    let Err(BuildError::Diagnostics(found)) = build(&folder) else { panic!("it must fail") };
    let text: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{text:?}");
    assert_eq!((found[0].line, found[0].column), (Some(1), Some(19)));
    assert!(text[0].contains("there is no file \"./nowhere\""), "{text:?}");
    assert!(text[1].contains("`rules`"), "{text:?}");

    folder.write("src/index.ts", "export default {\n  fetch() { return 1 +; }\n};\n");
    let Err(BuildError::Diagnostics(found)) = build(&folder) else { panic!("it must fail") };
    assert_eq!(found[0].line, Some(2), "{found:?}");
    assert!(found[0].excerpt.as_deref().unwrap_or_default().contains("1 +;"), "{found:?}");
}

#[test]
fn a_package_without_a_bundler_says_which_import_and_what_to_run() {
    let folder =
        Folder::new(&[("index.ts", "import { Hono } from 'hono';\nexport default new Hono();\n")]);
    let error = build(&folder).unwrap_err();
    let text = error.to_string();
    if std::env::var_os("VERGE_ESBUILD").is_none() && !text.contains("npm install hono") {
        assert!(
            text.contains("index.ts:1:22") && text.contains("npm install --save-dev esbuild"),
            "{text}"
        );
    }
}

#[test]
fn modules_outside_the_project_keep_their_place() {
    let folder = Folder::new(&[
        ("app/index.ts", "import { x } from '../shared/x';\nexport default { fetch: () => x };\n"),
        ("shared/x.ts", "export const x: number = 1;\n"),
    ]);
    let project = verge_bundle::Project::find(&folder.path().join("app")).unwrap();
    let config = project.config(None).unwrap();
    let bundler = verge_bundle::Bundler::new(project.dir(), Vec::new());
    let deployment = bundler.build(&config, BuildOptions::default()).unwrap().deployment;
    assert_eq!(deployment.main.as_deref(), Some("app/index.ts"));
    assert!(code(&deployment, "app/index.ts").contains("\"../shared/x.ts\""));
}

#[test]
fn the_same_content_has_the_same_id_wherever_it_lies() {
    let files: &[(&str, &str)] = &[
        (
            "wrangler.jsonc",
            r#"{ "name": "same", "main": "index.ts", "assets": { "directory": "public" } }"#,
        ),
        ("index.ts", "export default { fetch: () => new Response('x' as string) };\n"),
        ("public/a.txt", "a"),
    ];
    let (one, two) = (Folder::new(files), Folder::new(files));
    let id = build(&one).unwrap().id;
    assert_eq!(id, build(&two).unwrap().id);
    two.write("public/a.txt", "b");
    assert_ne!(id, build(&two).unwrap().id, "an asset's content counts");
    two.write("public/a.txt", "a");
    assert_eq!(id, build(&two).unwrap().id);
    two.write("index.ts", "export default { fetch: () => new Response('y' as string) };\n");
    assert_ne!(id, build(&two).unwrap().id);
}

#[test]
fn the_script_size_limit_holds() {
    let folder = Folder::new(&[
        ("verge.jsonc", r#"{ "main": "index.ts", "limits": { "script_size": "1KiB" } }"#),
        ("index.ts", &format!("export default {:?};\n", "x".repeat(2000))),
    ]);
    let error = build(&folder).unwrap_err();
    assert!(matches!(error, BuildError::ScriptSize { limit: 1024, .. }), "{error}");
}

#[test]
fn everything_that_was_read_is_watched() {
    let folder = Folder::new(&[
        ("wrangler.jsonc", r#"{ "main": "index.ts" }"#),
        ("index.ts", "import './b';\nexport default {};\n"),
        ("b.ts", "console.log(1);\n"),
        (".dev.vars", "KEY=secret\n"),
    ]);
    let built = folder
        .bundler()
        .build(&folder.config(), BuildOptions { dev: true, ..Default::default() })
        .unwrap();
    for name in ["wrangler.jsonc", "index.ts", "b.ts", ".dev.vars"] {
        assert!(built.watched.contains(&folder.path().join(name)), "{name}: {:?}", built.watched);
    }
    let value = serde_json::json!("secret");
    assert_eq!(built.deployment.bindings["KEY"], verge_types::Binding::Var { value });
    assert!(build(&folder).unwrap().bindings.is_empty(), "only in dev");
}

#[test]
fn a_build_command_runs_first_and_its_failure_is_told() {
    let folder = Folder::new(&[(
        "wrangler.jsonc",
        r#"{ "main": "made.ts", "build": { "command": "echo 'export default {};' > made.ts" } }"#,
    )]);
    assert_eq!(build(&folder).unwrap().main.as_deref(), Some("made.ts"));
    folder.write(
        "wrangler.jsonc",
        r#"{ "main": "made.ts", "build": { "command": "echo oh no >&2; exit 3" } }"#,
    );
    let text = build(&folder).unwrap_err().to_string();
    assert!(text.contains("oh no") && text.contains('3'), "{text}");
    folder.write(
        "wrangler.jsonc",
        r#"{ "main": "made.ts", "build": { "command": "sleep 30 & wait", "timeout": "200ms" } }"#,
    );
    let error = build(&folder).unwrap_err();
    assert!(matches!(error, BuildError::TimedOut { .. }), "{error}");
}

#[test]
fn a_running_build_can_be_cancelled() {
    let folder = Folder::new(&[(
        "wrangler.jsonc",
        r#"{ "main": "made.ts", "build": { "command": "touch started; sleep 30" } }"#,
    )]);
    let bundler = folder.bundler();
    let canceller = bundler.canceller();
    let started = folder.path().join("started");
    let thread = std::thread::spawn(move || {
        for _ in 0..1000 {
            if started.exists() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        canceller.cancel();
    });
    let error = bundler.build(&folder.config(), BuildOptions::default()).unwrap_err();
    assert!(matches!(error, BuildError::Cancelled), "{error}");
    thread.join().unwrap();
}

#[test]
fn packages_of_other_registries_are_refused_by_name_even_without_a_bundler() {
    let folder = Folder::new(&[
        ("i.ts", "import 'jsr:@std/path@1';\n"),
        ("verge.jsonc", r#"{ "main": "i.ts" }"#),
    ]);
    let text = build(&folder).unwrap_err().to_string();
    assert!(text.contains("`jsr:@std/path@1`"), "{text}");
    folder.write("i.ts", "import 'https://example.com/x.ts';\n");
    let text = build(&folder).unwrap_err().to_string();
    assert!(text.contains("not fetched from the network"), "{text}");
}

#[test]
fn no_bundle_keeps_modules_and_refuses_packages() {
    let folder = Folder::new(&[
        ("verge.jsonc", r#"{ "main": "i.ts", "no_bundle": true, "minify": true }"#),
        ("i.ts", "import './j.ts';\nexport default {};\n"),
        ("j.ts", "console.log(1 as number);\n"),
    ]);
    assert_eq!(build(&folder).unwrap().modules.len(), 2);
    folder.write("j.ts", "import 'hono';\n");
    let text = build(&folder).unwrap_err().to_string();
    assert!(text.contains("j.ts:1:8") && text.contains("`no_bundle`"), "{text}");
}

#[test]
fn the_output_folder_must_not_lie_inside_the_assets() {
    let folder = Folder::new(&[("index.html", "<p>")]);
    let options = BuildOptions { out_dir: Some("dist".into()), ..Default::default() };
    let text = folder.bundler().build(&folder.config(), options).unwrap_err().to_string();
    assert!(text.contains("inside the assets"), "{text}");
}

#[test]
fn deeply_nested_code_is_an_error_and_no_crash() {
    let folder = Folder::new(&[("verge.jsonc", r#"{ "main": "i.ts" }"#), ("i.ts", "")]);
    // Just below and far above what is parsed in process.
    for times in [1, 50] {
        for text in [
            "(".repeat(1_000 * times),
            format!("x = {}1{}", "(".repeat(999 * times), ")".repeat(999 * times)),
            "[".repeat(999 * times),
            "{".repeat(999 * times),
            "if(a){".repeat(999 * times),
            format!("x = {}1;", "!".repeat(9_000 * times)),
            format!("x = 1{};", " + 1".repeat(4_900 * times)),
            format!("x = {}1;", "a?b:".repeat(2_400 * times)),
            format!("x = {}1;", "a=>".repeat(2_400 * times)),
            format!("x = {}1;", "typeof ".repeat(9_000 * times)),
            format!("x = a{};", ".b()".repeat(2_400 * times)),
            format!("type X = {}1;", "a | ".repeat(4_000 * times)),
        ] {
            folder.write("i.ts", text);
            // Either way: the process is still there.
            let _ = build(&folder);
        }
    }
}
