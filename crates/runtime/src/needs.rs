//! What a deployment needs of its isolates, read from its sources once, when it is loaded.

use memchr::memmem;
use verge_engine::Surface;
use verge_types::{Deployment, ModuleKind};

use crate::module_loader::is_builtin;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The built-ins it may import; its isolates have these, or more.
    pub surface: Surface,
    /// A program that speaks Deno gets `Deno`; for a Workers project its absence is part of
    /// the platform, since libraries look for it.
    pub deno: bool,
}

impl Needs {
    pub fn of(deployment: &Deployment) -> Self {
        let modules = || deployment.modules.iter();
        let scripts = || modules().filter(|module| module.kind == ModuleKind::Esm);
        let node = scripts().any(|module| may_import_node(&module.source));
        Self {
            surface: if node { Surface::Node } else { Surface::Web },
            deno: modules().any(|module| memmem::find(&module.source, b"Deno.").is_some()),
        }
    }
}

/// False only if no import in the module can name one of Node's modules.
///
/// Every import has one of the words `import` and `from`, which nothing may spell otherwise,
/// right before its specifier. The words are looked for without regard to strings and
/// comments; where what follows is not plainly harmless, the answer is true.
fn may_import_node(source: &[u8]) -> bool {
    let after = |word: &'static [u8]| {
        memmem::find_iter(source, word).filter_map(move |at| {
            let whole = at.checked_sub(1).is_none_or(|before| !is_in_word(source[before]));
            whole.then(|| source[at + word.len()..].trim_ascii_start())
        })
    };
    after(b"import").any(|rest| match rest {
        [b'(', rest @ ..] => match literal(rest.trim_ascii_start()) {
            // What comes after the literal may be an operator.
            Some((specifier, rest)) => {
                !matches!(rest.trim_ascii_start(), [b')' | b',', ..]) || is_of_node(specifier)
            }
            None => true,
        },
        rest => may_name_node(rest),
    }) || after(b"from").any(may_name_node)
}

/// Whether a specifier stands here, or may, that may be one of Node's.
fn may_name_node(rest: &[u8]) -> bool {
    match rest {
        [b'"' | b'\'', ..] => literal(rest).is_none_or(|(specifier, _)| is_of_node(specifier)),
        // A comment, or white space that was not skipped, may stand before it.
        [b'/', b'/' | b'*', ..] => true,
        [first, ..] => first.is_ascii_control() || !first.is_ascii(),
        [] => false,
    }
}

/// A string literal without escapes, and what follows it.
fn literal(source: &[u8]) -> Option<(&[u8], &[u8])> {
    let (quote, rest) = source.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
    let end = memchr::memchr3(*quote, b'\\', b'\n', rest)?;
    (rest[end] == *quote).then(|| (&rest[..end], &rest[end + 1..]))
}

fn is_of_node(specifier: &[u8]) -> bool {
    match std::str::from_utf8(specifier) {
        Ok(name) => name.starts_with("node:") || is_builtin(name),
        Err(_) => true,
    }
}

/// Surely part of an identifier; beyond ASCII it may be white space.
fn is_in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_import_node_is_seen() {
        for source in [
            r#"import fs from "node:fs""#,
            r#"import{readFile as a}from"fs";"#,
            r#"import"node:process""#,
            "import * as fs\nfrom 'fs/promises'",
            r#"export*from"path""#,
            r#"const fs = await import("node:fs")"#,
            r#"await import ( 'fs' )"#,
            r#"import(`node:fs`)"#,
            r#"import(name)"#,
            r#"import("./" + name)"#,
            r#"import("\x6eode:fs")"#,
            r#"import /* the files */ "fs""#,
            r#"import fs from /* the files */ "fs""#,
            "import fs from // the files\n\"fs\"",
            "import fs from \"\\x66s\"",
            "import\u{a0}\"fs\"",
            "\u{feff}import\"fs\"",
            "import a\u{a0}from\"fs\"",
            "import a from\u{a0}\"fs\"",
            "import\u{b}\"fs\"",
            "import a from \u{b}\"fs\"",
            "[...import(\"fs\")]",
        ] {
            assert!(may_import_node(source.as_bytes()), "{source}");
        }
    }

    #[test]
    fn what_cannot_import_node_is_seen() {
        for source in [
            "",
            "import",
            "from",
            "export default { fetch() { return new Response(import.meta.url) } }",
            r#"import { env } from "cloudflare:workers"; import "./a.js""#,
            r#"import("./chunk.js"), import('./b.js', { with: { type: "json" } })"#,
            r#"Array.from("fs"); const from = 2; from / 2; ({ from: "fs" }); reimport("fs")"#,
            r#"const text = 'node:fs is a module of Node'"#,
        ] {
            assert!(!may_import_node(source.as_bytes()), "{source}");
        }
    }

    proptest! {
        #[test]
        fn an_import_of_node_is_seen_wherever_it_stands(
            before in "[a-z '\"(){};/*\n]{0,30}",
            after in ".{0,30}",
            form in 0..5usize,
            name in prop::sample::select(vec!["node:fs", "fs", "node:crypto", "path/posix"]),
            space in "[ \n\t]{0,3}",
        ) {
            let import = match form {
                0 => format!("import{space}\"{name}\""),
                1 => format!("import {{ a }} from{space}'{name}'"),
                2 => format!("export * from{space}\"{name}\""),
                3 => format!("import{space}({space}\"{name}\"{space})"),
                _ => format!("import{space}({space}{name}"),
            };
            let source = format!("{before};{import}{after}");
            prop_assert!(may_import_node(source.as_bytes()));
        }

        #[test]
        fn any_bytes_can_be_read(source in prop::collection::vec(any::<u8>(), 0..200)) {
            may_import_node(&source);
        }
    }
}
