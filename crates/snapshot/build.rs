//! Evaluates the engine's JavaScript at build time, once for each surface, and writes the heaps
//! as snapshots.
//!
//! Scripts that nothing has used by then are not in them; their sources (TypeScript already
//! gone) are put beside them, for the isolate that first asks for one.

#![allow(clippy::expect_used, reason = "a build script reports by failing")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use deno_core::snapshot::{CreateSnapshotOptions, create_snapshot};
use deno_core::{ExtensionFileSource, ExtensionFileSourceCode, wrap_lazy_ext_script};
use verge_engine::Surface;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    match std::env::args().nth(1).as_deref() {
        Some(WEB) => make(&out, WEB, Surface::Web),
        Some(NODE) => make(&out, NODE, Surface::Node),
        _ => make_both(&out),
    }
}

const WEB: &str = "web";
const NODE: &str = "node";

/// Each is made in a process of its own, where the part that both share is at the same place:
/// V8 leaves halves of its addresses in the snapshot.
fn make_both(out: &Path) {
    let this = std::env::current_exe().expect("a process has an executable");
    let [web, node] = [WEB, NODE].map(|name| {
        let status = Command::new(&this).arg(name).status().expect("it can be run again");
        assert!(status.success(), "the snapshot `{name}` was not made: {status}");
        std::fs::read(out.join(name).join(SNAPSHOT)).expect("it was written")
    });
    if cfg!(not(feature = "quickjs")) {
        assert!(
            read_only_part(&web) == read_only_part(&node),
            "isolates from both snapshots could not live in one process"
        );
    }
}

/// The part that all isolates of a process take from the first one's snapshot: what stands
/// after the header and before the first of the offsets in it (`Snapshot blob layout` in V8's
/// `snapshot.cc`). At its end is a number that only debuggers use.
fn read_only_part(snapshot: &[u8]) -> &[u8] {
    const OFFSET: std::ops::Range<usize> = 0x50..0x54;
    const HEADER: usize = 0x60;
    const NUMBER: usize = 16;
    let offset = snapshot[OFFSET].try_into().expect("an offset has four bytes");
    &snapshot[HEADER..u32::from_le_bytes(offset) as usize - NUMBER]
}

/// Makes one surface's snapshot, and the expression that names its parts.
fn make(out: &Path, name: &str, surface: Surface) {
    let folder = out.join(name);
    std::fs::create_dir_all(&folder).expect("OUT_DIR is writable");
    verge_engine::prepare_snapshots();
    let extensions = verge_engine::for_snapshot(surface);
    let scripts = lazy_files(&extensions, |extension| &extension.lazy_loaded_js_files);
    let modules = lazy_files(&extensions, |extension| &extension.lazy_loaded_esm_files);

    let snapshot = create_snapshot(
        CreateSnapshotOptions {
            cargo_manifest_dir: env!("CARGO_MANIFEST_DIR"),
            startup_snapshot: None,
            extensions,
            extension_transpiler: Some(Rc::new(verge_engine::transpile)),
            with_runtime_cb: None,
            skip_op_registration: false,
        },
        None,
    )
    .expect("the engine's JavaScript evaluates");
    std::fs::write(folder.join(SNAPSHOT), &snapshot.output).expect("OUT_DIR is writable");
    for path in &snapshot.files_loaded_during_snapshot {
        println!("cargo:rerun-if-changed={}", path.display());
    }

    let consumed: HashSet<&str> =
        snapshot.consumed_lazy_specifiers.iter().map(String::as_str).collect();
    let file = |path: &Path| {
        let path = path.strip_prefix(out).expect("it is in OUT_DIR").display();
        format!("concat!(env!(\"OUT_DIR\"), \"/{path}\")")
    };
    let table = |kind: &str, files: &[LazyFile]| {
        let mut table = String::new();
        for (specifier, source) in left_out(&folder.join(kind), files, &consumed, kind == SCRIPTS) {
            writeln!(table, "        ({specifier:?}, include_str!({})),", file(&source))
                .expect("strings take text");
        }
        table
    };
    let (scripts, modules) = (table(SCRIPTS, &scripts), table(MODULES, &modules));
    let snapshot = file(&folder.join(SNAPSHOT));
    let start = format!(
        "Start {{
    snapshot: include_bytes!({snapshot}),
    scripts: &[\n{scripts}    ],
    modules: &[\n{modules}    ],
}}"
    );
    std::fs::write(folder.join("start.rs"), start).expect("OUT_DIR is writable");
}

const SNAPSHOT: &str = "snapshot.bin";
const SCRIPTS: &str = "scripts";
const MODULES: &str = "modules";

type LazyFile = (String, PathBuf);

fn lazy_files(
    extensions: &[deno_core::Extension],
    files: impl Fn(&deno_core::Extension) -> &[ExtensionFileSource],
) -> Vec<LazyFile> {
    let mut all: Vec<LazyFile> = extensions
        .iter()
        .flat_map(|extension| files(extension).iter())
        .filter_map(|file| {
            #[allow(deprecated, reason = "the variant is what the macro still makes")]
            match &file.code {
                ExtensionFileSourceCode::LoadedFromFsDuringSnapshot(path) => {
                    Some((file.specifier.to_string(), PathBuf::from(path)))
                }
                _ => None,
            }
        })
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Writes the sources that the snapshot does not hold, each into a file of its own.
fn left_out(
    folder: &Path,
    files: &[LazyFile],
    consumed: &HashSet<&str>,
    script: bool,
) -> Vec<(String, PathBuf)> {
    std::fs::create_dir_all(folder).expect("OUT_DIR is writable");
    let rest = files.iter().filter(|(specifier, _)| !consumed.contains(specifier.as_str()));
    rest.enumerate()
        .map(|(index, (specifier, path))| {
            println!("cargo:rerun-if-changed={}", path.display());
            let source = std::fs::read_to_string(path).expect("the extension's sources are there");
            let (code, _) = verge_engine::transpile(specifier.clone().into(), source.into())
                .unwrap_or_else(|error| panic!("{specifier}: {error}"));
            let code = ascii(code.as_str());
            let code = if script { wrap_lazy_ext_script(&code).to_string() } else { code };
            let file = folder.join(format!("{index}.js"));
            std::fs::write(&file, code).expect("OUT_DIR is writable");
            (specifier.clone(), file)
        })
        .collect()
}

/// V8 takes static sources without a copy only if they are one byte a character.
fn ascii(code: &str) -> String {
    if code.is_ascii() {
        return code.to_owned();
    }
    let mut escaped = String::with_capacity(code.len());
    for unit in code.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => escaped.push(char::from(byte)),
            _ => write!(escaped, "\\u{unit:04x}").expect("strings take text"),
        }
    }
    escaped
}
