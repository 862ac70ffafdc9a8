//! From the keys of one environment to an [`AppConfig`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use verge_types::{AppName, Binding, Limits, ModuleKind, ServiceTarget, Unit, parse_quantity};

use super::app::{
    AppConfig, BuildCommand, DEFAULT_BUILD_TIMEOUT, DEFAULT_COMPATIBILITY_DATE, DevSettings,
    ModuleRule,
};
use super::assets_key::read_assets;
use super::databases_key::read_databases;
use super::keys::{self, TOP, Use};
use super::reader::{Reader, entry};
use super::tree::{Entry, Node};

/// What an app without any configuration is.
pub fn defaults(root: &Path, name: AppName, environment: Option<&str>) -> AppConfig {
    AppConfig {
        name,
        environment: environment.map(str::to_owned),
        root: root.to_owned(),
        files: Vec::new(),
        main: None,
        compatibility_date: DEFAULT_COMPATIBILITY_DATE.into(),
        compatibility_flags: Vec::new(),
        limits: Limits::default(),
        bindings: BTreeMap::new(),
        dev_vars: BTreeMap::new(),
        databases: Vec::new(),
        read_your_writes: true,
        crons: Vec::new(),
        assets: None,
        rules: Vec::new(),
        define: BTreeMap::new(),
        alias: BTreeMap::new(),
        minify: false,
        keep_names: true,
        no_bundle: false,
        build: None,
        build_timeout: DEFAULT_BUILD_TIMEOUT,
        dev: DevSettings::default(),
        hosts: Vec::new(),
        egress_allow: Vec::new(),
        jsx_factory: None,
        jsx_fragment: None,
        tsconfig: None,
        guesses: Vec::new(),
        warnings: Vec::new(),
    }
}

/// Refuses keys that nobody knows and services that are not there; warns of those without effect.
pub fn check_keys(reader: &mut Reader<'_>, path: &str, entries: &[Entry]) {
    for e in entries {
        let shown = if path.is_empty() { e.key.clone() } else { format!("{path}.{}", e.key) };
        match TOP.iter().find(|doc| doc.key == e.key).map(|doc| doc.usage) {
            None => reader.unknown(path, e, TOP.iter().map(|doc| doc.key)),
            Some(Use::Read) if e.key == "env" && !path.is_empty() => {
                reader.error(&e.key_span, "an environment cannot have environments");
            }
            Some(Use::Read) | Some(Use::Ignored("")) => {}
            Some(Use::Ignored(why)) => {
                reader.ignored.push(format!("`{shown}` ({why})"));
            }
            Some(Use::Later(_)) if e.node.is_empty() => {}
            Some(Use::Later(service)) => reader.error(
                &e.key_span,
                format!("`{shown}`: {service} is not in this version of Verge; remove the key"),
            ),
            Some(Use::Refused(instead)) => {
                reader.error(&e.key_span, format!("`{shown}` is not supported: {instead}"));
            }
        }
    }
}

