//! Evaluates the engine's JavaScript once, at build time, and writes the heap as a snapshot.
//!
//! Scripts that nothing has used by then are not in it; their sources (TypeScript already
//! gone) are put beside it, for the isolate that first asks for one.

#![allow(clippy::expect_used, reason = "a build script reports by failing")]

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deno_core::snapshot::{CreateSnapshotOptions, create_snapshot};
use deno_core::{ExtensionFileSource, ExtensionFileSourceCode, wrap_lazy_ext_script};

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let extensions = verge_engine::for_snapshot();
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
    std::fs::write(out.join("snapshot.bin"), &snapshot.output).expect("OUT_DIR is writable");
    for path in &snapshot.files_loaded_during_snapshot {
        println!("cargo:rerun-if-changed={}", path.display());
    }

    let consumed: HashSet<&str> =
        snapshot.consumed_lazy_specifiers.iter().map(String::as_str).collect();
    let mut table = String::new();
    write_table(&mut table, &out, "LAZY_SCRIPTS", &scripts, &consumed, true);
    write_table(&mut table, &out, "LAZY_MODULES", &modules, &consumed, false);
    std::fs::write(out.join("lazy_sources.rs"), table).expect("OUT_DIR is writable");
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

fn write_table(
    table: &mut String,
    out: &Path,
    name: &str,
    files: &[LazyFile],
    consumed: &HashSet<&str>,
    script: bool,
) {
    let folder = out.join(name.to_lowercase());
    std::fs::create_dir_all(&folder).expect("OUT_DIR is writable");
    writeln!(table, "pub static {name}: &[(&str, &str)] = &[").expect("strings take text");
    let rest = files.iter().filter(|(specifier, _)| !consumed.contains(specifier.as_str()));
    for (index, (specifier, path)) in rest.enumerate() {
        println!("cargo:rerun-if-changed={}", path.display());
        let source = std::fs::read_to_string(path).expect("the extension's sources are there");
        let (code, _) = verge_engine::transpile(specifier.clone().into(), source.into())
            .unwrap_or_else(|error| panic!("{specifier}: {error}"));
        let code = ascii(code.as_str());
        let code = if script { wrap_lazy_ext_script(&code).to_string() } else { code };
        std::fs::write(folder.join(format!("{index}.js")), code).expect("OUT_DIR is writable");
        let file = format!("/{}/{index}.js", name.to_lowercase());
        writeln!(table, "    ({specifier:?}, include_str!(concat!(env!(\"OUT_DIR\"), {file:?}))),")
            .expect("strings take text");
    }
    table.push_str("];\n");
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
