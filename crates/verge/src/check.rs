//! `verge check`: everything that can be known without serving.

use serde_json::{Value, json};
use verge_bundle::{BuildOptions, configuration_keys};
use verge_types::{Limit, Unit};

use crate::cli::Check;
use crate::failure::Failure;
use crate::package;
use crate::terminal::{Style, Terminal};

pub fn run(args: &Check, terminal: &Terminal) -> Result<(), Failure> {
    if args.limits {
        limits(terminal);
        return Ok(());
    }
    if args.keys {
        keys(terminal);
        return Ok(());
    }
    let (project, config) = package::open(&args.dir, args.env.as_deref())?;
    let options = BuildOptions { environment: args.env.clone(), ..BuildOptions::default() };
    let built = package::build(&project, &config, options, terminal)?;
    if terminal.is_json() {
        let mut value = package::summary(&config, &built);
        value["ok"] = true.into();
        terminal.result(&value);
    } else {
        terminal.note(&format!(
            "{} {}: {}",
            terminal.paint(Style::Good, "ok"),
            config.name,
            package::contents(&built),
        ));
    }
    Ok(())
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "bytes",
        Unit::Milliseconds => "ms",
        Unit::Count => "count",
    }
}

fn limits(terminal: &Terminal) {
    if terminal.is_json() {
        let list: Vec<Value> = Limit::ALL
            .iter()
            .map(|limit| {
                let spec = limit.spec();
                json!({
                    "key": format!("limits.{}", spec.key),
                    "code": spec.code,
                    "unit": unit(spec.unit),
                    "default": spec.default,
                    "min": spec.min,
                    "max": spec.max,
                    "status": spec.status,
                    "reason": spec.reason,
                })
            })
            .collect();
        terminal.result(&json!({ "limits": list }));
        return;
    }
    for limit in Limit::ALL {
        let spec = limit.spec();
        let of = |value| quantity(value, spec.unit);
        terminal.print(&format!(
            "{}  {}\n    from {} to {}; over it: {} {}\n    {}",
            terminal.paint(Style::Accent, &format!("limits.{:<20}", spec.key)),
            terminal.paint(Style::Strong, &of(spec.default)),
            of(spec.min),
            of(spec.max),
            spec.status,
            spec.code,
            terminal.paint(Style::Faint, spec.reason),
        ));
    }
}

/// As the configuration would have it written.
fn quantity(value: u64, unit: Unit) -> String {
    let steps: &[(u64, &str)] = match unit {
        Unit::Bytes => &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
        Unit::Milliseconds => &[(3_600_000, "h"), (60_000, "m"), (1_000, "s")],
        Unit::Count => &[],
    };
    let fitting = steps.iter().find(|(step, _)| value >= *step && value.is_multiple_of(*step));
    match (fitting, unit) {
        (Some((step, name)), _) => format!("{}{name}", value / step),
        (None, Unit::Bytes) => format!("{value}B"),
        (None, Unit::Milliseconds) => format!("{value}ms"),
        (None, Unit::Count) => value.to_string(),
    }
}

fn keys(terminal: &Terminal) {
    let documented = configuration_keys().iter().filter(|doc| !doc.holds.is_empty());
    if terminal.is_json() {
        let list: Vec<Value> = documented
            .map(|doc| {
                json!({
                    "key": doc.key,
                    "default": doc.default,
                    "holds": doc.holds,
                    "inherited": doc.inherited,
                })
            })
            .collect();
        terminal.result(&json!({ "keys": list }));
        return;
    }
    for doc in documented {
        let key = terminal.paint(Style::Accent, &format!("{:<22}", doc.key));
        let default = if doc.default.is_empty() { "none" } else { doc.default };
        let default = terminal.paint(Style::Faint, &format!("default: {default}"));
        terminal.print(&format!("{key} {}\n{:22} {default}", doc.holds, ""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_quantities_are_understood_by_the_configuration() {
        for limit in Limit::ALL {
            let spec = limit.spec();
            for value in [spec.default, spec.min, spec.max] {
                let text = quantity(value, spec.unit);
                assert_eq!(verge_types::parse_quantity(&text, spec.unit), Some(value), "{text}");
            }
        }
    }
}
