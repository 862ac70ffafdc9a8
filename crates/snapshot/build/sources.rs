//! The sources of the engine's JavaScript. Scripts that nothing has used by the time of the
//! snapshot are not in it; their sources (TypeScript already gone) are put beside it, for the
//! isolate that first asks for one.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deno_core::snapshot::{CreateSnapshotOptions, create_snapshot};
use deno_core::{
    ExtensionFileSource, ExtensionFileSourceCode, JsRuntimeForSnapshot, wrap_lazy_ext_script,
};
use verge_engine::Surface;

use crate::SNAPSHOT;

/// Writes what one surface consists of, and the expression that names the parts. The heap is
/// as it is when everything has been evaluated.
pub fn write(out: &Path, name: &str, surface: Surface) {
    let folder = out.join(name);
    std::fs::create_dir_all(&folder).expect("OUT_DIR is writable");
    #[cfg(not(feature = "quickjs"))]
    crate::heap::set_flags();
    let extensions = verge_engine::for_snapshot(surface);
    let scripts = lazy_files(&extensions, |extension| &extension.lazy_loaded_js_files);
    let modules = lazy_files(&extensions, |extension| &extension.lazy_loaded_esm_files);

    let snapshot = create_snapshot(
        CreateSnapshotOptions {
            cargo_manifest_dir: env!("CARGO_MANIFEST_DIR"),
            startup_snapshot: None,
            extensions,
            extension_transpiler: Some(Rc::new(verge_engine::transpile)),
            with_runtime_cb: with_runtime(&folder, surface),
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
    let evaluated: Vec<&str> =
        scripts.iter().map(|(name, _)| &**name).filter(|name| consumed.contains(name)).collect();
    std::fs::write(folder.join(EVALUATED), evaluated.join("\n")).expect("OUT_DIR is writable");
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

/// Its lines name the scripts that the heap holds the results of.
const EVALUATED: &str = "evaluated";
const SCRIPTS: &str = "scripts";
const MODULES: &str = "modules";

type WithRuntime = Box<dyn Fn(&mut JsRuntimeForSnapshot)>;

#[cfg(not(feature = "quickjs"))]
fn with_runtime(folder: &Path, surface: Surface) -> Option<WithRuntime> {
    // The names of the other are not shared.
    if surface != Surface::Web {
        return None;
    }
    let folder = folder.to_owned();
    Some(Box::new(move |runtime| crate::heap::list_objects(runtime, &folder)))
}

#[cfg(feature = "quickjs")]
fn with_runtime(_folder: &Path, _surface: Surface) -> Option<WithRuntime> {
    None
}

/// The scripts that [`write`] found evaluated.
#[cfg(not(feature = "quickjs"))]
pub fn evaluated(folder: &Path) -> Vec<String> {
    let lines = std::fs::read_to_string(folder.join(EVALUATED)).expect("it was written");
    lines.lines().map(str::to_owned).collect()
}

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
