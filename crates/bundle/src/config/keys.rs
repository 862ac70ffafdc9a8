//! Every key of the configuration: which are read, which belong to services that this version
//! does not have, and which only matter to another host.
//!
//! `docs/configuration.md` and `verge check --keys` are made from the same table.

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Read and honoured.
    Read,
    /// Accepted, has no effect here; the text says why.
    Ignored(&'static str),
    /// Belongs to a service that this version does not have.
    Later(&'static str),
    /// Never will be; the text says what to do instead.
    Refused(&'static str),
}

/// One key for documentation and for commands that print the configuration.
#[derive(Clone, Copy, Debug)]
pub struct KeyDoc {
    pub key: &'static str,
    pub usage: Use,
    /// Whether a named environment takes it from the top level when it does not set it itself.
    pub inherited: bool,
    pub default: &'static str,
    /// What it holds, with its unit.
    pub holds: &'static str,
}

const fn read(
    key: &'static str,
    inherited: bool,
    default: &'static str,
    holds: &'static str,
) -> KeyDoc {
    KeyDoc { key, usage: Use::Read, inherited, default, holds }
}

const fn ignored(key: &'static str, why: &'static str) -> KeyDoc {
    KeyDoc { key, usage: Use::Ignored(why), inherited: true, default: "", holds: "" }
}

const fn later(key: &'static str, service: &'static str) -> KeyDoc {
    KeyDoc { key, usage: Use::Later(service), inherited: false, default: "", holds: "" }
}

const fn refused(key: &'static str, instead: &'static str) -> KeyDoc {
    KeyDoc { key, usage: Use::Refused(instead), inherited: false, default: "", holds: "" }
}

const HOSTING: &str = "it only matters to Cloudflare's hosting";

/// The keys at the top level of a file and of each `env.<name>`.
pub const TOP: &[KeyDoc] = &[
    read("name", true, "the folder's name; `<name>-<env>` in an environment", "a DNS label"),
    read("main", true, "guessed", "path of the entry module, relative to the file"),
    read("compatibility_date", true, "2026-11-24", "`YYYY-MM-DD`"),
    read("compatibility_flags", true, "[]", "list of flags"),
    read("vars", false, "{}", "`env.<KEY>`: strings or any JSON"),
    read(
        "services",
        false,
        "[]",
        "bindings to other apps: `binding`, `service`, `entrypoint`, `props`",
    ),
    read(
        "d1_databases",
        false,
        "[]",
        "SQL databases: `binding`, `database_name`, `database_id`, `migrations_dir`, `migrations_table`; `writes_when_cut_off` (refuse): \"refuse\" or \"queue\", `queue_wait` (20s)",
    ),
    read(
        "read_your_writes",
        true,
        "true",
        "boolean: clients carry what they wrote, so that no point of presence answers from before it",
    ),
    read("assets", true, "none", "static files, see below"),
    read("rules", true, "[]", "module kinds by file name: `type`, `globs`, `fallthrough`"),
    read("define", false, "{}", "identifiers replaced by JavaScript expressions"),
    read("alias", true, "{}", "module names replaced by others"),
    read("minify", true, "false", "boolean"),
    read("keep_names", true, "true", "boolean: keep `name` of functions and classes"),
    read("no_bundle", true, "false", "boolean: only transpile, every module stays its own"),
    read("triggers", true, "none", "`crons`: list of cron expressions"),
    read(
        "build",
        true,
        "none",
        "`command`, `cwd`, `watch_dir`, `timeout` (60s): runs before bundling",
    ),
    read("dev", true, "none", "`port`, `ip` of `verge dev`"),
    read("env", false, "{}", "named environments"),
    read("limits", true, "see below", "limits of the app, quantities with units"),
    read("hosts", false, "[]", "host names that lead to this app"),
    read(
        "egress",
        true,
        "none",
        "`allow`: list of `host:port` that the app may reach in `verge dev` although they are local",
    ),
    read("jsx_factory", true, "", "classic JSX factory"),
    read("jsx_fragment", true, "", "classic JSX fragment"),
    read("tsconfig", true, "tsconfig.json", "path"),
    ignored("$schema", ""),
    ignored("account_id", HOSTING),
    ignored("route", "use `hosts`"),
    ignored("routes", "use `hosts`"),
    ignored("workers_dev", HOSTING),
    ignored("preview_urls", HOSTING),
    ignored("observability", "logs and metrics are always on"),
    ignored("placement", HOSTING),
    ignored("logpush", HOSTING),
    ignored("send_metrics", "nothing is ever sent"),
    ignored("upload_source_maps", "source maps always belong to a deployment"),
    ignored("keep_vars", "a deployment holds all its variables"),
    ignored("find_additional_modules", "modules are found by their imports"),
    ignored("base_dir", "modules are found by their imports"),
    ignored("preserve_file_names", "module names are an inner matter"),
    ignored("legacy_env", "an environment is an app of its own"),
    ignored("usage_model", HOSTING),
    ignored("first_party_worker", HOSTING),
    ignored("zone_id", HOSTING),
    ignored("compliance_region", HOSTING),
    ignored("python_modules", HOSTING),
    ignored("cache", HOSTING),
    later("kv_namespaces", "Workers KV"),
    later("durable_objects", "Durable Objects"),
    later("migrations", "Durable Objects"),
    later("r2_buckets", "R2"),
    later("queues", "Queues"),
    later("hyperdrive", "Hyperdrive"),
    later("vectorize", "Vectorize"),
    later("ai", "Workers AI"),
    later("ai_search", "AI Search"),
    later("browser", "Browser Rendering"),
    later("workflows", "Workflows"),
    later("analytics_engine_datasets", "Analytics Engine"),
    later("dispatch_namespaces", "Workers for Platforms"),
    later("mtls_certificates", "mTLS certificates"),
    later("send_email", "Email"),
    later("tail_consumers", "Tail Workers"),
    later("streaming_tail_consumers", "Tail Workers"),
    later("pipelines", "Pipelines"),
    later("secrets_store_secrets", "Secrets Store"),
    later("secrets", "required secrets"),
    later("containers", "Containers"),
    later("cloudchamber", "Containers"),
    later("images", "Images"),
    later("media", "Media Transformations"),
    later("stream", "Stream"),
    later("version_metadata", "version metadata"),
    later("ratelimits", "rate limiting"),
    later("vpc_services", "VPC services"),
    later("vpc_networks", "VPC networks"),
    later("worker_loaders", "dynamic Worker loading"),
    later("unsafe_hello_world", "hello world"),
    later("logfwdr", "log forwarding"),
    refused("site", "Workers Sites is gone; use `assets`"),
    refused("unsafe", "bindings are only taken by their own keys"),
    refused("node_compat", "Node built-ins are always there; remove the key"),
    refused("pages_build_output_dir", "use `assets.directory`"),
    refused("wasm_modules", "import the `.wasm` file instead"),
    refused("text_blobs", "import the text file instead"),
    refused("data_blobs", "import the `.bin` file instead"),
    refused("type", "the kind of project is found by itself; remove the key"),
    refused("webpack_config", "bundle with `build.command` instead; remove the key"),
];

/// All keys at the top level, in the order of the documentation.
pub fn configuration_keys() -> &'static [KeyDoc] {
    TOP
}

pub const ASSETS: &[&str] =
    &["directory", "binding", "html_handling", "not_found_handling", "run_worker_first"];
pub const SERVICE: &[&str] =
    &["binding", "service", "entrypoint", "props", "environment", "remote"];
pub const DATABASE: &[&str] = &[
    "binding",
    "database_name",
    "database_id",
    "preview_database_id",
    "migrations_dir",
    "migrations_table",
    "migrations_pattern",
    "writes_when_cut_off",
    "queue_wait",
    "database_internal_env",
    "remote",
];
pub const RULE: &[&str] = &["type", "globs", "fallthrough"];
pub const TRIGGERS: &[&str] = &["crons"];
pub const BUILD: &[&str] = &["command", "cwd", "watch_dir", "timeout", "upload"];
pub const DEV: &[&str] = &[
    "port",
    "ip",
    "local_protocol",
    "upstream_protocol",
    "host",
    "inspector_port",
    "inspector_ip",
    "enable_containers",
    "container_engine",
    "generate_types",
];
pub const EGRESS: &[&str] = &["allow"];

/// The known key that is nearest to `given`, when one is near enough to be meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = given.to_lowercase().replace('-', "_");
    let known: Vec<&str> = known.into_iter().collect();
    if lower.len() >= 3
        && let Some(longer) = known.iter().find(|key| key.starts_with(&lower))
        && !known.contains(&given)
    {
        return Some(longer);
    }
    known
        .into_iter()
        .map(|key| (strsim::damerau_levenshtein(&lower, &key.to_lowercase()), key))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, key)| *distance <= (key.len().max(3) / 3).max(1))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_and_nonsense_has_none() {
        let keys = || TOP.iter().map(|k| k.key);
        assert_eq!(nearest("mian", keys()), Some("main"));
        assert_eq!(nearest("compatibility-date", keys()), Some("compatibility_date"));
        assert_eq!(nearest("wall", ["heap", "wall_time"]), Some("wall_time"));
        assert_eq!(nearest("kv_namespace", keys()), Some("kv_namespaces"));
        assert_eq!(nearest("xyzzy_plugh", keys()), None);
    }

    #[test]
    fn no_key_stands_twice() {
        let mut seen = std::collections::HashSet::new();
        assert!(TOP.iter().all(|k| seen.insert(k.key)));
    }
}
