//! The table of databases and places below everything else on a terminal.

use verge_node::{DatasetStatus, Health, RoleName};

use super::live::{PopSeen, Seen, name};
use crate::terminal::{Style, Terminal};

/// Databases that are shown; the rest is counted.
const MOST: usize = 8;
/// Characters of a place's column, and of the databases' names.
const CELL: usize = 24;
const NAME: usize = 14;
/// Copies that may be older than this are painted.
const OLD_MS: u64 = 2_000;

/// The lines, with a prompt below.
pub fn lines(seen: &Seen, prompt: Vec<String>, terminal: Terminal) -> Vec<String> {
    let faint = |text: &str| terminal.paint(Style::Faint, text);
    let mut lines = vec![faint(&"-".repeat(NAME + CELL * seen.pops.len().min(3)))];
    let mut head = format!("{:NAME$}", "");
    for PopSeen { pop, databases } in &seen.pops {
        let text = if databases.is_some() { pop.clone() } else { format!("{pop} is down") };
        let style = if databases.is_some() { Style::Strong } else { Style::Bad };
        head.push_str(&cell(&text, style, terminal));
    }
    lines.push(head);
    let names = databases(seen);
    for database in names.iter().take(MOST) {
        let mut line = format!("{:NAME$}", shortened(database, NAME - 1));
        for pop in &seen.pops {
            let status = pop.databases.iter().flatten().find(|status| name(status) == database);
            let (mut text, style) = status.map_or((String::new(), Style::Faint), describe);
            if let Some(waiting) = status.map(|status| status.waiting).filter(|n| *n > 0) {
                text.push_str(&format!(" {waiting} wait"));
            }
            line.push_str(&cell(&text, style, terminal));
        }
        lines.push(line);
    }
    if names.len() > MOST {
        lines.push(faint(&format!("and {} more: verge pop list", names.len() - MOST)));
    }
    let touched: Vec<_> = seen
        .links
        .iter()
        .filter(|link| !link.is_normal())
        .map(|link| format!("{}-{} {}", link.a, link.b, link.describe()))
        .collect();
    if !touched.is_empty() {
        let text = terminal.paint(Style::Warn, &touched.join("; "));
        lines.push(format!("{:NAME$}{text}", "links"));
    }
    lines.extend(prompt);
    lines
}

/// All names, each once, in order.
fn databases(seen: &Seen) -> Vec<String> {
    let all = seen.pops.iter().flat_map(|pop| pop.databases.iter().flatten());
    let mut names: Vec<_> = all.map(|status| name(status).to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

fn cell(text: &str, style: Style, terminal: Terminal) -> String {
    let text = shortened(text, CELL - 1);
    let padding = " ".repeat(CELL - text.chars().count());
    format!("{}{padding}", terminal.paint(style, &text))
}

fn shortened(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['~']).collect()
}

/// `1/42 primary`, `1/40 lag 0.8s`.
fn describe(status: &DatasetStatus) -> (String, Style) {
    let at = format!("{}/{}", status.epoch, status.txid);
    match (status.health, status.role, status.lag_ms) {
        (Health::Failed, ..) => (format!("{at} failed"), Style::Bad),
        (Health::Quarantined, ..) => (format!("{at} set aside"), Style::Bad),
        (_, RoleName::Primary, _) => (format!("{at} primary"), Style::Good),
        (_, RoleName::Asleep, _) => (format!("{at} asleep"), Style::Faint),
        (_, RoleName::Replica, None) => (format!("{at} lag ?"), Style::Warn),
        (_, RoleName::Replica, Some(lag)) => {
            let style = if lag > OLD_MS { Style::Warn } else { Style::Accent };
            (format!("{at} lag {}", short(lag)), style)
        }
    }
}

/// `0.3s`, `12s`, `4m`: what changes with every look would not be read.
fn short(millis: u64) -> String {
    match millis {
        0..10_000 => format!("{:.1}s", millis as f64 / 1e3),
        10_000..120_000 => format!("{}s", millis / 1000),
        _ => format!("{}m", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names_are_short() {
        assert_eq!(
            [340, 9_960, 61_000, 240_000].map(short),
            ["0.3s", "10.0s", "61s", "4m"].map(str::to_owned)
        );
        assert_eq!(shortened("guestbook", 13), "guestbook");
        assert_eq!(shortened("a-rather-long-name", 13), "a-rather-lon~");
    }
}
