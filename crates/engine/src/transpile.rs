//! TypeScript of Deno's extensions to JavaScript, when the snapshot is built.

use std::path::Path;

use deno_ast::{
    EmitOptions, MediaType, ParseParams, SourceMapOption, TranspileModuleOptions, TranspileOptions,
};
use deno_core::{ModuleCodeString, ModuleName, SourceMapData};
use deno_error::JsErrorBox;

/// Where deno_node's sources name the version of Node they stand for.
const NODE_VERSION_TOKEN: &str = "__NODE_VERSION__";

/// What the first bytes of a lazily loaded script are: a function that is called at once.
const SCRIPT_HEAD: &str = "(function () {";

/// Deno's Node polyfills use a global `Deno`, which apps must not have: theirs becomes a
/// constant of each source, on its first line so that line numbers stay.
fn with_host_deno(specifier: &str, source: ModuleCodeString) -> ModuleCodeString {
    let node = specifier.starts_with("ext:deno_node/") || specifier.starts_with("node:");
    let text = source.as_str();
    if !node || !text.contains("Deno.") {
        return source;
    }
    if let Some(at) = text.find(SCRIPT_HEAD) {
        let at = at + SCRIPT_HEAD.len();
        let (head, body) = text.split_at(at);
        return format!("{head} const Deno = __bootstrap.internals.hostDeno;{body}").into();
    }
    format!(
        "import {{ internals as __host }} from \"ext:core/mod.js\"; const Deno = __host.hostDeno; {text}"
    )
    .into()
}

/// Transpiles `source` if `name` says that it is TypeScript.
pub fn transpile(
    name: ModuleName,
    source: ModuleCodeString,
) -> Result<(ModuleCodeString, Option<SourceMapData>), JsErrorBox> {
    let specifier = name.to_string();
    let source: ModuleCodeString = if specifier.ends_with("deno_node/_process/process.ts") {
        source.as_str().replace(NODE_VERSION_TOKEN, deno_node::NODE_VERSION).into()
    } else {
        source
    };
    let source = with_host_deno(&specifier, source);
    // Node's built-ins are named by specifier, without an extension, and may be either.
    let typescript = specifier.starts_with("node:")
        || MediaType::from_path(Path::new(&specifier)) == MediaType::TypeScript;
    if !typescript {
        return Ok((source, None));
    }
    let parsed = deno_ast::parse_module(ParseParams {
        specifier: deno_core::url::Url::parse(&specifier)
            .map_err(|error| JsErrorBox::generic(error.to_string()))?,
        text: source.as_str().into(),
        media_type: MediaType::TypeScript,
        capture_tokens: false,
        scope_analysis: false,
        maybe_syntax: None,
    })
    .map_err(|error| JsErrorBox::generic(error.to_string()))?;
    let emitted = parsed
        .transpile(
            &TranspileOptions {
                imports_not_used_as_values: deno_ast::ImportsNotUsedAsValues::Remove,
                ..Default::default()
            },
            &TranspileModuleOptions::default(),
            &EmitOptions { source_map: SourceMapOption::None, ..Default::default() },
        )
        .map_err(|error| JsErrorBox::generic(error.to_string()))?
        .into_source();
    Ok((emitted.text.into(), None))
}