/// Reads what `entries` say into `config`.
pub fn read_into(reader: &mut Reader<'_>, entries: &[&Entry], config: &mut AppConfig) {
    for e in entries {
        let (key, node) = (e.key.as_str(), &e.node);
        match key {
            "name" => {
                if let Some(text) = reader.string(key, node) {
                    match text.parse() {
                        Ok(name) => config.name = name,
                        Err(error) => reader.error(&node.span, format!("`name`: {error}")),
                    }
                }
            }
            "main" => config.main = read_main(reader, node, &config.root),
            "compatibility_date" => {
                if let Some(date) = reader.string(key, node) {
                    if !is_date(&date) {
                        let message = format!("`{key}`: \"{date}\" is no date like \"2026-11-24\"");
                        reader.error(&node.span, message);
                    }
                    config.compatibility_date = date;
                }
            }
            "compatibility_flags" => config.compatibility_flags = reader.strings(key, node),
            "vars" => {
                for var in reader.object(key, node) {
                    let value = var.node.to_json();
                    bind(reader, config, var, &var.key, Binding::Var { value });
                }
            }
            "services" => read_services(reader, node, config),
            "d1_databases" => read_databases(reader, node, config),
            "assets" => {
                if let Some((assets, binding)) = read_assets(reader, node, &config.root) {
                    config.assets = Some(assets);
                    if let Some(name) = binding {
                        bind(reader, config, e, &name, Binding::Assets);
                    }
                }
            }
            "rules" => config.rules = read_rules(reader, node),
            "define" => config.define = reader.string_map(key, node),
            "alias" => config.alias = reader.string_map(key, node),
            "read_your_writes" => {
                config.read_your_writes = reader.boolean(key, node).unwrap_or(true);
            }
            "minify" => config.minify = reader.boolean(key, node).unwrap_or_default(),
            "keep_names" => config.keep_names = reader.boolean(key, node).unwrap_or(true),
            "no_bundle" => config.no_bundle = reader.boolean(key, node).unwrap_or_default(),
            "triggers" => {
                for trigger in reader.record(key, node, keys::TRIGGERS) {
                    if trigger.key == "crons" {
                        config.crons = read_crons(reader, &trigger.node);
                    }
                }
            }
            "build" => read_build(reader, node, config),
            "dev" => read_dev(reader, node, config),
            "limits" => config.limits = read_limits(reader, node),
            "hosts" => config.hosts = read_hosts(reader, node),
            "egress" => {
                for egress in reader.record(key, node, keys::EGRESS) {
                    if egress.key == "allow" {
                        config.egress_allow = read_egress(reader, &egress.node);
                    }
                }
            }
            "jsx_factory" => config.jsx_factory = reader.non_empty(key, node),
            "jsx_fragment" => config.jsx_fragment = reader.non_empty(key, node),
            "tsconfig" => {
                config.tsconfig = existing(reader, key, node, &config.root, Path::is_file);
            }
            // Judged by `check_keys`.
            _ => {}
        }
    }
}

pub fn bind(reader: &mut Reader<'_>, config: &mut AppConfig, at: &Entry, name: &str, to: Binding) {
    if !is_identifier(name) {
        let message = format!("`{name}` is no name for a binding: use letters, digits and `_`");
        reader.error(&at.key_span, message);
    } else if config.bindings.insert(name.to_owned(), to).is_some() {
        reader.error(&at.key_span, format!("two bindings have the name `{name}`"));
    }
}

fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == '$')
        && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '$')
        && name != "__proto__"
}

fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |range: std::ops::Range<usize>| {
        text.get(range)
            .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|t| t.parse::<u32>().ok())
    };
    bytes.len() == 10
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && number(0..4).is_some_and(|year| year >= 2020)
        && number(5..7).is_some_and(|month| (1..=12).contains(&month))
        && number(8..10).is_some_and(|day| (1..=31).contains(&day))
}

fn read_main(reader: &mut Reader<'_>, node: &Node, root: &Path) -> Option<PathBuf> {
    let text = reader.non_empty("main", node)?;
    let path = crate::paths::join(root, Path::new(&text));
    if path.is_file() {
        return Some(path);
    }
    // A build command may be what makes the file, so its absence is told when building.
    Some(path)
}

/// A path relative to the configuration that must be there.
pub fn existing(
    reader: &mut Reader<'_>,
    key: &str,
    node: &Node,
    root: &Path,
    is_there: fn(&Path) -> bool,
) -> Option<PathBuf> {
    let text = reader.non_empty(key, node)?;
    let path = crate::paths::join(root, Path::new(&text));
    if is_there(&path) {
        return Some(path);
    }
    reader.error(&node.span, format!("`{key}`: there is no `{text}`"));
    None
}

