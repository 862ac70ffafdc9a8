//! Names of Node's built-in modules, for imports that leave out `node:`.

/// Without those that only exist with the prefix (`node:test`, `node:sqlite`).
pub const NODE_BUILTINS: &[&str] = &[
    "assert",
    "async_hooks",
    "buffer",
    "child_process",
    "cluster",
    "console",
    "constants",
    "crypto",
    "dgram",
    "diagnostics_channel",
    "dns",
    "domain",
    "events",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "path",
    "perf_hooks",
    "process",
    "punycode",
    "querystring",
    "readline",
    "repl",
    "stream",
    "string_decoder",
    "sys",
    "timers",
    "tls",
    "trace_events",
    "tty",
    "url",
    "util",
    "v8",
    "vm",
    "wasi",
    "worker_threads",
    "zlib",
];

/// `fs` and `fs/promises` are built in; so is everything with `node:`.
pub fn is_node_builtin(specifier: &str) -> bool {
    let bare = specifier.split('/').next().unwrap_or(specifier);
    NODE_BUILTINS.contains(&bare) && !specifier.ends_with('/')
}

/// What the runtime itself provides.
pub fn is_provided(specifier: &str) -> bool {
    specifier.starts_with("node:") || specifier.starts_with("cloudflare:")
}
