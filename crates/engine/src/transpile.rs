//! TypeScript of Deno's extensions to JavaScript, when the snapshot is built.

use std::path::Path;

use deno_ast::{
    EmitOptions, MediaType, ParseParams, SourceMapOption, TranspileModuleOptions, TranspileOptions,
};
use deno_core::{ModuleCodeString, ModuleName, SourceMapData};
use deno_error::JsErrorBox;

/// Where deno_node's sources name the version of Node they stand for.
const NODE_VERSION_TOKEN: &str = "__NODE_VERSION__";

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