fn read_services(reader: &mut Reader<'_>, node: &Node, config: &mut AppConfig) {
    for (index, item) in reader.list("services", node).iter().enumerate() {
        let path = format!("services[{index}]");
        let entries = reader.record(&path, item, keys::SERVICE);
        let mut target =
            ServiceTarget { service: String::new(), entrypoint: None, props: Default::default() };
        let mut name = None;
        for e in entries {
            let at = format!("{path}.{}", e.key);
            match e.key.as_str() {
                "binding" => name = reader.non_empty(&at, &e.node).map(|n| (n, e)),
                "service" => {
                    target.service = reader.non_empty(&at, &e.node).unwrap_or_default();
                    if let Err(error) = target.service.parse::<AppName>()
                        && !target.service.is_empty()
                    {
                        reader.error(&e.node.span, format!("`{at}`: {error}"));
                    }
                }
                "entrypoint" => target.entrypoint = reader.non_empty(&at, &e.node),
                "props" => {
                    reader.object(&at, &e.node);
                    target.props = e.node.to_json();
                }
                "environment" => {
                    if let Some(env) = reader.non_empty(&at, &e.node) {
                        target.service = format!("{}-{env}", target.service);
                    }
                }
                "remote" if reader.boolean(&at, &e.node) == Some(true) => {
                    let message = format!("`{at}`: remote bindings are not supported");
                    reader.error(&e.node.span, message);
                }
                _ => {}
            }
        }
        for needed in ["binding", "service"] {
            if entry(entries, needed).is_none() {
                reader.error(&item.span, format!("`{path}` needs `{needed}`"));
            }
        }
        if let Some((name, e)) = name {
            bind(reader, config, e, &name, Binding::Service(target));
        }
    }
}

fn read_rules(reader: &mut Reader<'_>, node: &Node) -> Vec<ModuleRule> {
    const KINDS: &[(&str, Option<ModuleKind>)] = &[
        ("ESModule", Some(ModuleKind::Esm)),
        ("CommonJS", Some(ModuleKind::Esm)),
        ("Text", Some(ModuleKind::Text)),
        ("Data", Some(ModuleKind::Data)),
        ("CompiledWasm", Some(ModuleKind::Wasm)),
        ("PythonModule", None),
        ("PythonRequirement", None),
    ];
    let mut rules = Vec::new();
    for (index, item) in reader.list("rules", node).iter().enumerate() {
        let path = format!("rules[{index}]");
        let mut kind = None;
        let mut extensions = Vec::new();
        let entries = reader.record(&path, item, keys::RULE);
        for e in entries {
            let at = format!("{path}.{}", e.key);
            match e.key.as_str() {
                "type" => match reader.one_of(&at, &e.node, KINDS) {
                    Some(None) => {
                        reader.error(&e.node.span, format!("`{at}`: Python is not supported"));
                    }
                    found => kind = found.flatten(),
                },
                "globs" => {
                    for glob in reader.list(&at, &e.node) {
                        let Some(text) = reader.non_empty(&at, glob) else { continue };
                        match extension_of(&text) {
                            Some(extension) => extensions.push(extension),
                            None => reader.error(
                                &glob.span,
                                format!(
                                    "`{at}`: \"{text}\": only globs like \"**/*.txt\" are supported"
                                ),
                            ),
                        }
                    }
                }
                "fallthrough" => {
                    reader.boolean(&at, &e.node);
                }
                _ => {}
            }
        }
        for needed in ["type", "globs"] {
            if entry(entries, needed).is_none() {
                reader.error(&item.span, format!("`{path}` needs `{needed}`"));
            }
        }
        if let Some(kind) = kind {
            rules.push(ModuleRule { kind, extensions });
        }
    }
    rules
}

/// `**/*.txt` and `*.wasm?module` are rules for an extension.
fn extension_of(glob: &str) -> Option<String> {
    let name = glob.strip_prefix("**/").unwrap_or(glob).strip_prefix("*.")?;
    let name = name.strip_suffix("?module").unwrap_or(name);
    let plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    plain.then(|| name.to_lowercase())
}

fn read_crons(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut crons = Vec::new();
    for item in reader.list("triggers.crons", node) {
        let Some(text) = reader.non_empty("triggers.crons", item) else { continue };
        let fields = text.split_whitespace().count();
        let allowed = |c: char| c.is_ascii_alphanumeric() || " \t*,-/#?".contains(c);
        if fields != 5 || !text.chars().all(allowed) {
            let message = format!(
                "`triggers.crons`: \"{text}\" is no cron expression of five fields like \"*/5 * * * *\""
            );
            reader.error(&item.span, message);
        }
        crons.push(text);
    }
    crons
}

