//! `verge link`: the links between the points of presence of a `verge dev` that runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::failure::Failure;
use crate::running::{Condition, LinkState, Order, Running};
use crate::terminal::{Style, Terminal};

/// Cut, slow and heal the links of a running `verge dev --pops`.
///
/// Acts on the verge dev of the app in this folder, or of the only one that runs; --data names
/// another. The links are as slow as the cities are far apart until you change them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  verge link list                          every link, and what is not as at the start
  verge link cut fra nrt                   nothing passes between the two
  verge link slow fra nrt --rtt 800ms      a round trip takes 800 ms
  verge link slow fra nrt --loss 5% --jitter 30ms --bandwidth 256kB/s
                                           a bad phone network
  verge link heal fra nrt                  as at the start
  verge link heal                          all of them")]
pub struct Link {
    #[command(subcommand)]
    command: LinkCommand,
    /// Data folder of the verge dev that is meant
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum LinkCommand {
    /// Show every link
    List,
    /// Let nothing pass between two points of presence
    Cut {
        #[arg(value_name = "POP")]
        a: String,
        #[arg(value_name = "POP")]
        b: String,
        /// Only what the first sends is lost
        #[arg(long)]
        one_way: bool,
    },
    /// Make a link slow, lossy or narrow; what is not named stays as it is
    #[command(arg_required_else_help = true)]
    Slow {
        #[arg(value_name = "POP")]
        a: String,
        #[arg(value_name = "POP")]
        b: String,
        /// Round trip: 800ms, 2s
        #[arg(long, value_name = "TIME", value_parser = time)]
        rtt: Option<Duration>,
        /// Each way takes up to this much longer
        #[arg(long, value_name = "TIME", value_parser = time)]
        jitter: Option<Duration>,
        /// Share of packets that are lost: 5%, 0.05
        #[arg(long, value_name = "SHARE", value_parser = share)]
        loss: Option<f64>,
        /// What passes in a second: 56kB/s, 10Mbit/s
        #[arg(long, value_name = "RATE", value_parser = rate)]
        bandwidth: Option<u64>,
    },
    /// Put a link, or all of them, back to how they were at the start
    Heal {
        #[arg(value_name = "POP", requires = "b")]
        a: Option<String>,
        #[arg(value_name = "POP")]
        b: Option<String>,
    },
}

pub fn run(args: Link, terminal: &Terminal) -> Result<(), Failure> {
    let order = match args.command {
        LinkCommand::List => Order::Links,
        LinkCommand::Cut { a, b, one_way } => Order::Cut { a, b, one_way },
        LinkCommand::Slow { a, b, rtt, jitter, loss, bandwidth } => {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let condition = Condition {
                rtt_us: rtt.map(micros),
                jitter_us: jitter.map(micros),
                loss,
                bandwidth,
            };
            if condition == Condition::default() {
                let message = "verge link slow: say how: --rtt, --jitter, --loss or --bandwidth";
                let failure = Failure::new("usage", message);
                return Err(Failure { exit: 2, ..failure }.hint("--rtt 800ms, for one"));
            }
            Order::Slow { a, b, condition }
        }
        LinkCommand::Heal { a, b } => Order::Heal { pair: a.zip(b) },
    };
    let links: Vec<LinkState> = Running::find(args.data.as_deref())?.ask(&order)?;
    if terminal.is_json() {
        terminal.result(&json!({ "links": links }));
        return Ok(());
    }
    for link in &links {
        terminal.print(&line(link, terminal));
    }
    Ok(())
}

/// `fra - nrt  800ms  (228ms at the start)`.
fn line(link: &LinkState, terminal: &Terminal) -> String {
    let text = link.describe();
    let style = match (link.cut || link.cut_from.is_some(), link.is_normal()) {
        (true, _) => Style::Bad,
        (false, true) => Style::Good,
        (false, false) => Style::Warn,
    };
    let mut line = format!("{} - {}  {}", link.a, link.b, terminal.paint(style, &text));
    if !link.is_normal() {
        let start = format!("  ({}ms at the start)", link.normal_rtt_ms.round());
        line.push_str(&terminal.paint(Style::Faint, &start));
    }
    if link.cut && link.connected {
        line.push_str(&terminal.paint(Style::Faint, "  (not noticed yet)"));
    } else if !link.cut && !link.connected {
        line.push_str(&terminal.paint(Style::Faint, "  (not connected yet)"));
    }
    line
}

/// A number and what follows it.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%' || c == '/');
    let value = digits.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)?;
    Some((value, &text[digits.len()..]))
}

fn time(text: &str) -> Result<Duration, String> {
    let longest = verge_fabric::cities::MAX_ROUND_TRIP;
    let seconds = match quantity(text) {
        Some((value, "ms")) => value / 1e3,
        Some((value, "s")) => value,
        Some((value, "us")) => value / 1e6,
        _ => return Err("write it with its unit: 800ms, 2s".to_owned()),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| *time <= longest)
        .ok_or_else(|| format!("at most {} s", longest.as_secs()))
}

fn share(text: &str) -> Result<f64, String> {
    let share = match quantity(text) {
        Some((value, "%")) => value / 100.0,
        Some((value, "")) => value,
        _ => return Err("write it like 5% or 0.05".to_owned()),
    };
    if share <= 1.0 { Ok(share) } else { Err("more than all cannot be lost".to_owned()) }
}

/// Bytes a second.
fn rate(text: &str) -> Result<u64, String> {
    let scale = match quantity(text).map(|(_, unit)| unit.trim_end_matches("/s")) {
        Some("B") => 1.0,
        Some("kB" | "KB") => 1e3,
        Some("MB") => 1e6,
        Some("kbit") => 125.0,
        Some("Mbit") => 125e3,
        _ => return Err("write it with its unit: 56kB/s, 10Mbit/s".to_owned()),
    };
    let bytes = quantity(text).map_or(0.0, |(value, _)| value * scale);
    if bytes >= 1.0 { Ok(bytes as u64) } else { Err("nothing would pass: cut the link".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        assert_eq!(time("800ms"), Ok(Duration::from_millis(800)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        for bad in ["800", "ms", "-1s", "2h", "61s", "NaNs", ""] {
            assert!(time(bad).is_err(), "{bad}");
        }
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.5"), Ok(0.5));
        assert!(share("120%").is_err() && share("5 %").is_err());
        assert_eq!(rate("56kB/s"), Ok(56_000));
        assert_eq!(rate("10Mbit/s"), Ok(1_250_000));
        assert_eq!(rate("100B"), Ok(100));
        assert!(rate("10").is_err() && rate("0B/s").is_err());
    }
}
