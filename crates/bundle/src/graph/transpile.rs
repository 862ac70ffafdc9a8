//! One module from TypeScript or JSX to JavaScript, remembered by its content.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deno_ast::diagnostics::Diagnostic as _;
use deno_ast::{
    DecoratorsTranspileOption, EmitOptions, JsxAutomaticOptions, JsxClassicOptions, JsxRuntime,
    MediaType, ModuleSpecifier, ParseDiagnostic, ParseParams, SourceMapOption,
    TranspileModuleOptions, TranspileOptions,
};
use sha2::{Digest, Sha256};

use super::imports::{self, Imports};
use crate::compiler_options::{CompilerOptions, Jsx};
use crate::diagnostic::Diagnostic;

/// JavaScript, not yet with its imports rewritten.
#[derive(Debug)]
pub struct Transpiled {
    pub code: String,
    /// Version 3, its one source unnamed; `None` where the code is as the user wrote it.
    pub source_map: Option<String>,
    pub imports: Imports,
    pub original: String,
}

/// Transpiled modules by path; an entry holds as long as content and options are the same.
#[derive(Debug, Default)]
pub struct TranspileCache {
    modules: HashMap<PathBuf, ([u8; 32], Arc<Transpiled>)>,
}

impl TranspileCache {
    pub fn get(
        &mut self,
        path: &Path,
        shown: &Path,
        text: String,
        options: &CompilerOptions,
    ) -> Result<Arc<Transpiled>, Vec<Diagnostic>> {
        let key = digest(&text, options);
        if let Some((known, module)) = self.modules.get(path)
            && *known == key
        {
            return Ok(module.clone());
        }
        let module = Arc::new(transpile(path, shown, text, options)?);
        self.modules.insert(path.to_owned(), (key, module.clone()));
        Ok(module)
    }

    /// Forgets all modules that are not in `keep`.
    pub fn retain(&mut self, keep: impl Fn(&Path) -> bool) {
        self.modules.retain(|path, _| keep(path));
    }
}

fn digest(text: &str, options: &CompilerOptions) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!(
        "{:?} {} {} {}\n",
        options.jsx,
        options.legacy_decorators,
        options.decorator_metadata,
        options.verbatim_module_syntax
    ));
    hash.update(text);
    hash.finalize().into()
}

fn transpile(
    path: &Path,
    shown: &Path,
    text: String,
    options: &CompilerOptions,
) -> Result<Transpiled, Vec<Diagnostic>> {
    let plain = |message: String| vec![Diagnostic::error(message).in_file(shown)];
    let specifier = ModuleSpecifier::from_file_path(path)
        .map_err(|()| plain("its path cannot be written as a URL".into()))?;
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    let media_type = match MediaType::from_specifier(&specifier) {
        // As bundlers for Workers have it, JSX may stand in any JavaScript.
        MediaType::JavaScript | MediaType::Mjs | MediaType::Unknown => MediaType::Jsx,
        other => other,
    };
    let parse = |text: Arc<str>, media_type| {
        deno_ast::parse_module(ParseParams {
            specifier: specifier.clone(),
            text,
            media_type,
            capture_tokens: false,
            scope_analysis: false,
            maybe_syntax: None,
        })
    };
    let parsed = parse(text.as_str().into(), media_type)
        .map_err(|error| vec![diagnostic(&error, shown, &text)])?;
    let others: Vec<_> =
        parsed.diagnostics().iter().map(|error| diagnostic(error, shown, &text)).collect();
    if !others.is_empty() {
        return Err(others);
    }
    if media_type == MediaType::Jsx {
        let imports = imports::find(&parsed);
        if !imports.has_jsx {
            return Ok(Transpiled {
                code: text.clone(),
                source_map: None,
                imports,
                original: text,
            });
        }
    }
    let emitted = parsed
        .transpile(
            &transpile_options(options),
            &TranspileModuleOptions::default(),
            &EmitOptions {
                source_map: SourceMapOption::Separate,
                inline_sources: false,
                ..EmitOptions::default()
            },
        )
        .map_err(|error| plain(error.to_string()))?
        .into_source();
    let again = parse(emitted.text.as_str().into(), MediaType::JavaScript)
        .map_err(|error| plain(format!("the transpiled code does not parse: {error}")))?;
    let imports = imports::find(&again);
    Ok(Transpiled { code: emitted.text, source_map: emitted.source_map, imports, original: text })
}

fn transpile_options(options: &CompilerOptions) -> TranspileOptions {
    TranspileOptions {
        decorators: if options.legacy_decorators {
            DecoratorsTranspileOption::LegacyTypeScript {
                emit_metadata: options.decorator_metadata,
            }
        } else {
            DecoratorsTranspileOption::Ecma
        },
        verbatim_module_syntax: options.verbatim_module_syntax,
        jsx: Some(match &options.jsx {
            Jsx::Automatic { import_source } => JsxRuntime::Automatic(JsxAutomaticOptions {
                development: false,
                import_source: Some(import_source.clone()),
            }),
            Jsx::Classic { factory, fragment } => JsxRuntime::Classic(JsxClassicOptions {
                factory: factory.clone(),
                fragment_factory: fragment.clone(),
            }),
        }),
        ..TranspileOptions::default()
    }
}

fn diagnostic(error: &ParseDiagnostic, shown: &Path, text: &str) -> Diagnostic {
    let position = error.display_position();
    // Lines and columns of the parser count from 1, in characters.
    let offset = offset_of(text, position.line_number, position.column_number);
    let length = text[offset..].find(|c: char| !c.is_alphanumeric()).unwrap_or(1).max(1);
    Diagnostic::error(error.message().to_string()).at(shown, text, &(offset..offset + length))
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start = text
        .match_indices('\n')
        .map(|(at, _)| at + 1)
        .nth(line.saturating_sub(2))
        .filter(|_| line > 1)
        .unwrap_or(0);
    text[start..]
        .char_indices()
        .nth(column.saturating_sub(1))
        .map_or(text.len(), |(at, _)| start + at)
}