fn read_build(reader: &mut Reader<'_>, node: &Node, config: &mut AppConfig) {
    let mut build =
        BuildCommand { command: None, cwd: config.root.clone(), watch_dirs: Vec::new() };
    for e in reader.record("build", node, keys::BUILD) {
        let at = format!("build.{}", e.key);
        match e.key.as_str() {
            "command" => build.command = reader.non_empty(&at, &e.node),
            "cwd" => {
                if let Some(dir) = existing(reader, &at, &e.node, &config.root, Path::is_dir) {
                    build.cwd = dir;
                }
            }
            "watch_dir" => {
                let dirs = match &e.node.value {
                    super::tree::Value::Array(_) => reader.strings(&at, &e.node),
                    _ => reader.non_empty(&at, &e.node).into_iter().collect(),
                };
                build.watch_dirs =
                    dirs.iter().map(|d| crate::paths::join(&config.root, Path::new(d))).collect();
            }
            "timeout" => {
                let Some(text) = reader.quantity(&at, &e.node) else { continue };
                match parse_quantity(&text, Unit::Milliseconds) {
                    Some(ms) if (100..=3_600_000).contains(&ms) => {
                        config.build_timeout = Duration::from_millis(ms);
                    }
                    _ => {
                        let message = format!(
                            "`{at}`: `{text}` is not understood; write \"100ms\" to \"1h\""
                        );
                        reader.error(&e.node.span, message);
                    }
                }
            }
            "upload" => reader.error(&e.key_span, "`build.upload` is gone; use `main` and `rules`"),
            _ => {}
        }
    }
    config.build = Some(build);
}

fn read_dev(reader: &mut Reader<'_>, node: &Node, config: &mut AppConfig) {
    for e in reader.record("dev", node, keys::DEV) {
        let at = format!("dev.{}", e.key);
        match e.key.as_str() {
            "port" => {
                let port = reader.quantity(&at, &e.node).map(|text| text.parse::<u16>());
                match port {
                    Some(Ok(port)) => config.dev.port = Some(port),
                    Some(Err(_)) => reader.error(&e.node.span, format!("`{at}` takes 0 to 65535")),
                    None => {}
                }
            }
            "ip" => {
                let Some(ip) = reader.non_empty(&at, &e.node) else { continue };
                if ip != "localhost" && ip != "*" && ip.parse::<std::net::IpAddr>().is_err() {
                    reader.error(&e.node.span, format!("`{at}`: \"{ip}\" is no IP address"));
                }
                config.dev.ip = Some(ip);
            }
            key if keys::DEV.contains(&key) => {
                reader.warn(format!("`{at}` has no effect here: `verge dev` does without it"));
            }
            _ => {}
        }
    }
}

fn read_limits(reader: &mut Reader<'_>, node: &Node) -> Limits {
    let mut limits = Limits::default();
    let known: Vec<&str> =
        verge_types::Limit::ALL.iter().map(|l| l.spec().key).chain(["cpu_ms"]).collect();
    for e in reader.record("limits", node, &known) {
        let at = format!("limits.{}", e.key);
        if !known.contains(&e.key.as_str()) {
            continue;
        }
        let Some(text) = reader.quantity(&at, &e.node) else { continue };
        // wrangler's spelling of `cpu_time`.
        let key = if e.key == "cpu_ms" { "cpu_time" } else { &e.key };
        if let Err(error) = limits.set_key(key, &text) {
            let message = error.to_string().replace(&format!("`limits.{key}`"), &format!("`{at}`"));
            reader.error(&e.node.span, message);
        }
    }
    limits
}

fn read_hosts(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut hosts = Vec::new();
    for item in reader.list("hosts", node) {
        let Some(host) = reader.non_empty("hosts", item) else { continue };
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let label = |l: &str| {
            !l.is_empty()
                && l.len() <= 63
                && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            let message = format!("`hosts`: \"{host}\" is no host name (without scheme and port)");
            reader.error(&item.span, message);
        }
        hosts.push(host.to_ascii_lowercase());
    }
    hosts
}

fn read_egress(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut allowed = Vec::new();
    for item in reader.list("egress.allow", node) {
        let Some(text) = reader.non_empty("egress.allow", item) else { continue };
        let good = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains(['/', '@', ' '])
                && port.parse::<u16>().is_ok_and(|p| p > 0)
        });
        if !good {
            let message =
                format!("`egress.allow`: \"{text}\" is not host:port like \"localhost:5432\"");
            reader.error(&item.span, message);
        }
        allowed.push(text);
    }
    allowed
}
