//! `require` for CommonJS packages that ask for Node built-ins.
//!
//! An ES module has no `require`. esbuild's helper uses one where it finds it, so modules that
//! need it import one that serves exactly the built-ins that the bundle asks for.

use std::collections::BTreeSet;
use std::fmt::Write;

/// The shim's path in the deployment.
pub const PATH: &str = "verge-require.js";

/// Whether a module looks for a `require`.
pub fn wants_require(code: &str) -> bool {
    code.contains("typeof require")
}

/// The line that goes before a module at `path`; it is one line and ends with a newline.
pub fn prelude(path: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("import {{ require }} from \"{}\";\n", crate::paths::relative(folder, PATH))
}

/// The shim itself.
pub fn source(builtins: &BTreeSet<String>) -> String {
    let mut code = String::new();
    for (index, name) in builtins.iter().enumerate() {
        let name = serde_json::Value::from(name.as_str());
        let _ = writeln!(code, "import * as m{index} from {name};");
    }
    code.push_str("const modules = new Map([\n");
    for (index, name) in builtins.iter().enumerate() {
        let name = serde_json::Value::from(name.as_str());
        let _ = writeln!(code, "  [{name}, m{index}],");
    }
    code.push_str(
        "]);\n\
         export function require(name) {\n\
         \x20 const found = modules.get(name) ?? modules.get(\"node:\" + name);\n\
         \x20 if (found !== undefined) return found.default ?? found;\n\
         \x20 const error = new Error(`Cannot find module '${name}': it was not there when the app was bundled`);\n\
         \x20 error.code = \"MODULE_NOT_FOUND\";\n\
         \x20 throw error;\n\
         }\n",
    );
    code
}
