//! `env.<name>`: which keys a named environment takes from the top level.
//!
//! As wrangler has it: an inheritable key that the environment sets replaces the whole value; a
//! binding is never inherited.

use super::keys::{TOP, nearest};
use super::reader::{Reader, entry};
use super::tree::{Entry, Node};

/// The keys of one environment, its own first choice, with inherited ones added.
///
/// `None` when there is no such environment; the error is recorded.
pub fn effective<'n>(
    reader: &mut Reader<'_>,
    top: &'n [Entry],
    environment: &str,
    whole_file: &Node,
) -> Option<Vec<&'n Entry>> {
    let environments = entry(top, "env").map_or(&[][..], |e| e.node.entries());
    let Some(own) = entry(environments, environment) else {
        let mut message = format!("there is no environment `{environment}`");
        if let Some(near) = nearest(environment, environments.iter().map(|e| e.key.as_str())) {
            message.push_str(&format!("; did you mean `{near}`?"));
        } else if environments.is_empty() {
            message.push_str("; the file has no `env`");
        } else {
            let names: Vec<_> = environments.iter().map(|e| format!("`{}`", e.key)).collect();
            message.push_str(&format!("; there are {}", names.join(", ")));
        }
        let span = entry(top, "env").map_or(0..whole_file.span.end.min(1), |e| e.key_span.clone());
        reader.error(&span, message);
        return None;
    };
    let own = own.node.entries();
    let mut merged: Vec<&Entry> = own.iter().collect();
    for inherited in top {
        let Some(doc) = TOP.iter().find(|doc| doc.key == inherited.key) else { continue };
        if inherited.key == "env" || entry(own, &inherited.key).is_some() {
            continue;
        }
        if doc.inherited {
            merged.push(inherited);
        } else if !inherited.node.is_empty() {
            reader.warn(format!(
                "`{key}` stands at the top level but not in `env.{environment}`; it is not \
                 inherited, so the environment has none",
                key = inherited.key
            ));
        }
    }
    Some(merged)
}
